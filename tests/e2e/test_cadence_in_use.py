"""`check-config --ledger` says before a start what would keep it from starting: a cadence that running plans need."""

from pathlib import Path

import pytest

from gateway.cadence import loading
from tests.integration.sealed_by_hand import Command, opened_ledger

[DEFAULT] = loading.load().by_name["default"]


@pytest.mark.parametrize(
    ("kept", "edited", "says", "code"),
    [
        ("('default', 1, null)", False, "every cadence that running plans were made with is there", 0),
        ("('gone', 3, null)", False, "cadences_path: gone/3: running plans were made with it, and nobody has it", 2),
        ("('default', 1, $1)", True, "cadences_path: default/1: is not what its running plans were made with", 2),
        ("('gentle', 7, $1)", False, "cadences_path: ", 2),
    ],
)
async def test_what_running_plans_need(
    kept: str, edited: bool, says: str, code: int, database: str, tmp_path: Path
) -> None:
    async with opened_ledger(database) as ledger:
        command = Command(ledger.dsn, tmp_path)
        if edited:
            folder = tmp_path / "cadences" / "default"
            folder.mkdir(parents=True)
            text = (loading.PACKAGED / "default" / "1.yaml").read_text(encoding="utf-8")
            (folder / "1.yaml").write_text(text.replace("days: -3", "days: -2"), encoding="utf-8")
            command.tree["cadences_path"] = str(folder.parent)
            command.write()
        says_of_it = (loading.encode(DEFAULT) if edited else b'{"louder": true}',) if "$1" in kept else ()
        await ledger.connection.execute(f"insert into cadence_in_use values {kept}", *says_of_it)
        found, text = await command.run("check-config", "--ledger")
        assert (found, says in text) == (code, True), text
