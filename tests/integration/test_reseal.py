"""Sealing anew on a real Postgres: everything once, nothing lost, whoever writes and whenever it is killed."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from gateway.ledger import reseal
from gateway.ledger.reseal import TABLES, Replacement, Table
from gateway.resealing import FIELDS, Resealing, Walked
from gateway.sealing import Sealer, key_id_of
from tests.integration.sealed_by_hand import INDEX, INSERT, Command, Ledger, both, new, old, opened_ledger
from tests.stack.scene import until

RECEIPT: Final = Table("receipt", "id", "id")


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[Ledger]:
    async with opened_ledger(database) as opened:
        yield opened


async def test_every_sealed_column_is_known(ledger: Ledger) -> None:
    rows = await ledger.connection.fetch(
        """select c.relname from pg_attribute a join pg_class c on c.oid = a.attrelid
           where a.attname = 'sealed' and c.relkind in ('r', 'p') and not c.relispartition
           and c.relnamespace = 'public'::regnamespace"""
    )
    assert {row[0] for row in rows} == {table.name for table in TABLES} == FIELDS.keys() == INSERT.keys()


async def test_everything_is_sealed_anew_once(ledger: Ledger) -> None:
    """More rows than one look sees, of every table, large ones too; a second run finds nothing to write."""
    for table in FIELDS:
        await ledger.add(old(), table, 12)
        await ledger.add(both(), table, 3)
    await ledger.add(old(), "receipt", 2, size=3_000_000)
    await ledger.connection.execute(
        "insert into decision (reminder, at, verdict, rule, inputs) values (1, now(), 'hold', 'frozen', '{}')"
    )
    counted = await Resealing(ledger.database, both()).count()
    assert counted.values == {
        (name, key_id): n + (2 if (name, key_id) == ("receipt", 1) else 0)
        for name in FIELDS
        for key_id, n in ((1, 12), (2, 3))
    }
    resealed, walked = await Resealing(ledger.database, both()).run()
    assert resealed == {(name, 1): 14 if name == "receipt" else 12 for name in FIELDS}
    assert walked.under_others(2) == 0
    assert await ledger.opened(new()) == ledger.values
    before = await ledger.versions()
    resealed, walked = await Resealing(ledger.database, both()).run()
    assert (resealed.total(), walked.under(2)) == (0, len(ledger.values))
    assert await ledger.versions() == before


async def test_more_rows_than_one_look_sees(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours that share what the walk is ordered by first, as decisions of one reminder do, are all found."""
    monkeypatch.setattr("gateway.resealing._LOOK_ROWS", 3)
    monkeypatch.setattr("gateway.resealing._ROWS", 2)
    for number in range(20):
        value = os.urandom(9)
        await ledger.connection.execute(
            INSERT["decision"].replace("/ 4", "/ 7"), number, old().seal(value, number, "attempt")
        )
        ledger.values["decision", number] = value
    await ledger.add(old(), "reply", 10)
    resealed, _ = await Resealing(ledger.database, both()).run()
    assert resealed == {("decision", 1): 20, ("reply", 1): 10}
    assert await ledger.opened(new()) == ledger.values


async def test_what_changed_meanwhile_is_not_overwritten(ledger: Ledger) -> None:
    (row,) = await ledger.add(old(), "receipt")
    was = await ledger.connection.fetchval("select sealed from receipt")
    newer = old().seal(b"newer", row, "receipt")
    await ledger.connection.execute("update receipt set sealed = $1", newer)
    stale = Replacement((row, row), was, both().seal(b"stale", row, "receipt"))
    async with ledger.database.connection() as connection:
        assert await reseal.replace(connection, RECEIPT, [stale]) == 0
    assert await ledger.connection.fetchval("select sealed from receipt") == newer


async def test_who_holds_a_row_is_not_waited_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    held, _ = await ledger.add(old(), "receipt", 2)
    transaction = ledger.connection.transaction()
    await transaction.start()
    await ledger.connection.execute("update receipt set disposition = 'applied' where id = $1", held)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        """The second look has found nothing that it may have: the other one is done now."""
        slept.append(seconds)
        if len(slept) == 1:
            await transaction.commit()

    async with asyncio.timeout(5):
        resealed, walked = await Resealing(ledger.database, both(), sleep=sleep).run()
    assert (resealed.total(), walked.under_others(2), len(slept)) == (2, 0, 1)
    assert await ledger.connection.fetchval("select disposition from receipt where id = $1", held) == "applied"
    assert await ledger.opened(new()) == ledger.values


async def test_what_does_not_open_is_left_and_told(ledger: Ledger) -> None:
    await ledger.add(old(), "reply", 2)
    (moved,) = await ledger.add(old(), "receipt")
    await ledger.connection.execute("update receipt set id = id + 1")  # a value in another row
    await ledger.add(Sealer({9: b"9" * 32}, 9, INDEX), "deadletter")
    await ledger.connection.execute("insert into reply (id, address, sealed) values (1, 'a', 'nonsense')")
    before = await ledger.connection.fetchval("select sealed from receipt")
    resealed, walked = await Resealing(ledger.database, both(), sleep=_at_once).run()
    assert resealed == {("reply", 1): 2}
    assert walked.values == {("reply", 2): 2, ("reply", None): 1, ("receipt", 1): 1, ("deadletter", 9): 1}
    assert (walked.under_others(2), walked.examples["receipt"]) == (3, [moved + 1])
    assert await ledger.connection.fetchval("select sealed from receipt") == before


async def _at_once(seconds: float) -> None:
    """Nobody else is at work."""


async def test_so_many_rows_in_a_second(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.resealing._ROWS", 5)
    await ledger.add(old(), "reply", 20)
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    work = Resealing(ledger.database, both(), 10.0, sleep=sleep, monotonic=lambda: now)
    resealed, _ = await work.run()
    assert resealed.total() == 20
    assert now == pytest.approx(1.5)  # the first five go at once


# --- the command ------------------------------------------------------------------------------------------------------


async def test_killed_in_the_middle_and_run_again_while_rows_are_written(ledger: Ledger, tmp_path: Path) -> None:
    """The writer is a process that has not reloaded yet: it still seals with the former key, and settles receipts."""
    command = Command(ledger.dsn, tmp_path)
    for table in FIELDS:
        await ledger.add(old(), table, 120)
    total = len(ledger.values)
    writing = True

    async def write() -> None:
        while writing:
            await ledger.add(old(), "receipt")
            await ledger.add(both(), "reply")
            await ledger.connection.execute("update receipt set disposition = coalesce(disposition, '') || 'x'")
            await asyncio.sleep(0.01)

    other = await asyncpg.connect(ledger.dsn)

    async def done() -> int:
        count = 0
        for table in TABLES:
            query = f"select count(*) from {table.name} where get_byte(sealed, 4) = 2"
            count += await other.fetchval(query)
        return count

    async def some() -> bool:
        return await done() > 150

    writer = asyncio.create_task(write())
    try:
        process = await command.start("reseal", "--rows-per-second", "200")
        await until(some, "rows that were sealed anew", 15)
        process.kill()
        await process.communicate()
        assert process.returncode == -9
        assert await done() < total, "it was killed too late for anything to be left"
    finally:
        writing = False
        await writer
    code, text = await command.run("reseal", "--dry-run")
    assert (code, "values are not under key 2" in text) == (1, True)
    code, text = await command.run("reseal", "--rows-per-second", "0")
    assert (code, "everything is under key 2: the other keys may go" in text) == (0, True), text
    assert await ledger.opened(new()) == ledger.values
    await other.close()


def test_what_is_found_is_counted() -> None:
    walked = Walked()
    walked.values.update([("reply", 1), ("receipt", 1), ("receipt", 2), ("receipt", None)])
    assert (walked.under(1), walked.under_others(2), walked.key_ids) == (2, 3, {1, 2, None})
    assert key_id_of(both().seal(b"", 1, "")) == 2
