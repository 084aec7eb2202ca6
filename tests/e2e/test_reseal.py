"""A sealing key is retired by the commands, as docs/rotating-keys.md says; one that is still needed is not let go."""

from pathlib import Path

from tests.integration.sealed_by_hand import Command, new, old, opened_ledger


async def test_a_key_that_is_still_needed_must_not_go(database: str, tmp_path: Path) -> None:
    async with opened_ledger(database) as ledger:
        command = Command(ledger.dsn, tmp_path)
        await ledger.add(old(), "reminder", 2)
        del command.tree["sealing"]["keys"][1]
        command.write()
        code, text = await command.run("check-config", "--ledger")
        assert (code, "sealing.keys.1: 2 values in the ledger need this key" in text) == (2, True), text
        code, text = await command.run("reseal")
        assert (code, "2 values under key 1 (not configured)" in text) == (1, True), text
        command.tree["sealing"]["keys"][1] = "env:ONE"
        command.write()
        assert (await command.run("reseal"))[0] == 0
        del command.tree["sealing"]["keys"][1]
        command.write()
        code, text = await command.run("check-config", "--ledger")
        assert (code, "every sealing key that the ledger needs is there" in text) == (0, True), text
        assert await ledger.opened(new()) == ledger.values
