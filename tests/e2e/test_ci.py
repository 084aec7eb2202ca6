"""What CI runs is what `make test` runs, with every tool insisted on."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def without_go(**environ: str) -> dict[str, str]:
    """An environment in which neither Go nor Helm is there."""
    return {"PATH": "/nowhere", "HELM": "/nowhere/helm", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environ}


def charts_under(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e/test_helm.py", "-k", "lints"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def test_it_calls_make_test_and_insists_on_every_tool(tmp_path: Path) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "$(pwd) $* CI=$CI"\n')
    make.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name != "CI"}
    environ["PATH"] = f"{tmp_path}:{environ['PATH']}"
    done = subprocess.run([ROOT / ".ci" / "run"], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{ROOT} test CI=1\n"), done.stderr


def test_without_go_the_chart_is_skipped_at_home_and_fails_in_ci() -> None:
    at_home, in_ci = charts_under(without_go()), charts_under(without_go(CI="1"))
    assert (at_home.returncode, "skipped" in at_home.stdout) == (0, True)
    assert "Go is missing" in at_home.stdout
    assert in_ci.returncode == 1
    assert "skipped" not in in_ci.stdout
