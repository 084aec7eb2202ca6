"""Facts of one borrower beside everything else that concerns him: races by his lock, and a storm."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from gateway.cadence.facts import BorrowerFacts, DebtFacts
from gateway.ids import IdSource
from gateway.intake.planner import BORROWER_FIELD, DEBT_FIELD
from gateway.ledger import claims, intake, intend, outcomes, receipts
from gateway.ledger.commands import Command, Origin, Request, Told
from gateway.ledger.database import Database
from gateway.ledger.outcomes import Outcome
from gateway.ledger.received import Stored
from schemas.repayments import Fact
from schemas.repayments import Stop as Why
from schemas.vocabulary import AttemptState
from tests.integration.by_hand import TOPIC as REQUESTS
from tests.integration.plans_by_hand import SEALER, TOPIC, USUAL, Plans, everything, plans
from tests.integration.test_freeze_order import intends, others, waits_for_a_lock
from tests.integration.test_plan_stops import LATER, PAID, SUBJECT, asked, born
from tests.unit.cadence.facts import DUE, at, failed, moved, paid, planned, prefers, rescheduled, resumed, stopped

T = TypeVar("T")


def told(fact: Fact, id_: int, partition: int = 0, offset: int = 0) -> Told:
    return Told(Origin(TOPIC, partition, offset), id_, "/core", SUBJECT, "harbour", "b-1", fact=fact)


async def write(connection: Any, it: Plans, *commands: Command) -> intake.Result:
    """Intake's body, in a transaction that its caller ends."""
    topic, offset = commands[0].origin.topic, commands[-1].origin.offset
    return await intake.write(
        connection, topic, commands, {0: offset + 1}, it.hand.now, it.hand.rules, planner=it.planner
    )


@asynccontextmanager
async def race(dsn: str) -> AsyncIterator[tuple[Plans, Any, Any]]:
    async with plans(dsn) as it, others(dsn) as (one, other):
        it.hand.now = LATER
        yield it, one, other


# --- races ------------------------------------------------------------------------------------------------------------


async def test_an_intend_waits_for_the_payment_before_it(database: str) -> None:
    async with race(database) as (it, one, other):
        request = await born(it)
        worker, claimed = await it.hand.claimed(request)
        transaction = other.transaction()
        await transaction.start()
        await write(other, it, told(paid(LATER), it.ids.next(0)))
        intending = asyncio.create_task(intends(one, worker, it.hand.intent(claimed), it.hand))
        await waits_for_a_lock(it.hand, one)
        await transaction.commit()
        assert (await intending).sendable == frozenset()
        assert await it.hand.state(request) == PAID


async def test_a_payment_waits_for_the_intend_before_it_and_is_too_late(database: str) -> None:
    async with race(database) as (it, one, other):
        request = await born(it)
        worker, claimed = await it.hand.claimed(request)
        transaction = one.transaction()
        await transaction.start()
        intent = it.hand.intent(claimed)
        assert (await intend.intend(one, worker.id, [intent], it.hand.now)).sendable

        async def pays() -> None:
            async with other.transaction():
                await write(other, it, told(paid(LATER), it.ids.next(0)))

        paying = asyncio.create_task(pays())
        await waits_for_a_lock(it.hand, other)
        await transaction.commit()
        await paying
        assert await it.hand.state(request) == ("sending", None)
        assert await it.hand.value("select count(*) from outbox where payload like '%too_late%'::bytea") == 1


async def test_a_request_waits_for_the_payment_before_it(database: str) -> None:
    async with race(database) as (it, one, other):
        transaction = other.transaction()
        await transaction.start()
        await write(other, it, told(paid(LATER), it.ids.next(0)))
        request = asked(it)

        async def requests() -> None:
            async with one.transaction():
                await write(one, it, request)

        requesting = asyncio.create_task(requests())
        await waits_for_a_lock(it.hand, one)
        await transaction.commit()
        await requesting
        assert await it.hand.state(request) == PAID


async def test_a_payment_waits_for_the_request_before_it(database: str) -> None:
    async with race(database) as (it, one, other):
        transaction = one.transaction()
        await transaction.start()
        request = asked(it)
        await write(one, it, request)

        async def pays() -> None:
            async with other.transaction():
                await write(other, it, told(paid(LATER), it.ids.next(0)))

        paying = asyncio.create_task(pays())
        await waits_for_a_lock(it.hand, other)
        await transaction.commit()
        await paying
        assert await it.hand.state(request) == PAID


# --- a storm ----------------------------------------------------------------------------------------------------------

N: Final = 1200
NOW: Final = at("2026-11-26")
MINUTE: Final = dt.timedelta(minutes=1)
_LIMIT: Final = 50


def storm() -> list[Fact]:
    """So many facts of one borrower; the last of each kind leave him owing, reachable and not stopped."""
    facts: list[Fact] = [planned(DUE, dt.date(2027, 1, 10))]
    for n in range((N - 1) // 8 + 1):
        when = at("2026-11-21") + 8 * n * MINUTE
        facts += [
            paid(when, outstanding=f"{10 + n}.00"),
            stopped(when + MINUTE, Why.DISPUTED),
            rescheduled(DUE, dt.date(2027, 1, 10 + n % 3), as_of=when + 2 * MINUTE),
            paid(when + 3 * MINUTE, 2, outstanding="0" if n % 2 else "70.00"),
            resumed(when + 4 * MINUTE, Why.DISPUTED),
            moved(when + 5 * MINUTE),
            prefers(when + 6 * MINUTE, ("18:00", "19:00") if n % 2 else ("09:00", "20:00")),
            failed(when + 7 * MINUTE),
        ]
    return facts


class Storm:
    """Two processes' worth of pools.  A deadlock is counted: it would be mended by trying again, and is a defect."""

    def __init__(self, it: Plans, one: Database, other: Database) -> None:
        self.it = it
        self.pools = (one, other)
        self.deadlocks = 0
        self.asked: list[Request] = []
        self.taken: list[tuple[int, int]] = []  # attempt, reminder
        self.over = asyncio.Event()
        self.all_sent = asyncio.Event()
        self.waits = 0

    async def tx(self, pool: int, work: Callable[[Any], Awaitable[T]]) -> T:
        async def watched(connection: Any) -> T:
            try:
                return await work(connection)
            except asyncpg.DeadlockDetectedError:
                self.deadlocks += 1
                raise

        return await self.pools[pool].transaction(watched, attempts=20)

    async def facts(self, pool: int, facts: Sequence[Fact]) -> None:
        """One process reads its partition, some records at a time."""
        ids = IdSource(pool + 1)
        for n in range(0, len(facts), 5):
            batch = [told(each, ids.next(0), pool, n + k) for k, each in enumerate(facts[n : n + 5])]

            async def work(connection: Any, batch: list[Told] = batch) -> None:
                following = {pool: batch[-1].origin.offset + 1}
                await intake.write(
                    connection, TOPIC, batch, following, NOW, self.it.hand.rules, planner=self.it.planner
                )

            await self.tx(pool, work)

    async def requests(self) -> None:
        """Upstream asks."""
        n = 0
        while not self.over.is_set():
            n += 1
            request = asked(
                self.it, debt=f"other-{n}", send_at=NOW, not_after=NOW + dt.timedelta(hours=1), state_as_of=NOW
            )

            async def work(connection: Any, request: Request = request) -> None:
                following = {0: request.origin.offset + 1}
                await intake.write(connection, REQUESTS, [request], following, NOW, self.it.hand.rules)

            await self.tx(n % 2, work)
            self.asked.append(request)
            await asyncio.sleep(0.01)

    async def stops(self) -> None:
        """Every other one is taken back, and every fourth paid, by the other process while a worker sends it."""
        heard = 0
        while not self.over.is_set():
            for request in self.asked[heard:]:
                heard += 1
                if heard % 2:
                    stop: Command = self.it.hand.stop(request)
                elif heard % 4:
                    stop = told(paid(NOW, debt=request.debt), self.it.ids.next(0), 2, heard)
                else:
                    continue

                async def work(connection: Any, stop: Command = stop) -> None:
                    topic, following = stop.origin.topic, {stop.origin.partition: stop.origin.offset + 1}
                    await intake.write(
                        connection, topic, [stop], following, NOW, self.it.hand.rules, planner=self.it.planner
                    )

                await self.tx(1, work)
            await asyncio.sleep(0.01)

    async def sends(self) -> None:
        """A worker sends what is asked for; its outcomes are recorded."""
        worker = await self.it.hand.worker()
        while not self.over.is_set():
            token = self.it.hand.id()
            claimed = await self.tx(0, lambda c: claims.claim(c, worker.id, NOW, _LIMIT, _LIMIT, token))  # noqa: B023
            for each in claimed:
                intent = self.it.hand.intent(each)
                done = await self.tx(0, lambda c: intend.intend(c, worker.id, [intent], NOW))  # noqa: B023
                if intent.attempt not in done.sendable:
                    continue
                outcome = Outcome(
                    intent.attempt, each.id, SUBJECT, "p", AttemptState.ACCEPTED, None, "", f"r{intent.attempt}"
                )
                await self.tx(
                    0,
                    lambda c: outcomes.record(c, [outcome], NOW, self.it.hand.rules, lambda: 1.0),  # noqa: B023
                )
                self.taken.append((intent.attempt, each.id))
            await asyncio.sleep(0.01)

    async def receipts(self) -> None:
        """The provider tells what became of it: applied at once, or kept and swept where the lock is another's."""
        heard = 0
        while not self.all_sent.is_set() or heard < len(self.taken):
            for attempt, _ in self.taken[heard:]:
                heard += 1
                stored = Stored(
                    id=self.it.hand.id(), provider="p", kind="receipt", code="c", received_at=NOW,
                    replay=attempt.to_bytes(8), attempt=attempt, state=AttemptState.DELIVERED,
                )  # fmt: skip
                try:
                    await self.tx(1, lambda c: self._take(c, [stored]))  # noqa: B023
                except asyncpg.LockNotAvailableError:
                    self.waits += 1
                    await self.tx(1, lambda c: receipts.store(c, [stored], NOW))  # noqa: B023
            await asyncio.sleep(0.01)
        while ripe := await self.tx(1, lambda c: receipts.ripe(c, NOW)):
            await self.tx(1, lambda c: receipts.sweep(c, ripe, NOW, self.it.hand.rules, lambda: 1.0))

    async def _take(self, connection: Any, stored: list[Stored]) -> None:
        await receipts.take(connection, stored, NOW, self.it.hand.rules, lambda: 1.0)


async def known(it: Plans) -> tuple[Any, ...]:
    """All that facts of him and his loan have left: what is known, the stones, and what waits by plan."""
    (borrower,) = await it.hand.connection.fetch("select id, sealed from borrower_fact")
    (debt,) = await it.hand.connection.fetch("select id, sealed from debt_fact where debt = 'loan-1'")
    stones = await it.hand.connection.fetch(
        "select kind, value, as_of from tombstone where kind <> 'debt' and value not like 'other-%' order by 1, 2"
    )
    waiting = await it.hand.connection.fetch(
        "select o.instalment, o.stage, o.step, l.at, l.state::text, l.reason from occurrence o"
        " join live l on l.id = o.reminder order by 1, 2, 3"
    )
    return (
        msgspec.msgpack.decode(SEALER.open(borrower["sealed"], borrower["id"], BORROWER_FIELD), type=BorrowerFacts),
        msgspec.msgpack.decode(SEALER.open(debt["sealed"], debt["id"], DEBT_FIELD), type=DebtFacts),
        [tuple(row) for row in stones],
        [tuple(row) for row in waiting],
    )


async def test_a_storm_of_facts_ends_as_if_they_had_come_one_by_one(database: str) -> None:
    facts = storm()
    assert len(facts) > 1000
    async with plans(database) as it:
        await it.tell(*facts, now=NOW)
        expected = await known(it)
        assert len(expected[3]) >= len(USUAL)
        await it.hand.clear()
        it.hand.now = NOW
        async with AsyncExitStack() as stack:
            pools = [Database(database, size=6, statement_timeout_ms=20_000) for _ in range(2)]
            for each in pools:
                await each.open()
                stack.push_async_callback(each.close)
            here = Storm(it, *pools)
            beside = [asyncio.create_task(each) for each in (here.requests(), here.stops(), here.sends())]
            told_of = asyncio.create_task(here.receipts())
            # Neighbours in time come by different ways, so that most of them come in the wrong order.
            await asyncio.gather(here.facts(0, facts[::2]), here.facts(1, facts[1::2]))
            here.over.set()
            await asyncio.gather(*beside)
            here.all_sent.set()
            await told_of
        assert here.deadlocks == 0
        assert await known(it) == expected
        assert len(here.taken) > 0
        # Nobody was contacted by plan, everybody who was asked for and not stopped in time once.
        sent = await it.hand.connection.fetch(
            "select r.debt, e.state::text from attempt a join reminder r on r.id = a.reminder"
            " join ending e on e.reminder = r.id"
        )
        assert {row["state"] for row in sent} == {"delivered"}
        assert len(sent) == len({row["debt"] for row in sent}) == len(here.taken)
        before = await everything(it.hand.connection)
        await it.tell(*facts, now=NOW)
        assert await everything(it.hand.connection) == before
