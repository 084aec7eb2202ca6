"""A planned reminder climbs its ladder on a real Postgres: by time only where silence says something."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from gateway import ids
from gateway.cadence.model import Confirm
from gateway.ledger import intend, outcomes, pacing, receipts, schema, streams
from gateway.ledger.claims import Claimed
from gateway.ledger.climbing import Climb, Step
from gateway.ledger.commands import Request
from gateway.ledger.intend import Intended
from gateway.ledger.outcomes import Outcome
from gateway.ledger.received import Stored
from gateway.ledger.standing import Move, Rules
from gateway.ledger.workers import Worker
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Channel, Engagement, Failure, Reason
from tests.integration.by_hand import HOUR, START, Hand, Sending, hand

MINUTE = dt.timedelta(minutes=1)
OCCASION, CALLS = "c/1/d3", "c/1/t7"
LADDER = Climb({Channel.PUSH: Step(Confirm.OPENED, 4 * HOUR), Channel.SMS: Step()})
RULES = Rules(
    default_receipt_window=48 * HOUR,
    climbs={OCCASION: LADDER, CALLS: Climb({Channel.VOICE: Step(Confirm.ANSWERED)}, invites_calls=True)},
    receipts=frozenset({"push", "sms"}),
    call_centre={"acme": 2},
)
PROVIDER = {Channel.PUSH: "push", Channel.SMS: "sms", Channel.VOICE: "voice"}


class Ladder(Hand):
    """Hands whose ids are of the business time, as they are in a process."""

    def __init__(self, connection: Any, rules: Rules = RULES) -> None:
        super().__init__(connection, rules)
        self._ids = ids.IdSource(63, lambda: int(self.now.timestamp() * 1000))
        self._in_hand: dict[int, tuple[Worker, Claimed]] = {}

    async def claimed(self, request: Request) -> tuple[Worker, Claimed]:
        """What is claimed with it stays in hand."""
        worker = await self.worker()
        self._in_hand |= {each.id: (worker, each) for each in await self.claim(worker)}
        return self._in_hand.pop(request.id)

    async def planned(self, ladder: str = "ps", **changes: Any) -> Request:
        values = {"occasion": OCCASION, "not_after": self.now + 20 * HOUR} | changes
        return await self.born(ladder, **values)

    async def handed_over(self, request: Request, state: A = A.ACCEPTED, failure: Failure | None = None) -> Sending:
        """Claimed, intended, and told of by the provider of its channel."""
        worker, claimed = await self.claimed(request)
        intent = self.intent(claimed, PROVIDER[claimed.channel])
        done = await self.intend(worker, intent)
        assert done.sendable == {intent.attempt}, done
        sending = Sending(request, worker, claimed, intent.attempt)
        outcome = Outcome(intent.attempt, request.id, request.subject, intent.provider, state, failure)
        await self.tx(lambda c: outcomes.record(c, [outcome], self.now, self.rules, lambda: 1.0))
        return sending

    async def told(self, sending: Sending, *said: A | Engagement) -> None:
        """By the provider, or by the lender's app, in one callback."""
        provider = PROVIDER[sending.claimed.channel]
        stored = [
            Stored(
                id=(id_ := self.id()), provider=provider, kind="receipt" if isinstance(each, A) else "engaged",
                code=each.value, received_at=self.now, replay=str(id_).encode(), attempt=sending.attempt,
                state=each if isinstance(each, A) else None, failure=None,
            )
            for each in said
        ]  # fmt: skip
        await self.tx(lambda c: receipts.take(c, stored, self.now, self.rules, lambda: 1.0))

    async def timer(self, request: Request) -> dt.datetime | None:
        at: dt.datetime | None = await self.value("select at from timer where id = $1", request.id)
        return at

    async def neighbours(self, n: int, heard: int) -> list[Sending]:
        """Pushes of others, handed over a minute later, of which `heard` have a receipt."""
        self.now += MINUTE
        made = [await self.handed_over(await self.planned(not_after=self.now + 90 * HOUR)) for _ in range(n)]
        for each in made[:heard]:
            await self.told(each, A.DELIVERED, Engagement.OPENED)
        return made


@asynccontextmanager
async def ladder(dsn: str, rules: Rules = RULES) -> AsyncIterator[Ladder]:
    async with hand(dsn, rules) as plain:
        await plain.tx(lambda c: schema.ensure_partitions(c, START))
        yield Ladder(plain.connection, rules)


def of(moves: list[Move], request: Request) -> Move:
    [mine] = [each for each in moves if each.was.id == request.id]
    return mine


async def test_a_push_that_nobody_opens_is_followed_by_an_sms_and_opening_it_ends_that(database: str) -> None:
    async with ladder(database) as it:
        silent, read = await it.planned(), await it.planned()
        first, second = await it.handed_over(silent), await it.handed_over(read)
        assert await it.timer(silent) == START + 4 * HOUR
        await it.told(first, A.DELIVERED)
        await it.told(second, A.DELIVERED)
        assert (await it.state(silent), await it.queue(silent)) == (("awaiting", None), ("timer",))
        await it.told(second, A.DELIVERED, Engagement.OPENED)
        assert (await it.state(read), await it.queue(read)) == (("delivered", None), ())
        assert await it.fire(4 * HOUR - MINUTE) == []
        await it.fire(MINUTE)
        assert (await it.state(silent), await it.queue(silent)) == (("scheduled", "next_contact"), ("due",))
        sms = await it.handed_over(silent)
        assert sms.claimed.channel is Channel.SMS
        await it.told(sms, A.DELIVERED)
        assert (await it.state(silent), await it.attempts(silent)) == (("delivered", None), ["delivered", "delivered"])


async def test_a_push_opened_while_the_sms_waits_or_is_in_hand_ends_it(database: str) -> None:
    async with ladder(database) as it:
        waits, in_hand = await it.planned(), await it.planned()
        pushes = [await it.handed_over(each) for each in (waits, in_hand)]
        for each in pushes:
            await it.told(each, A.SENT)
        await it.fire(4 * HOUR)
        await it.told(pushes[0], A.DELIVERED, Engagement.OPENED)
        worker, claimed = await it.claimed(in_hand)
        await it.told(pushes[1], A.DELIVERED, Engagement.OPENED)
        refused = await it.intend(worker, it.intent(claimed, "sms"))
        assert refused.sendable == frozenset()
        for each in (waits, in_hand):
            assert (await it.state(each), await it.attempts(each)) == (("delivered", None), ["delivered"])


async def test_an_sms_that_is_under_way_when_the_push_is_opened_ends_as_an_attempt(database: str) -> None:
    async with ladder(database) as it:
        mine = await it.planned()
        push = await it.handed_over(mine)
        await it.told(push, A.SENT)
        await it.fire(4 * HOUR)
        worker, claimed = await it.claimed(mine)
        intent = it.intent(claimed, "sms")
        assert (await it.intend(worker, intent)).sendable
        await it.told(push, A.DELIVERED, Engagement.OPENED)
        assert (await it.state(mine), await it.queue(mine)) == (("delivered", None), ())
        outcome = Outcome(intent.attempt, mine.id, mine.subject, "sms", A.REJECTED, Failure.BAD_RECIPIENT)
        await it.tx(lambda c: outcomes.record(c, [outcome], it.now, it.rules, lambda: 1.0))
        assert (await it.state(mine), await it.attempts(mine)) == (("delivered", None), ["delivered", "rejected"])


async def test_without_receipts_of_others_and_of_its_own_it_is_held_and_goes_on_when_they_come(database: str) -> None:
    async with ladder(database) as it:
        mine = await it.planned()
        await it.handed_over(mine)
        others = await it.neighbours(6, heard=3)  # three of seven: less than half
        await it.fire(4 * HOUR)
        assert await it.state(mine) == ("held", Reason.RECEIPTS_UNHEALTHY)
        assert await it.timer(mine) == it.now + 5 * MINUTE
        told = await it.value("select count(*) from outbox where reminder = $1", mine.id)
        assert of(await it.fire(5 * MINUTE), mine).emit is False
        assert await it.value("select count(*) from outbox where reminder = $1", mine.id) == told
        await it.told(others[3], A.SENT)  # four of seven
        await it.fire(5 * MINUTE)
        assert (await it.state(mine), await it.queue(mine)) == (("scheduled", "next_contact"), ("due",))
        await it.handed_over(mine)


async def test_much_of_other_providers_does_not_hide_its_own_receipts(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the newest that are read for it none is its provider's, but its own was heard of."""
    monkeypatch.setattr(streams, "_READ", 3)
    async with ladder(database) as it:
        mine, silent = await it.planned(), await it.planned()
        await it.told(await it.handed_over(mine), A.SENT)
        await it.handed_over(silent)
        it.now += MINUTE
        for _ in range(3):
            await it.handed_over(await it.planned("s", not_after=it.now + 90 * HOUR))
        await it.fire(4 * HOUR)
        assert await it.state(mine) == ("scheduled", "next_contact")
        assert await it.state(silent) == ("held", Reason.RECEIPTS_UNHEALTHY)


async def test_what_was_handed_over_a_moment_ago_says_nothing_of_the_stream(database: str) -> None:
    async with ladder(database) as it:
        mine = await it.planned()
        push = await it.handed_over(mine)
        await it.told(push, A.SENT)
        it.now = START + 4 * HOUR - 2 * MINUTE
        await it.neighbours(5, heard=0)
        await it.fire(MINUTE)
        assert await it.state(mine) == ("scheduled", "next_contact")


@pytest.mark.parametrize(("state", "ending"), [(A.SENT, "unconfirmed"), (A.DELIVERED, "delivered")])
async def test_what_is_held_ends_at_its_not_after_by_its_attempt(state: A, ending: str, database: str) -> None:
    """The provider tells of this one and then of none: more than half are silent."""
    async with ladder(database) as it:
        mine = await it.planned()
        push = await it.handed_over(mine)
        await it.neighbours(3, heard=0)
        await it.told(push, state)
        await it.fire(4 * HOUR)
        assert await it.state(mine) == ("held", Reason.RECEIPTS_UNHEALTHY)
        it.now = mine.not_after
        await it.fire()
        assert (await it.state(mine))[0] == ending
        assert (await it.attempts(mine), await it.queue(mine)) == ([ending], ())


async def test_a_provider_that_tells_nothing_is_never_healthy(database: str) -> None:
    async with ladder(database, replace(RULES, receipts=frozenset({"sms"}))) as it:
        mine = await it.planned()
        await it.told(await it.handed_over(mine), A.SENT)
        await it.fire(4 * HOUR)
        assert await it.state(mine) == ("held", Reason.RECEIPTS_UNHEALTHY)


async def test_no_rung_by_time_while_one_is_unknown(database: str) -> None:
    async with ladder(database) as it:
        mine = await it.planned(not_after=START + 90 * HOUR)
        push = await it.handed_over(mine, A.UNKNOWN, Failure.AMBIGUOUS)
        assert await it.timer(mine) == START + 48 * HOUR
        await it.neighbours(4, heard=4)
        assert mine.id not in {each.was.id for each in await it.fire(10 * HOUR)}
        await it.told(push, A.SENT)  # now somebody knows
        assert await it.state(mine) == ("awaiting", None)
        await it.fire()
        assert await it.state(mine) == ("scheduled", "next_contact")


async def test_an_attempt_that_may_have_left_keeps_every_other_rung_from_leaving(database: str) -> None:
    """A guard of the intent itself, whoever scheduled it."""
    async with ladder(database) as it:
        mine = await it.planned()
        push = await it.handed_over(mine)
        await it.told(push, A.SENT)
        await it.fire(4 * HOUR)
        await it.connection.execute("update attempt set state = 'unknown' where id = $1", push.attempt)
        worker, claimed = await it.claimed(mine)
        for provider in ("push", "sms"):
            assert (await it.intend(worker, it.intent(claimed, provider))).elsewhere
        await it.connection.execute("update attempt set state = 'accepted' where id = $1", push.attempt)
        assert (await it.intend(worker, it.intent(claimed, "sms"))).sendable


async def test_an_sms_that_expires_undecided_leaves_the_push_as_the_end(database: str) -> None:
    async with ladder(database) as it:
        mine = await it.planned()
        await it.told(await it.handed_over(mine), A.SENT)
        await it.fire(4 * HOUR)
        worker, claimed = await it.claimed(mine)
        await it.settle(worker, claimed, expire=True)
        assert (await it.state(mine), await it.attempts(mine)) == (("unconfirmed", "no_receipt"), ["unconfirmed"])


async def test_a_payment_between_push_and_sms_stops_the_sms(database: str) -> None:
    async with ladder(database) as it:
        early, late = await it.planned(), await it.planned()
        for each in (early, late):
            await it.told(await it.handed_over(each), A.SENT)
        await it.read(it.stop(early))
        assert await it.state(early) == ("awaiting", None)
        assert await it.timer(early) == START + 48 * HOUR
        await it.fire(4 * HOUR)
        await it.read(it.stop(late))
        assert (await it.state(late), await it.queue(late)) == (("awaiting", None), ("timer",))
        await it.fire(48 * HOUR)
        assert {await it.state(each) for each in (early, late)} == {("unconfirmed", "no_receipt")}


async def test_a_direct_request_with_the_same_ladder_climbs_after_failures_only(database: str) -> None:
    async with ladder(database) as it:
        mine = await it.planned(occasion=None, not_after=START + 90 * HOUR)
        push = await it.handed_over(mine)
        assert await it.timer(mine) == START + 48 * HOUR
        await it.told(push, Engagement.OPENED)
        assert await it.state(mine) == ("awaiting", None)
        await it.told(push, A.DELIVERED)
        assert await it.state(mine) == ("delivered", None)


async def test_the_stream_is_asked_at_a_cost_that_does_not_grow(database: str) -> None:
    async with ladder(database) as it:
        sql = (
            "insert into attempt (id, reminder, subject, rung, channel, provider, state, intended_at)"
            " select $1::bigint + n * 4194304::bigint, n, '', 0, 'push', 'push', 'accepted', $2"
            " from generate_series(1, 60000) n"
        )
        await it.connection.execute(sql, ids.first_id_at(int(START.timestamp() * 1000)), START)
        await it.connection.execute("analyze attempt")
        low, high = (ids.first_id_at(int(each.timestamp() * 1000)) for each in (START, START + HOUR))
        await it.connection.execute("set plan_cache_mode = force_generic_plan")
        for provider, most in (("push", 200), ("nobody", 10_000)):
            rows = await it.connection.fetch(
                f"explain (analyze, format text) {streams._NEWEST}", provider, low, high, 10_000, 200
            )
            plan = "\n".join(row[0] for row in rows)
            assert "Index Scan Backward using attempt_pkey" in plan, plan
            assert "Seq Scan on attempt" not in plan, plan
            [scanned] = [line for line in plan.splitlines() if "Index Scan Backward using attempt_pkey" in line]
            assert float(scanned.split("rows=")[-1].split()[0]) <= most, plan


# --- the pace of a call centre ----------------------------------------------------------------------------------------


async def intend_all(it: Ladder, made: list[Request]) -> tuple[Intended, dict[int, int]]:
    worker = await it.worker()
    wanted = {each.id for each in made}
    intents = [it.intent(each, PROVIDER[each.channel]) for each in await it.claim(worker) if each.id in wanted]
    done = await it.intend(worker, *intents)
    return done, {each.attempt: each.claimed.id for each in intents}


async def test_an_hour_has_so_many_places_and_the_next_one_has_them_again(database: str) -> None:
    async with ladder(database) as it:
        made = [await it.planned("v", occasion=CALLS) for _ in range(3)]
        plain = [await it.planned("s"), await it.planned("v", occasion=None)]  # no call, and nothing planned
        done, reminders = await intend_all(it, [*made, *plain])
        assert (len(done.sendable), len(done.paced_out)) == (4, 1)
        assert {each.id for each in plain} <= {reminders[each] for each in done.sendable}
        assert await it.value("select n from call_centre") == 2
        [left] = [each for each in made if each.id == reminders[next(iter(done.paced_out))]]
        worker = await it.value("select worker from claim where id = $1", left.id)
        it.now = pacing.next_place(it.now, 0.0)
        await it.connection.execute("delete from claim where id = $1", left.id)
        await it.connection.execute("insert into due select lane, at, id from live where id = $1", left.id)
        assert worker is not None
        again, _ = await intend_all(it, [left])
        assert len(again.sendable) == 1
        assert await it.value("select count(*) from call_centre") == 2


async def test_a_place_is_given_back_only_where_certainly_nobody_was_reached(database: str) -> None:
    async with ladder(database) as it:
        for state, failure, left in (
            (A.UNKNOWN, Failure.AMBIGUOUS, 1), (A.REJECTED, Failure.BAD_RECIPIENT, 1), (A.ACCEPTED, None, 2),
        ):  # fmt: skip
            await it.handed_over(await it.planned("v", occasion=CALLS), state, failure)
            assert await it.value("select n from call_centre") == left


async def test_two_processes_do_not_take_the_same_place(database: str) -> None:
    """The second waits for the first one's commit: both would have found one place left."""
    async with ladder(database, replace(RULES, call_centre={"acme": 1})) as it:
        made = [await it.planned("v", occasion=CALLS) for _ in range(2)]
        workers = [await it.worker() for _ in made]
        claimed = [(await it.claim(each, limit=1))[0] for each in workers]
        intents = [it.intent(each, "voice") for each in claimed]
        other = await asyncpg.connect(database)
        try:
            first = it.connection.transaction()
            await first.start()
            done = await intend.intend(it.connection, workers[0].id, intents[:1], it.now, rules=it.rules)

            async def second() -> Intended:
                async with other.transaction():
                    return await intend.intend(other, workers[1].id, intents[1:], it.now, rules=it.rules)

            waits = asyncio.create_task(second())
            pid = other.get_server_pid()
            while not await it.value("select cardinality(pg_blocking_pids($1)) > 0", pid):
                assert not waits.done()
                await asyncio.sleep(0.01)
            await first.commit()
            assert len(done.sendable) == 1
            late = await waits
        finally:
            await other.close()
        assert (len(late.sendable), len(late.paced_out)) == (0, 1)
        assert await it.value("select n from call_centre") == 1


def test_what_finds_no_place_is_spread_over_the_next_hour() -> None:
    now = START + 17 * MINUTE
    assert pacing.next_place(now, 0.0) == START + HOUR
    assert pacing.next_place(now, 0.5) == START + HOUR + 30 * MINUTE
