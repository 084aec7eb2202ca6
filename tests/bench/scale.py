"""Does the ledger cost the same however much is scheduled in it?  `make bench ARGS="scale"`.

Two ledgers in one Postgres, one with ten thousand reminders, one with ten million, filled by SQL outside the timing.
The same work is done in both in turn, batch by batch, so that what disturbs one disturbs the other.  First with rows of
the large one that nobody has touched since they were written, as it is in life, and vacuum left to itself; of the small
one, which the processor holds in its caches, again and again the same.  Then with the same rows again in both.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from gateway import ids
from gateway.dispatch.head import Head
from gateway.ledger import claims, merging, workers
from gateway.ledger.claims import Claimed
from gateway.ledger.database import Database
from gateway.ledger.merging import Message, Waiting
from schemas.repayments import PAID
from tests.bench import plans
from tests.bench.fill import fill
from tests.bench.plans import TOPIC, Intake
from tests.stack.postgres import PostgresServer

T = TypeVar("T")

SMALL: Final = 10_000
DUE: Final = 4000  # claimed in a round
LIMIT: Final = 25  # rows of a claim
_TOLD: Final = 200  # borrowers with facts that can be opened, in each ledger
_LEASE: Final = dt.timedelta(hours=6)
# What a server of a ledger of this size would have.  It is not vacuumed for its first filling while it is measured.
SETTINGS: Final = {
    "shared_buffers": "3GB", "max_wal_size": "8GB", "maintenance_work_mem": "1GB", "wal_level": "minimal",
    "max_wal_senders": "0", "autovacuum_vacuum_insert_threshold": "-1",
}  # fmt: skip
_BACK: Final = """
with c as (delete from claim returning lane, due_at, id)
insert into due (lane, due_at, id) select lane, due_at, id from c
"""
_GO: Final = """
delete from due where (lane, due_at, id) in (
    select lane, due_at, id from due where lane = 'bulk' order by due_at, id limit $1)
"""


class Timings(Struct):
    """One round of one ledger: seconds of each batch, by what was done."""

    ledger: str
    claim: list[float] = []
    company: list[float] = []
    gather: list[float] = []
    fact: list[float] = []


class Ledger:
    """One of the two, with everything that works on it."""

    def __init__(self, name: str, database: Database, worker: workers.Worker) -> None:
        self.name = name
        self._database = database
        self._worker = worker
        self._ids = ids.IdSource(worker.number)
        self._head = Head()
        self._intake = Intake()
        self._offset = _TOLD
        self.found = Timings(name)

    async def tx(self, work: Callable[[Any], Awaitable[T]]) -> T:
        return await self._database.transaction(work)

    async def tell_plans(self) -> None:
        told = self._intake.decode([plans.record(number) for number in range(_TOLD)])
        await self.tx(lambda c: self._intake.write(c, told))

    async def _timed(self, into: list[float], work: Callable[[Any], Awaitable[T]]) -> T:
        start = time.perf_counter()
        result = await self.tx(work)
        into.append(time.perf_counter() - start)
        return result

    async def claim(self, now: dt.datetime) -> list[Claimed]:
        token = self._ids.next(0)
        begin = self._head.begin()
        found = await self._timed(
            self.found.claim, lambda c: claims.claim(c, self._worker.id, now, LIMIT, LIMIT, token, begin)
        )
        self._head.took(found, plenty=len(found) == LIMIT)
        return found

    async def merge(self, claimed: list[Claimed], now: dt.datetime) -> None:
        """Looks for company of what was claimed, and makes one message of the day of each; undone, to be made again."""
        until = now + dt.timedelta(days=30)
        days = {each.id: (each.subject, until) for each in claimed if each.occasion is not None}
        if not days:
            return
        await self._timed(self.found.company, lambda c: merging.company(c, days))
        subjects = {subject: until for subject, _ in days.values()}
        mine = {each.id: each.token for each in claimed}

        async def gather(connection: Any) -> None:
            undone = connection.transaction()
            await undone.start()
            start = time.perf_counter()
            await merging.gather(connection, subjects, mine, now, _message)
            self.found.gather.append(time.perf_counter() - start)
            await undone.rollback()

        await self.tx(gather)

    async def pay(self, number: int) -> None:
        """One fact of one borrower: a part of it is paid, so that everything that is planned is revised."""
        self._offset += 1
        data = {
            "lender": "harbour", "borrower_ref": f"borrower-{number}", "debt": f"loan-{number}", "instalment": 1,
            "outstanding": f"{50 + self._offset / 100:.2f}", "as_of": plans.NOW + dt.timedelta(seconds=self._offset),
        }  # fmt: skip
        record = plans.event(self._offset, PAID, data)
        told = self._intake.decode([record])
        result = await self._timed(self.found.fact, lambda c: self._intake.write(c, told))
        assert sum(each for (_, what), each in result.outcomes.items() if what == "command") == 1

    def measured(self) -> Timings:
        """What was measured since this was asked."""
        found, self.found = self.found, Timings(self.name)
        return found

    async def back(self) -> None:
        """Everything as it was, but for where in its table a row of the queue stands: all together."""
        self._head = Head()
        async with self._database.connection() as connection:
            await connection.execute(_BACK)
            await connection.execute("vacuum due")
            await connection.execute("vacuum claim")

    async def after(self, gone: int) -> list[float]:
        """Seconds of claims after so many have gone from the head of the queue without a vacuum; a look from its front
        is the first of them, and what is in memory of its head is forgotten.
        """
        async with self._database.connection() as connection:
            await connection.execute("alter table due set (autovacuum_enabled = off)")
            await connection.execute(_GO, gone, timeout=600)
            now = await connection.fetchval(
                "select due_at from due where lane = 'bulk' order by due_at offset $1 limit 1", 8 * LIMIT
            )
        self._head = Head()
        self.measured()
        for _ in range(8):
            await self.claim(now)
        async with self._database.connection() as connection:
            await connection.execute("alter table due reset (autovacuum_enabled)")
        return self.measured().claim


def _message(day: Any) -> Message | None:
    waiting: list[Waiting] = list(day)
    return Message(waiting[0].id, tuple(each.id for each in waiting[1:]), ())


async def opened(postgres: PostgresServer, size: int, due: int, console: Console) -> tuple[Ledger, Database, str]:
    name = await postgres.fresh_database()
    start = time.perf_counter()
    await fill(postgres.dsn(name), size, due)
    database = Database(postgres.dsn(name), size=1, statement_timeout_ms=600_000)
    await database.open()
    async with database.connection() as connection:
        worker = await workers.register(connection, _LEASE)
        await connection.execute(
            "insert into intake_offset (topic, partition, first, next) values ($1, 0, 0, 0)", TOPIC
        )
        bytes_ = await connection.fetchval("select pg_database_size(current_database())")
    ledger = Ledger(f"{size:,}", database, worker)
    await ledger.tell_plans()
    console.print(f"{size:,} reminders, {bytes_ / 2**30:.2f} GiB, filled in {time.perf_counter() - start:.0f} s")
    return ledger, database, name


async def show(size: int, rounds: int, console: Console) -> None:
    async with PostgresServer(durable=True, settings=SETTINGS) as postgres:
        small, one, _ = await opened(postgres, SMALL, DUE, console)
        large, other, _ = await opened(postgres, size, min(rounds * DUE, size), console)
        await postgres.execute("checkpoint")
        try:
            first = []
            for _ in range(rounds):
                first.append(await _round((small, large)))
                await small.back()
            _table(console, first, (small.name, large.name), "for the first time")
            await large.back()
            again = []
            for _ in range(rounds):
                again.append(await _round((small, large)))
                await asyncio.gather(small.back(), large.back())
            _table(console, again, (small.name, large.name), "again")
            if size >= 10 * SMALL:
                gone = size // 50
                seconds = await large.after(gone)
                console.print(
                    f"{large.name}: {gone:,} gone without a vacuum, then claims of "
                    f"{', '.join(f'{1000 * each:.1f}' for each in seconds)} ms"
                )
            console.print(
                msgspec.json.encode(
                    {"cpus": os.cpu_count(), "first": [*map(_summary, first)], "again": [*map(_summary, again)]}
                ).decode(),
                soft_wrap=True, markup=False, highlight=False,
            )  # fmt: skip
        finally:
            await asyncio.gather(one.close(), other.close())


async def _round(ledgers: tuple[Ledger, Ledger]) -> list[Timings]:
    """Every batch in both, and who begins changes."""
    now = plans.NOW
    for batch in range(DUE // LIMIT):
        for ledger in ledgers if batch % 2 else ledgers[::-1]:
            claimed = await ledger.claim(now)
            assert len(claimed) == LIMIT
            await ledger.merge(claimed, now)
            await ledger.pay(batch % _TOLD)
    return [each.measured() for each in ledgers]


def _p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[98]


_WHAT: Final = ("claim", "company", "gather", "fact")


def _summary(both: list[Timings]) -> dict[str, Any]:
    return {
        what: {
            "ms": [round(1000 * median(getattr(each, what)), 3) for each in both],
            "p99_ms": [round(1000 * _p99(getattr(each, what)), 3) for each in both],
            "rate": round(sum(getattr(both[0], what)) / sum(getattr(both[1], what)), 3),
            "median": round(median(getattr(both[0], what)) / median(getattr(both[1], what)), 3),
            "p99": round(_p99(getattr(both[1], what)) / _p99(getattr(both[0], what)), 3),
        }
        for what in _WHAT
    }


def _table(console: Console, found: list[list[Timings]], names: tuple[str, str], when: str) -> None:
    table = Table(title=f"{names[1]} scheduled against {names[0]}, {when}, each round", title_justify="left")
    for column in ("", f"median ms, {names[0]}", names[1], "rate", "by the median", "p99"):
        table.add_column(column, justify="right" if column else "left")
    summaries = [_summary(each) for each in found]
    for what in _WHAT:
        rows = [each[what] for each in summaries]
        cells = [
            [f"{row['ms'][0]:.2f}" for row in rows], [f"{row['ms'][1]:.2f}" for row in rows],
            *([f"{row[name]:.2f}" for row in rows] for name in ("rate", "median", "p99")),
        ]  # fmt: skip
        table.add_row(what, *(", ".join(cell) for cell in cells))
    console.print(table)
