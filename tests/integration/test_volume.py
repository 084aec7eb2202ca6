"""The volume brake: quotas are exact whoever sends, a breach freezes its slice, and without one nothing is asked."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway.clock import VirtualClock
from gateway.dispatch.commits import Commits
from gateway.dispatch.pipeline import Job
from gateway.ids import to_reference
from gateway.ledger import freezes, intend, volume
from gateway.ledger.database import Database
from gateway.ledger.intend import Intended, Intent
from gateway.ledger.quotas import Quota, QuotaRule, Quotas
from gateway.ledger.standing import Rules
from gateway.ledger.workers import Worker
from gateway.observability.metrics import Metrics
from gateway.worker import Lease
from schemas.vocabulary import Channel, Lane, Reason
from tests.integration.by_hand import HOUR, RULES, START, Hand, hand
from tests.integration.test_freeze_order import others, waits_for_a_lock

TEN: Final = Quotas(lenders={"acme": Quota(per_hour=10)})


async def claimed(hand: Hand, n: int, worker: Worker, *, cost: int = 0, **changes: Any) -> list[Intent]:
    """So many reminders in this worker's hands, about to be intended."""
    await hand.read(*[hand.request(**changes) for _ in range(n)])
    return [Intent(each, hand.id(each.subject), "p", b"words", "{}", None, cost) for each in await hand.claim(worker)]


async def intends(hand: Hand, worker: Worker, intents: Iterable[Intent], quotas: Quotas | None = TEN) -> Intended:
    return await hand.tx(lambda c: intend.intend(c, worker.id, list(intents), hand.now, quotas))


async def used(hand: Hand, kind: str = "lender", value: str = "acme") -> tuple[int, int, int]:
    found = (await volume.read(hand.connection))[kind, value]
    return found.hour_sent, found.day_sent, found.day_spent


# --- what fits --------------------------------------------------------------------------------------------------------


async def test_no_more_is_intended_than_fits_and_urgent_ones_come_first(database: str) -> None:
    async with hand(database) as mine:
        worker = await mine.worker()
        bulk = await claimed(mine, 9, worker)
        urgent = await claimed(mine, 4, worker, lane=Lane.URGENT)
        done = await intends(mine, worker, [*bulk, *urgent])
        assert done.sendable == {each.attempt for each in (*urgent, *bulk[:6])}
        assert done.over.keys() == {each.attempt for each in bulk[6:]}
        [why] = {breach for each in done.over.values() for breach in each}
        assert (why.kind, why.value, why.rules, why.until) == ("lender", "acme", ("per_hour",), START + HOUR)
        assert await used(mine) == (10, 10, 0)
        assert await mine.value("select count(*) from attempt") == 10


async def test_two_workers_at_once_send_as_much_as_one_may(database: str) -> None:
    """The second waits for what the first has counted: orders by the slice's row, not by chance."""
    async with hand(database) as mine, others(database) as (one, other):
        workers = [await mine.worker() for _ in range(2)]
        sets = [await claimed(mine, 7, worker) for worker in workers]
        transaction = one.transaction()
        await transaction.start()
        first = await intend.intend(one, workers[0].id, sets[0], mine.now, TEN)

        async def second() -> Intended:
            async with other.transaction():
                return await intend.intend(other, workers[1].id, sets[1], mine.now, TEN)

        waiting = asyncio.create_task(second())
        await waits_for_a_lock(mine, other)
        await transaction.commit()
        assert (len(first.sendable), len((await waiting).sendable)) == (7, 3)
        assert await used(mine) == (10, 10, 0)


async def test_many_workers_in_a_crowd_are_exact(database: str) -> None:
    """Slices in common in every combination: nobody waits in a circle, and the sums are those of the rows."""
    quotas = Quotas(
        default_source=Quota(per_hour=12), lenders={"acme": Quota(per_hour=25), "zeta": Quota(spend_per_day=60)}
    )
    async with hand(database) as mine, others(database, 8) as connections:
        groups = []
        for n, _ in enumerate(connections):
            worker = await mine.worker()
            intents = []
            for lender, source in (("acme", "a"), ("zeta", "b"), ("acme", "b"), ("zeta", "a"), ("acme", "c")):
                intents += await claimed(mine, 2, worker, lender=lender, source=source, cost=5)
            groups.append((worker, intents if n % 2 else intents[::-1]))

        async def all_at_once(connection: Any, worker: Worker, intents: list[Intent]) -> frozenset[int]:
            sent: frozenset[int] = frozenset()
            for part in (intents[:5], intents[5:]):
                async with connection.transaction():
                    sent |= (await intend.intend(connection, worker.id, part, mine.now, quotas)).sendable
            return sent

        await asyncio.gather(*(all_at_once(c, *group) for c, group in zip(connections, groups, strict=True)))
        rows = await mine.connection.fetch(
            "select r.source, r.lender, count(*) n from attempt a join reminder r on r.id = a.reminder group by 1, 2"
        )
        for kind in ("source", "lender"):
            for value in {row[kind] for row in rows}:
                n = sum(row["n"] for row in rows if row[kind] == value)
                assert (await used(mine, kind, value))[1] == n
        by = {value: sum(row["n"] for row in rows if value in tuple(row)) for value in ("a", "b", "c", "acme", "zeta")}
        assert max(by["a"], by["b"], by["c"]) <= 12
        assert by["acme"] <= 25
        assert by["zeta"] * 5 <= 60
        assert by["a"] == by["b"] == 12, by


async def test_what_lost_its_claim_or_is_rolled_back_is_not_counted(database: str) -> None:
    async with hand(database) as mine:
        worker = await mine.worker()
        intents = await claimed(mine, 3, worker)
        await mine.connection.execute("delete from claim where id = $1", intents[0].claimed.id)
        assert len((await intends(mine, worker, intents)).sendable) == 2
        assert await used(mine) == (2, 2, 0)
        transaction = mine.connection.transaction()
        await transaction.start()
        await intend.intend(mine.connection, worker.id, await claimed(mine, 3, worker), mine.now, TEN)
        await transaction.rollback()
        assert await used(mine) == (2, 2, 0)


async def test_spending_stops_before_the_cap(database: str) -> None:
    quotas = Quotas(lenders={"acme": Quota(spend_per_day=100_000)}, timezone="Asia/Shanghai")
    async with hand(database) as mine:
        worker = await mine.worker()
        done = await intends(mine, worker, await claimed(mine, 5, worker, cost=30_000), quotas)
        assert len(done.sendable) == 3
        [why] = {breach for each in done.over.values() for breach in each}
        assert (why.rules, why.until) == (("spend_per_day",), dt.datetime(2026, 11, 2, 16, tzinfo=dt.UTC))
        # Whoever saw that may have died before it froze the slice: what does not fit is refused, and says so, again.
        late = await claimed(mine, 1, worker, cost=10_001)
        done = await intends(mine, worker, late, quotas)
        assert done.over == {late[0].attempt: (why,)}
        # Behind the first that does not fit nothing of the slice leaves with its group, though it would fit.
        large, small = await claimed(mine, 1, worker, cost=20_000), await claimed(mine, 1, worker, cost=10_000)
        assert not (await intends(mine, worker, [*large, *small], quotas)).sendable
        assert (await used(mine))[2] == 90_000


async def test_the_next_hour_begins_at_nothing_and_the_day_goes_on(database: str) -> None:
    quotas = Quotas(lenders={"acme": Quota(per_hour=2, per_day=3)})
    async with hand(database) as mine:
        worker = await mine.worker()
        assert len((await intends(mine, worker, await claimed(mine, 3, worker), quotas)).sendable) == 2
        mine.later(3600)
        done = await intends(mine, worker, await claimed(mine, 3, worker), quotas)
        assert len(done.sendable) == 1
        [why] = {breach for each in done.over.values() for breach in each}
        assert (why.rules, why.until) == (("per_day",), dt.datetime(2026, 11, 3, tzinfo=dt.UTC))
        assert await used(mine) == (1, 3, 0)


async def test_to_lift_the_freeze_begins_what_had_run_out_anew_and_nothing_else(database: str) -> None:
    quotas = Quotas(lenders={"acme": Quota(per_hour=2, per_day=3)})
    async with hand(database) as mine:
        worker = await mine.worker()
        assert len((await intends(mine, worker, await claimed(mine, 3, worker), quotas)).sendable) == 2
        await mine.freeze()
        assert await used(mine) == (2, 2, 0)
        await mine.unfreeze()
        assert await used(mine) == (0, 2, 0)
        assert len((await intends(mine, worker, await claimed(mine, 3, worker), quotas)).sendable) == 1
        await mine.freeze()
        await mine.unfreeze()
        assert await used(mine) == (1, 0, 0)
        # Another slice's freeze has nothing to do with it.
        await mine.freeze("stage", "d3")
        await mine.unfreeze("stage", "d3")
        assert await used(mine) == (1, 0, 0)


class Counting:
    """A connection that writes down what it was asked."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)

        async def asked(sql: str, *args: Any) -> Any:
            self.asked.append(sql)
            return await found(sql, *args)

        return asked if name in ("execute", "fetch", "fetchval", "fetchrow") else found


@pytest.mark.parametrize(
    ("quotas", "more"),
    [(None, 0), (Quotas(lenders={"other": Quota(per_hour=1)}), 0), (TEN, 3)],
    ids=["none", "of others", "of this lender"],
)
async def test_without_a_quota_it_costs_nothing(quotas: Quotas | None, more: int, database: str) -> None:
    async with hand(database) as mine:
        worker = await mine.worker()
        asked = []
        for each in (None, quotas):
            counting = Counting(mine.connection)
            intents = await claimed(mine, 3, worker)
            async with mine.connection.transaction():
                done = await intend.intend(counting, worker.id, intents, mine.now, each)
            assert len(done.sendable) == 3
            asked.append(len(counting.asked))
        assert asked[1] - asked[0] == more


# --- what follows a breach --------------------------------------------------------------------------------------------


@asynccontextmanager
async def commits(dsn: str, now: dt.datetime, quotas: Quotas) -> AsyncIterator[tuple[Commits, CollectorRegistry]]:
    database = Database(dsn, size=3, statement_timeout_ms=5000)
    await database.open()
    registry = CollectorRegistry()
    rules = Rules(max_tries=RULES.max_tries, quotas=quotas)
    try:
        metrics = Metrics(registry, {"p": Channel.SMS})
        yield Commits(database, VirtualClock(now), rules, metrics, lambda: None), registry
    finally:
        await database.close()


async def test_a_breach_freezes_its_slice_and_says_so(database: str) -> None:
    async with hand(database) as mine, commits(database, START, TEN) as (dispatch, registry):
        worker = await mine.worker()
        intents = await claimed(mine, 12, worker)
        lease = Lease(worker.id, 1e12)
        jobs = [Job(each.claimed, lease, attempt=each.attempt, intent=each) for each in intents]
        with capture_logs() as logs:
            verdicts = await dispatch.intend(jobs)
            held = [job for job in jobs if verdicts[job.attempt] is not None]
            assert len(held) == 2
            assert await freezes.in_force(mine.connection, START) == [], "what fits leaves before anybody brakes"
            await dispatch.settle([(job, verdict) for job in held if (verdict := verdicts[job.attempt]) is not None])
        [found] = await freezes.in_force(mine.connection, START)
        assert (found.kind, found.value, found.author, found.reason, found.until) == (
            "lender", "acme", "volume brake", "per_hour used up", START + HOUR,
        )  # fmt: skip
        assert [each.act for each in await freezes.audit(mine.connection, 9)] == ["freeze"]
        assert registry.get_sample_value(
            "reminder_gateway_volume_brakes_total", {"kind": "lender", "rule": "per_hour"}
        ) == 1  # fmt: skip
        [said] = [each for each in logs if each["event"] == "volume_brake"]
        assert (said["log_level"], said["scope"], said["lender"], said["reason"]) == (
            "error", "lender", "acme", ["per_hour"],
        )  # fmt: skip

        # What it held is held by that freeze, and leaves when the hour is over.
        assert found.holds == 2
        rule = await mine.value("select distinct rule from decision where verdict = 'hold'")
        assert rule == "volume_brake"
        assert await mine.release() == []
        mine.later(3600)
        moves = await mine.release()
        assert {each.was.id for each in moves} == {job.claimed.id for job in held}, [
            to_reference(each.was.id) for each in moves
        ]
        assert {(each.state, each.reason) for each in moves} == {("scheduled", Reason.RELEASED)}


async def test_a_breach_does_not_shorten_a_freeze_made_by_hand(database: str) -> None:
    async with hand(database) as mine, commits(database, START, TEN) as (dispatch, registry):
        worker = await mine.worker()
        intents = await claimed(mine, 11, worker)
        done = await intends(mine, worker, intents)
        await mine.freeze()
        await dispatch._brake({breach for each in done.over.values() for breach in each})
        [found] = await freezes.in_force(mine.connection, START)
        assert found.until is None
        assert registry.get_sample_value(
            "reminder_gateway_volume_brakes_total", {"kind": "lender", "rule": QuotaRule.PER_HOUR}
        ) == 0  # fmt: skip


async def test_the_kinds_are_those_of_the_table(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        with pytest.raises(asyncpg.CheckViolationError, match="volume_kind_known"):
            await connection.execute("insert into volume (kind, value, hour, day) values ('stage', 'd3', now(), now())")
    finally:
        await connection.close()


# --- what a reviewer found --------------------------------------------------------------------------------------------


async def test_what_has_lost_its_claim_uses_up_no_quota(database: str) -> None:
    async with hand(database) as mine:
        worker = await mine.worker()
        lost = await claimed(mine, 2, worker)
        await mine.connection.execute("delete from claim")
        good = await claimed(mine, 2, worker)
        done = await intends(mine, worker, [*lost, *good], Quotas(lenders={"acme": Quota(per_hour=2)}))
        assert done.sendable == {each.attempt for each in good}
        assert not done.over
        assert await used(mine) == (2, 2, 0)


async def test_one_message_that_costs_more_than_the_cap_stops_nobody_else(database: str) -> None:
    async with hand(database) as mine:
        worker = await mine.worker()
        dear = await claimed(mine, 1, worker, cost=6)
        cheap = await claimed(mine, 3, worker, cost=1)
        done = await intends(mine, worker, [*dear, *cheap], Quotas(lenders={"acme": Quota(spend_per_day=5)}))
        assert done.dear == {dear[0].attempt}
        assert done.sendable == {each.attempt for each in cheap}
        assert not done.over


async def test_what_has_no_quota_is_sent_beside_what_has(database: str) -> None:
    async with hand(database) as mine:
        worker = await mine.worker()
        free = await claimed(mine, 2, worker, lender="other")
        bound = await claimed(mine, 2, worker)
        done = await intends(mine, worker, [*free, *bound], Quotas(lenders={"acme": Quota(per_hour=1)}))
        assert done.sendable == {*(each.attempt for each in free), bound[0].attempt}
        assert await used(mine) == (1, 1, 0)


async def test_what_is_intended_does_not_wait_for_the_brake(database: str) -> None:
    """Somebody shares the freezes' lock for long: the ten that fitted leave at once, the brake comes behind them."""
    async with hand(database) as mine, commits(database, START, TEN) as (dispatch, _), others(database) as (one, _two):
        worker = await mine.worker()
        intents = await claimed(mine, 12, worker)
        jobs = [Job(each.claimed, Lease(worker.id, 1e12), attempt=each.attempt, intent=each) for each in intents]
        transaction = one.transaction()
        await transaction.start()
        await freezes.read_shared(one, mine.now)
        verdicts = await asyncio.wait_for(dispatch.intend(jobs), 2)
        assert sum(each is None for each in verdicts.values()) == 10
        settling = asyncio.create_task(
            dispatch.settle([(job, verdict) for job in jobs if (verdict := verdicts[job.attempt]) is not None])
        )
        await asyncio.sleep(0.2)
        assert not settling.done(), "what is over waits for its freeze"
        await transaction.commit()
        await settling
        assert await mine.value("select count(*) from frozen where held_by <> 0") == 2


async def test_a_brake_that_comes_behind_an_unfreeze_freezes_nothing(database: str) -> None:
    async with hand(database) as mine, commits(database, START, TEN) as (dispatch, _):
        worker = await mine.worker()
        intents = await claimed(mine, 12, worker)
        jobs = [Job(each.claimed, Lease(worker.id, 1e12), attempt=each.attempt, intent=each) for each in intents]
        verdicts = await dispatch.intend(jobs)
        await mine.tx(lambda c: volume.begin_anew(c, "lender", "acme"))
        await dispatch.settle([(job, verdict) for job in jobs if (verdict := verdicts[job.attempt]) is not None])
        assert await mine.value('select count(*) from "freeze"') == 0
