"""Sealing anew on a real Postgres: everything once, nothing lost, whoever writes and whenever it is killed."""

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import yaml

from gateway.ids import IdSource
from gateway.ledger import reseal
from gateway.ledger.database import Database
from gateway.ledger.reseal import TABLES, Replacement, Table
from gateway.resealing import FIELDS, Resealing, Walked
from gateway.sealing import Sealer, key_id_of
from tests.stack.scene import until

ONE, TWO, INDEX = b"1" * 32, b"2" * 32, b"i" * 32
RECEIPT: Final = Table("receipt", "id", "id")
_INSERT: Final[Mapping[str, str]] = {
    "reminder": """insert into reminder (id, subject, source, request_id, lender, borrower, debt, stage, step,
        stage_key, template, lane, ladder, send_at, not_after, state_as_of, received_at, topic, partition, "offset",
        sealed) values ($1, 's', 'x', 'r', 'l', 'b', 'd', 'd3', '', 'k', 't', 'bulk', 's', now(), now(), now(), now(),
        't', 0, 0, $2)""",
    "decision": """insert into decision (reminder, attempt, at, verdict, rule, inputs, sealed)
        values ($1::bigint / 4, $1, now(), 'send', 'none', '{}', $2)""",
    "receipt": """insert into receipt (id, provider, kind, code, received_at, sealed)
        values ($1, 'p', 'receipt', 'c', now(), $2)""",
    "reply": "insert into reply (id, address, sealed) values ($1, 'a', $2)",
    "deadletter": """insert into deadletter (id, reason, topic, partition, "offset", hash, at, sealed)
        values ($1, 'not_json', 't', 0, $1, 'h', now(), $2)""",
}


@dataclass
class Ledger:
    """A ledger and the values that were sealed into it."""

    dsn: str
    database: Database
    connection: Any
    values: dict[tuple[str, int], bytes] = field(default_factory=dict)
    ids: IdSource = field(default_factory=lambda: IdSource(5))

    async def add(self, sealer: Sealer, table: str, n: int = 1, size: int = 20) -> list[int]:
        added = []
        for _ in range(n):
            row = self.ids.next(7)
            value = os.urandom(size)
            await self.connection.execute(_INSERT[table], row, sealer.seal(value, row, FIELDS[table]))
            self.values[table, row] = value
            added.append(row)
        return added

    async def opened(self, sealer: Sealer) -> dict[tuple[str, int], bytes]:
        """Every value there is, by table and row; it must open."""
        found = {}
        for table in TABLES:
            query = f"select {table.bound}, sealed from {table.name} where sealed is not null"
            for row, sealed in await self.connection.fetch(query):
                found[table.name, row] = sealer.open(sealed, row, FIELDS[table.name])
        return found

    async def versions(self) -> list[Any]:
        """Changes when any row is written."""
        return [await self.connection.fetch(f"select ctid, xmin from {each.name}") for each in TABLES]


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[Ledger]:
    opened = Database(database, size=2, statement_timeout_ms=10_000)
    await opened.open()
    connection = await asyncpg.connect(database)
    yield Ledger(database, opened, connection)
    connection.terminate()
    await opened.close()


def old() -> Sealer:
    return Sealer({1: ONE}, 1, INDEX)


def both() -> Sealer:
    return Sealer({1: ONE, 2: TWO}, 2, INDEX)


def new() -> Sealer:
    return Sealer({2: TWO}, 2, INDEX)


async def test_every_sealed_column_is_known(ledger: Ledger) -> None:
    rows = await ledger.connection.fetch(
        """select c.relname from pg_attribute a join pg_class c on c.oid = a.attrelid
           where a.attname = 'sealed' and c.relkind in ('r', 'p') and not c.relispartition
           and c.relnamespace = 'public'::regnamespace"""
    )
    assert {row[0] for row in rows} == {table.name for table in TABLES} == FIELDS.keys() == _INSERT.keys()


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
            _INSERT["decision"].replace("/ 4", "/ 7"), number, old().seal(value, number, "attempt")
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


class Command:
    """`reminder-gateway reseal` as a process, with a configuration of its own."""

    def __init__(self, dsn: str, home: Path) -> None:
        self.path = home / "gateway.yaml"
        self.environ = {**os.environ, "DSN": dsn, "INDEX": _text(INDEX), "ONE": _text(ONE), "TWO": _text(TWO)}
        self.tree: dict[str, Any] = {
            "mode": "simulate",
            "database": {"dsn": "env:DSN"},
            "kafka": {"bootstrap": "127.0.0.1:1"},
            "http": {"public_url": "https://us.example.com"},
            "sealing": {"keys": {1: "env:ONE", 2: "env:TWO"}, "current": 2, "index_key": "env:INDEX"},
            "lenders": {"acme": {"name": "Acme", "routes": {"push": "fcm"}}},
            "providers": {},
        }
        self.tree["lenders"]["acme"]["routes"] = {"sms": "twilio"}
        self.tree["providers"]["twilio"] = {
            "adapter": "twilio_sms",
            "settings": {
                "base_url": "http://127.0.0.1:9", "account_sid": "AC1", "auth_tokens": ["env:ONE"],
                "sender": "+15005550006",
            },
            "callback_tokens": ["env:TOKEN"],
        }  # fmt: skip
        self.environ["TOKEN"] = "t" * 32
        self.write()

    def write(self) -> None:
        self.path.write_text(yaml.safe_dump(self.tree))

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, "--config", str(self.path), env=self.environ,
            stdout=pipe, stderr=pipe,
        )  # fmt: skip

    async def run(self, *arguments: str) -> tuple[int, str]:
        process = await self.start(*arguments)
        out, err = await process.communicate()
        text = (out + err).decode()
        assert "Traceback" not in text, text
        assert not [each for each in (ONE, TWO, INDEX) if _text(each) in text]
        return process.returncode or 0, text


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


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


async def test_a_key_that_is_still_needed_must_not_go(ledger: Ledger, tmp_path: Path) -> None:
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


def test_what_is_found_is_counted() -> None:
    walked = Walked()
    walked.values.update([("reply", 1), ("receipt", 1), ("receipt", 2), ("receipt", None)])
    assert (walked.under(1), walked.under_others(2), walked.key_ids) == (2, 3, {1, 2, None})
    assert key_id_of(both().seal(b"", 1, "")) == 2
