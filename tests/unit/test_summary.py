"""What tests say at the end of a run is there however many processes the run has."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("processes", [0, 2])
def test_a_run_shows_what_its_tests_have_said(processes: int, tmp_path: Path) -> None:
    for name, passes in (("one", True), ("two", False)):
        said = f'def test_{name}(summary):\n    summary("what was seen", "seen by {name}")\n    assert {passes}\n'
        (tmp_path / f"test_{name}.py").write_text(said)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
         "--numprocesses", str(processes), "--dist=loadfile", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    _, _, told = ran.stdout.partition("what was seen =")
    assert sorted(line for line in told.splitlines() if line.startswith("seen by")) == ["seen by one", "seen by two"]
    assert "what was seen" not in told
