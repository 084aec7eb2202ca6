"""The simulator judges the adapters, so it shares nothing with them; and it keeps its secrets to itself."""

from __future__ import annotations

import ast
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import gateway.dev.simulator
from gateway.dev.simulator import Credentials, Simulator, SimulatorConfig, load_config

PACKAGE = Path(gateway.dev.simulator.__file__).parent
OURS = ("gateway", "providers", "schemas")


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports by a relative name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.name)
def test_it_imports_nothing_of_ours_but_itself(file: Path) -> None:
    ours = {name for name in imports(file) if name.split(".")[0] in OURS}
    assert {name for name in ours if not name.startswith("gateway.dev.simulator.")} == set()
    assert "importlib" not in imports(file)


def test_nothing_of_ours_is_loaded_with_it() -> None:
    code = (
        "import sys, gateway.dev.simulator.__main__\n"
        f"print(*sorted(m for m in sys.modules if m.split('.')[0] in {OURS}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert {m for m in loaded if not m.startswith("gateway.dev.simulator")} == {"gateway", "gateway.dev"}


def test_files_stay_small() -> None:
    assert {file.name for file in PACKAGE.rglob("*.py") if len(file.read_text().splitlines()) >= 200} == set()


def test_no_secret_is_in_a_repr(credentials: Credentials, tmp_path: Path) -> None:
    config = load_config(None, log=tmp_path / "l", receipts={"aliyun_url": "http://127.0.0.1/PATHTOKEN"})
    shown = f"{credentials!r} {credentials} {config!r} {vars(Simulator(config, credentials))!r}"
    hidden = {name: field for name, field in Credentials.model_fields.items() if not field.repr}
    assert len(hidden) == 5
    for name in hidden:
        assert getattr(credentials, name) not in shown
    assert "PATHTOKEN" not in shown


def test_credentials_are_fresh_saved_for_their_owner_and_never_overwritten(
    credentials: Credentials, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    credentials.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Credentials.load(file) == credentials
    assert Credentials.load_or_create(file) == credentials
    with pytest.raises(FileExistsError):
        credentials.save(file)
    other = Credentials.load_or_create(tmp_path / "other.json")
    assert other.twilio_auth_token != credentials.twilio_auth_token
    assert other.google_private_key != credentials.google_private_key


def test_a_broken_credentials_file_shows_no_value(credentials: Credentials, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(credentials.model_dump_json().replace('"twilio_account_sid"', '"account"'))
    with pytest.raises(ValidationError) as broken:
        Credentials.load(file)
    assert credentials.twilio_account_sid not in str(broken.value)


def test_urls_are_known_only_once_it_listens(credentials: Credentials, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        _ = Simulator(SimulatorConfig(log=tmp_path / "l"), credentials).urls
