"""The ledger's operations by hand, through one connection to a real Postgres, at a business time that stands still.

What a test does not say is the plainest case: one borrower per request, an sms through the provider `p`, the stage
`d3` whose unknown messages wait; the unknown ones of the stage `due` are sent again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg
import pytest
from asyncpg.transaction import Transaction

from gateway import ids
from gateway.ledger import claims, freezes, intake, intend, outcomes, receipts, releases, subjects, timers, workers
from gateway.ledger.claims import Claimed
from gateway.ledger.commands import Letter, Origin, Request, Stop
from gateway.ledger.intend import Intended, Intent
from gateway.ledger.outcomes import Outcome, Recorded, Verdict
from gateway.ledger.receipts import Taken
from gateway.ledger.received import Stored
from gateway.ledger.standing import Move, Rules
from gateway.ledger.workers import Worker
from schemas.vocabulary import AttemptState, Disposition, Failure, Lane, Reason, Rejection

T = TypeVar("T")

START: Final = dt.datetime(2026, 11, 2, 9, tzinfo=dt.UTC)
HOUR: Final = dt.timedelta(hours=1)
TOPIC: Final = "reminders.requests"
WAITS, RESENDS = "d3", "due"
RULES: Final = Rules(
    default_receipt_window=dt.timedelta(minutes=10),
    backoff_base=dt.timedelta(seconds=30),
    max_tries=3,
    max_rescues=2,
    resend=frozenset({("p", RESENDS)}),
)
_TABLES: Final = (
    "subject, tombstone, paid_instalment, inbox, stage_key, reminder, live, ending, due, claim, timer, attempt,"
    " unsettled, provider_ref, decision, receipt, reply, parked, engagement, outbox, deadletter, intake_count,"
    ' intake_offset, worker, "freeze", frozen, volume, redrive, settlement, manual_count, borrower_fact, debt_fact,'
    " occurrence, revision, cadence_in_use, planned_count, fact_watermark, stale, merged, call_centre, replan"
)


@dataclass(frozen=True)
class Sending:
    """A reminder that was intended, and by whom."""

    request: Request
    worker: Worker
    claimed: Claimed
    attempt: int


class Hand:
    """One pair of hands.  Each method is one transaction."""

    def __init__(self, connection: Any, rules: Rules = RULES) -> None:
        self.connection = connection
        self.rules = rules
        self.now = START
        self.jitter = 1.0
        self._ids = ids.IdSource(63)
        self._offset = 0

    async def clear(self) -> None:
        """An empty ledger; what was written down about moves stays."""
        await self.connection.execute(f"truncate {_TABLES}")
        await self.connection.execute("insert into intake_offset values ($1, 0, 0, 0)", TOPIC)
        await self.connection.execute("update release_pace set next_at = '-infinity'")
        self._offset = 0

    async def tx(self, work: Callable[[Any], Awaitable[T]]) -> T:
        async with self.connection.transaction():
            return await work(self.connection)

    def later(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)

    def id(self, of: bytes | None = None) -> int:
        return self._ids.next(0 if of is None else ids.subject_bucket(of))

    # --- upstream -------------------------------------------------------------------------------------------------

    def request(self, ladder: str = "s", stage: str = WAITS, **changes: Any) -> Request:
        """A request nobody has read yet."""
        self._offset += 1
        name = changes.pop("borrower", f"borrower-{self._offset}")
        subject, debt = ids.subject_key("acme", name), changes.get("debt", "debt")
        values: dict[str, Any] = {
            "origin": Origin(TOPIC, 0, self._offset), "id": self.id(subject),
            "request_key": ids.request_key("core", f"request-{self._offset}"), "hash": b"hash",
            "stage_key": ids.stage_key("acme", name, debt, None, stage, ""), "subject": subject, "source": "core",
            "request_id": f"request-{self._offset}", "lender": "acme", "borrower": name, "debt": debt,
            "instalment": None, "product": None, "stage": stage, "step": "", "template": "repayment",
            "lane": Lane.BULK, "ladder": ladder, "send_at": self.now, "not_after": self.now + 2 * HOUR,
            "state_as_of": self.now, "sealed": b"sealed",
        }  # fmt: skip
        return Request(**(values | changes))

    async def read(self, *commands: Request | Stop | Letter) -> intake.Result:
        """Intake reads these."""
        following = {0: max(each.origin.offset for each in commands) + 1}
        return await self.tx(lambda c: intake.write(c, TOPIC, commands, following, self.now, self.rules))

    async def born(self, ladder: str = "s", stage: str = WAITS, **changes: Any) -> Request:
        request = self.request(ladder, stage, **changes)
        await self.read(request)
        return request

    def stop(self, request: Request, kind: str = "debt") -> Stop:
        self._offset += 1
        value = {"debt": request.debt, "borrower": "", "request": request.request_key.hex()}[kind]
        return Stop(
            Origin(TOPIC, 0, self._offset), self.id(), "core", request.subject, "acme", request.borrower, kind, value,
            self.now + HOUR, request.request_key if kind == "request" else None,
        )  # fmt: skip

    def unreadable(self, request: Request) -> Letter:
        """A stop for this borrower that could not be read."""
        self._offset += 1
        return Letter(
            Origin(TOPIC, 0, self._offset), self.id(), Rejection.UNREADABLE_STOP, self.now, b"", b"",
            holds=((request.subject, "acme", request.borrower),),
        )  # fmt: skip

    # --- workers --------------------------------------------------------------------------------------------------

    async def worker(self) -> Worker:
        return await self.tx(lambda c: workers.register(c, HOUR))

    async def lease_ends(self, worker: Worker) -> None:
        await self.connection.execute("update worker set lease_until = '-infinity' where id = $1", worker.id)

    async def claim(self, worker: Worker, limit: int = 100) -> list[Claimed]:
        """Everything that is due."""
        return await claims.claim(self.connection, worker.id, self.now, limit, limit, self.id())

    def intent(self, claimed: Claimed, provider: str = "p", address: bytes | None = None) -> Intent:
        return Intent(claimed, self.id(claimed.subject), provider, b"words", "{}", address)

    async def intend(self, worker: Worker, *intents: Intent) -> Intended:
        return await self.tx(lambda c: intend.intend(c, worker.id, intents, self.now, rules=self.rules))

    async def claimed(self, request: Request) -> tuple[Worker, Claimed]:
        """The request's reminder, claimed by a new worker."""
        worker = await self.worker()
        [mine] = [each for each in await self.claim(worker) if each.id == request.id]
        return worker, mine

    async def sent(self, request: Request, address: bytes | None = None) -> Sending:
        """The request's reminder, claimed and intended."""
        worker, claimed = await self.claimed(request)
        intent = self.intent(claimed, address=address)
        done = await self.intend(worker, intent)
        assert done.sendable == {intent.attempt}, done
        return Sending(request, worker, claimed, intent.attempt)

    async def sending(self, ladder: str = "s", stage: str = WAITS, **changes: Any) -> Sending:
        return await self.sent(await self.born(ladder, stage, **changes))

    async def record(self, sending: Sending, state: AttemptState, failure: Failure | None = None) -> Recorded:
        ref = f"ref-{sending.attempt}" if state is AttemptState.ACCEPTED else None
        subject = sending.request.subject
        outcome = Outcome(sending.attempt, sending.request.id, subject, "p", state, failure, "code", ref)
        return await self.tx(lambda c: outcomes.record(c, [outcome], self.now, self.rules, lambda: self.jitter))

    async def settle(self, worker: Worker, claimed: Claimed, **verdict: Any) -> list[Move]:
        """A verdict on what was claimed, by its fields."""
        made = Verdict(claimed.id, claimed.token, "rule", '{"a": 1}', **verdict)
        return await self.tx(lambda c: outcomes.settle(c, worker.id, [made], self.now, self.rules))

    async def rescue(self, worker: Worker) -> list[Move]:
        """Somebody finds this worker dead."""
        await self.lease_ends(worker)
        return await self.tx(lambda c: outcomes.rescue(c, worker.id, self.now, self.rules, lambda: self.jitter))

    async def give_back(self, worker: Worker, *forgotten: Claimed) -> list[Move]:
        tokens = {each.id: each.token for each in forgotten}
        return await self.tx(
            lambda c: outcomes.give_back(c, worker.id, tokens, self.now, self.rules, lambda: self.jitter)
        )

    # --- the rest of the world ------------------------------------------------------------------------------------

    async def receipt(self, sending: Sending, state: AttemptState, failure: Failure | None = None) -> Disposition:
        """The provider's word about an attempt."""
        id_ = self.id()
        stored = Stored(
            id=id_, provider="p", kind="receipt", code="c", received_at=self.now, replay=str(id_).encode(),
            attempt=sending.attempt, state=state, failure=failure,
        )  # fmt: skip

        async def take(connection: Any) -> Taken:
            return await receipts.take(connection, [stored], self.now, self.rules, lambda: self.jitter)

        [disposed] = (await self.tx(take)).disposed
        return disposed.disposition

    async def fire(self, after: dt.timedelta = dt.timedelta(0)) -> list[Move]:
        """Time passes, and the timers are looked at."""
        self.now += after
        return await self.tx(lambda c: timers.fire(c, self.now, self.rules))

    async def freeze(self, kind: str = "lender", value: str = "acme") -> bool:
        return await self.tx(lambda c: freezes.add(c, kind, value, reason="", author="", now=self.now))

    async def unfreeze(self, kind: str = "lender", value: str = "acme") -> bool:
        return await self.tx(lambda c: freezes.lift(c, kind, value, reason="", author="", now=self.now))

    async def release(self, after: dt.timedelta = dt.timedelta(0), limit: int = 200) -> list[Move]:
        """Time passes, and what no freeze holds any more gets its turn."""
        self.now += after
        return (await self.tx(lambda c: releases.release(c, self.now, self.rules, limit))).moves

    async def released(self, request: Request) -> bool:
        """Somebody has looked at the stop that could not be read."""

        async def lift(connection: Any) -> bool:
            await subjects.lock(connection, [request.subject])
            return await subjects.clear(connection, request.subject)

        return await self.tx(lift)

    # --- questions ------------------------------------------------------------------------------------------------

    async def value(self, sql: str, *args: Any) -> Any:
        return await self.connection.fetchval(sql, *args)

    async def state(self, request: Request) -> tuple[str, Reason | None]:
        """The reminder's state and reason, alive or ended."""
        row = await self.connection.fetchrow(
            "select state::text, reason from live where id = $1"
            " union all select state::text, reason from ending where reminder = $1", request.id,
        )  # fmt: skip
        return tuple(row)

    async def queue(self, request: Request) -> tuple[str, ...]:
        """The queues in which it stands: exactly one while it lives."""
        rows = await self.connection.fetch(
            "select 'due' from due where id = $1 union all select 'claim' from claim where id = $1"
            " union all select 'timer' from timer where id = $1", request.id,
        )  # fmt: skip
        return tuple(row[0] for row in rows)

    async def attempts(self, request: Request) -> list[str]:
        rows = await self.connection.fetch(
            "select state::text from attempt where reminder = $1 order by id", request.id
        )
        return [row[0] for row in rows]


@asynccontextmanager
async def hand(dsn: str, rules: Rules = RULES) -> AsyncIterator[Hand]:
    connection = await asyncpg.connect(dsn)
    try:
        made = Hand(connection, rules)
        await made.clear()
        yield made
    finally:
        await connection.close()


def lose_a_commit(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The next transaction commits, and the answer to that is lost.  What is returned is filled when that was."""
    leave, lost = Transaction.__aexit__, []

    async def loses(self: Any, kind: Any, error: Any, trace: Any) -> None:
        await leave(self, kind, error, trace)
        if kind is None and not self._nested and not lost:
            lost.append(True)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    monkeypatch.setattr(Transaction, "__aexit__", loses)
    return lost
