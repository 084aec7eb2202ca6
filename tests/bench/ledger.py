"""The ledger alone: whole lives in groups of a given size, without HTTP and without Kafka.

`make bench ARGS="--only ledger"`.  What a life costs Postgres and Python when the
statements are all there is, and how that depends on the size of the groups.
"""

from __future__ import annotations

import datetime as dt
import os
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from gateway import ids
from gateway.ledger import intake, intend, outbox, outcomes, receipts, workers
from gateway.ledger.accept import Slots
from gateway.ledger.claims import Claimed
from gateway.ledger.commands import Origin, Request
from gateway.ledger.database import Database
from gateway.ledger.intend import Intent
from gateway.ledger.outcomes import Outcome
from gateway.ledger.received import Stored
from gateway.ledger.standing import Rules
from schemas.vocabulary import AttemptState, Lane
from tests.bench.measure import tree_seconds
from tests.stack.postgres import PostgresServer

TOPIC: Final = "reminders.requests"
_HOUR: Final = dt.timedelta(hours=1)
_SEALED: Final = os.urandom(300)


class Lives:
    """Drives groups of reminders from birth to delivery."""

    def __init__(self, database: Database, worker: workers.Worker) -> None:
        self._database = database
        self._worker = worker
        self._ids = ids.IdSource(worker.number)
        self._offset = 0
        self.seconds: dict[str, float] = {}

    async def live(self, n: int) -> None:
        """One group's whole life: born claimed, intended, recorded, a receipt stored and applied, three events."""
        now = dt.datetime.now(dt.UTC)
        token = self._ids.next(0)
        requests = [self._request(now) for _ in range(n)]
        following = {0: self._offset + 1}
        slots = Slots(self._worker.id, token, n)
        await self._time("intake", lambda c: intake.write(c, TOPIC, requests, following, now, Rules(), slots))
        claimed = [_claimed(each, token) for each in requests]
        intents = [self._intent(each) for each in claimed]
        done: Any = await self._time("intend", lambda c: intend.intend(c, self._worker.id, intents, now))
        assert len(done.sendable) == n
        results = [
            Outcome(
                each.attempt, each.claimed.id, each.claimed.subject, "twilio", AttemptState.ACCEPTED,
                ref=f"SM{each.attempt:032x}",
            )
            for each in intents
        ]  # fmt: skip
        await self._time("record", lambda c: outcomes.record(c, results, now, Rules(), lambda: 0.5))
        callbacks = [self._receipt(each, now) for each in intents]
        taken: Any = await self._time("receipts", lambda c: receipts.take(c, callbacks, now, Rules(), lambda: 0.5))
        assert len(taken.kept) == n
        await self._time("relay", self._relay)

    async def _relay(self, connection: Any) -> None:
        while events := await outbox.fetch(connection, 0, 255, 500):
            await outbox.delete(connection, events)

    async def _time(self, name: str, work: Callable[[Any], Awaitable[object]]) -> object:
        start = time.perf_counter()
        result = await self._database.transaction(work)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return result

    def _request(self, now: dt.datetime) -> Request:
        self._offset += 1
        number = self._offset
        subject = ids.subject_key("acme", f"borrower-{number}")
        return Request(
            origin=Origin(TOPIC, 0, number),
            id=self._ids.next(subject[0]),
            request_key=ids.request_key("loan-core", f"request-{number}"),
            hash=bytes(16),
            stage_key=ids.stage_key("acme", f"borrower-{number}", f"debt-{number}", None, "due", ""),
            subject=subject,
            source="loan-core",
            request_id=f"request-{number}",
            lender="acme",
            borrower=f"borrower-{number}",
            debt=f"debt-{number}",
            instalment=None,
            product=None,
            stage="due",
            step="",
            template="repayment",
            lane=Lane.BULK,
            ladder="s",
            send_at=now,
            not_after=now + _HOUR,
            state_as_of=now,
            sealed=_SEALED,
        )

    def _intent(self, claimed: Claimed) -> Intent:
        attempt = self._ids.next(claimed.id & 255)
        return Intent(claimed, attempt, "twilio", _SEALED, '{"template": "1"}')

    def _receipt(self, intent: Intent, now: dt.datetime) -> Stored:
        id_ = self._ids.next(intent.attempt & 255)
        return Stored(
            id=id_,
            provider="twilio",
            kind="receipt",
            code="delivered",
            received_at=now,
            replay=os.urandom(16),
            attempt=intent.attempt,
            ref=f"SM{intent.attempt:032x}",
            state=AttemptState.DELIVERED,
            sealed=_SEALED,
        )


def _claimed(each: Request, token: int) -> Claimed:
    return Claimed(
        each.id, each.subject, each.lender, each.source, each.request_id, each.product, each.stage, each.template,
        each.lane, each.ladder, 0, 0, 0, each.not_after, each.sealed, each.send_at, token,
    )  # fmt: skip


async def measure(postgres: PostgresServer, lives: int, group: int) -> tuple[float, float, dict[str, float]]:
    """CPU microseconds of Postgres and of Python for one life, and wall microseconds by step."""
    name = await postgres.fresh_database()
    database = Database(postgres.dsn(name), size=2, statement_timeout_ms=60_000)
    await database.open()
    try:
        async with database.connection() as connection:
            worker = await workers.register(connection, _HOUR)
            await connection.execute(
                "insert into intake_offset (topic, partition, first, next) values ($1, 0, 0, 0)", TOPIC
            )
        warm = Lives(database, worker)
        for _ in range(5):
            await warm.live(group)
        warm.seconds.clear()
        pid = postgres.process.pid
        before, cpu = tree_seconds(pid), _cpu()
        for _ in range(lives // group):
            await warm.live(group)
        n = lives // group * group
        used, own = tree_seconds(pid) - before, _cpu() - cpu
        return 1e6 * used / n, 1e6 * own / n, {step: 1e6 * seconds / n for step, seconds in warm.seconds.items()}
    finally:
        await database.close()
        await postgres.drop_database(name)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def show(postgres: PostgresServer, lives: int, groups: Sequence[int], console: Console) -> None:
    table = Table(title="the ledger alone, µs for each life", title_justify="left")
    for column in ("lives in a group", "Postgres CPU", "Python CPU", "wall by step"):
        table.add_column(column, justify="left" if column == "wall by step" else "right")
    for group in groups:
        used, own, steps = await measure(postgres, lives, group)
        table.add_row(str(group), f"{used:.0f}", f"{own:.0f}", "  ".join(f"{k} {v:.0f}" for k, v in steps.items()))
    console.print(table)
