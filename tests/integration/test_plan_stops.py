"""Stops that facts tell, on a real Postgres: what was requested obeys them as what was planned does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.ids import subject_key
from gateway.ledger import intend, stops
from gateway.ledger.commands import Request
from gateway.ledger.standing import Move
from schemas.repayments import Fact, Stop
from schemas.vocabulary import Channel, Reason
from tests.integration.plans_by_hand import USUAL, Plans, everything, plans
from tests.unit.cadence.facts import EARLY, at, back_in, out, paid, planned, rescheduled, resumed, stopped

SUBJECT = subject_key("harbour", "b-1")
HOUR = dt.timedelta(hours=1)
LATER = EARLY + HOUR


def asked(it: Plans, **changes: Any) -> Request:
    """A request for the borrower of all facts, by the state of EARLY."""
    values: dict[str, Any] = {
        "subject": SUBJECT, "lender": "harbour", "borrower": "b-1", "debt": "loan-1", "instalment": 1,
        "state_as_of": EARLY, "stage_key": it.hand.id().to_bytes(8), "send_at": it.hand.now,
        "not_after": it.hand.now + dt.timedelta(days=30),
    }  # fmt: skip
    ladder = changes.pop("ladder", "s")
    return it.hand.request(ladder, **(values | changes))


async def born(it: Plans, **changes: Any) -> Request:
    request = asked(it, **changes)
    await it.hand.read(request)
    return request


async def says_no(it: Plans, since: dt.datetime) -> list[Move]:
    """The borrower, by a key in a call."""
    return await it.hand.tx(lambda c: stops.opt_out(c, {SUBJECT: since}, it.hand.now, it.hand.rules))


PAID, STOPPED, OUT = ("cancelled", "paid"), ("cancelled", "stopped"), ("suppressed", "opted_out")
LIVES = ("scheduled", None)
NEWER = {"state_as_of": LATER + HOUR}
CASES: list[tuple[Fact, dict[str, Any], tuple[str, str | None]]] = [
    (paid(LATER, None), {}, PAID),
    (paid(LATER, None), {"instalment": None}, PAID),
    (paid(LATER, None), {"state_as_of": LATER}, PAID),
    (paid(LATER, None), NEWER, LIVES),
    (paid(LATER, None, debt="loan-2"), {}, LIVES),
    (paid(LATER), {}, PAID),
    (paid(LATER), NEWER, LIVES),
    (paid(LATER), {"instalment": 2}, LIVES),
    (paid(LATER), {"instalment": None}, LIVES),
    (paid(LATER, debt="loan-2"), {}, LIVES),
    (paid(LATER, outstanding="0.01"), {}, LIVES),
    (stopped(LATER), {}, STOPPED),
    (stopped(LATER), NEWER, STOPPED),
    (stopped(LATER, debt="loan-2"), {}, LIVES),
    (stopped(LATER, debt=None), NEWER, STOPPED),
    (out(LATER), NEWER, OUT),
    (out(LATER, channel=Channel.SMS), {}, LIVES),  # that contact is left out, see below
]


async def test_what_was_requested_is_stopped_as_what_is_requested_later(database: str) -> None:
    async with plans(database) as it:
        for fact, changes, becomes in CASES:
            before = await born(it, **changes)
            await it.tell(fact)
            assert await it.hand.state(before) == becomes, (fact, changes)
            after = await born(it, **changes)
            assert await it.hand.state(after) == becomes, (fact, changes)
            assert await it.hand.value("select count(*) from live") == 2 * (becomes == LIVES)
            await it.hand.clear()


async def test_the_same_stop_again_writes_nothing_and_answers_nothing(database: str) -> None:
    """Also where something had left, and was planned, and where somebody else has stopped it before."""
    async with plans(database) as it:
        await it.tell(planned())
        await born(it)
        it.hand.now = at("2026-12-03", "14:00")
        worker = await it.hand.worker()
        claimed = await it.hand.claim(worker)
        assert len(claimed) == 2
        assert len((await it.hand.intend(worker, *map(it.hand.intent, claimed))).sendable) == 2
        facts: list[Fact] = [paid(it.hand.now), stopped(it.hand.now, debt=None), out(it.hand.now)]
        for fact in facts:
            await it.tell(fact)
        before = await everything(it.hand.connection)
        # One each, by the first of the stops.
        assert await it.hand.value("select count(*) from outbox where payload like '%too_late%'::bytea") == 2
        for fact in (planned(), *facts, *reversed(facts)):
            await it.tell(fact)
        assert await everything(it.hand.connection) == before


async def test_a_stop_in_force_stops_until_the_last_of_its_reasons_is_resumed(database: str) -> None:
    async with plans(database) as it:
        await it.tell(stopped(EARLY), stopped(EARLY, Stop.HARDSHIP))
        await it.tell(resumed(LATER))
        assert await it.hand.state(await born(it, **NEWER)) == STOPPED
        await it.tell(resumed(LATER, Stop.HARDSHIP))
        assert await it.hand.state(await born(it)) == LIVES


async def test_a_payment_that_bounced_stops_no_more(database: str) -> None:
    async with plans(database) as it:
        await it.tell(paid(LATER))
        assert await it.hand.state(await born(it)) == PAID
        await it.tell(paid(LATER + HOUR, outstanding="100.00"))
        assert await it.hand.state(await born(it)) == LIVES


async def test_a_stop_of_before_it_was_resumed_is_none(database: str) -> None:
    async with plans(database) as it:
        await it.tell(resumed(LATER), back_in(LATER))
        await it.tell(stopped(EARLY), out(EARLY))
        assert await it.hand.state(await born(it)) == LIVES


async def test_a_debt_that_is_planned_anew_is_reminded_of_by_plan_and_by_request(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned(), paid(LATER, None))
        assert await it.reminders() == 0
        await it.tell(rescheduled(dt.date(2026, 12, 10), as_of=LATER + HOUR))
        assert await it.standing() == USUAL
        assert await it.hand.state(await born(it, **NEWER)) == LIVES
        assert await it.hand.state(await born(it)) == PAID


# --- between the steps of a contact -----------------------------------------------------------------------------------


STOPS: list[tuple[Fact, tuple[str, str]]] = [
    (paid(LATER), PAID), (paid(LATER, None), PAID), (stopped(LATER), STOPPED), (stopped(LATER, debt=None), STOPPED),
    (out(LATER), OUT),
]  # fmt: skip


def every_stop(story: Callable[[Plans, Fact, tuple[str, str]], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
    """The story with each of them, in an empty ledger."""

    async def test(database: str) -> None:
        async with plans(database) as it:
            for fact, becomes in STOPS:
                await story(it, fact, becomes)
                await it.hand.clear()

    return test


@every_stop
async def test_stopped_a_millisecond_before_the_claim(it: Plans, fact: Fact, becomes: tuple[str, str]) -> None:
    request = await born(it, send_at=LATER + dt.timedelta(milliseconds=1))
    await it.tell(fact)
    it.hand.later(0.001)
    assert await it.hand.claim(await it.hand.worker()) == []
    assert await it.hand.state(request) == becomes


@every_stop
async def test_stopped_between_decide_and_intend(it: Plans, fact: Fact, becomes: tuple[str, str]) -> None:
    request = await born(it)
    worker, claimed = await it.hand.claimed(request)
    await it.tell(fact)
    done = await it.hand.intend(worker, it.hand.intent(claimed))
    assert done.sendable == frozenset()
    assert await it.hand.state(request) == becomes
    assert await it.hand.attempts(request) == []


@every_stop
async def test_stopped_between_intend_and_the_wire(it: Plans, fact: Fact, becomes: tuple[str, str]) -> None:
    """K28: it may have left.  That is answered, no next contact follows, and a first byte is not tried again."""
    request = await born(it, ladder="sp")
    worker, claimed = await it.hand.claimed(request)
    intent = it.hand.intent(claimed)
    assert (await it.hand.intend(worker, intent)).sendable
    await it.tell(fact)
    assert await it.hand.state(request) == ("sending", None)
    assert await it.hand.value("select closed from live") == becomes[1]
    answers = await it.hand.connection.fetch(
        "select reminder from outbox where payload like '%too_late%'::bytea and id <> 0"
    )
    assert [row[0] for row in answers] == [request.id]
    again = await it.hand.tx(lambda c: intend.again(c, worker.id, [intent], it.hand.now))
    assert again.sendable == frozenset()


# --- the borrower's own word ------------------------------------------------------------------------------------------


async def test_an_opting_out_by_a_call_is_known_to_plans(database: str) -> None:
    """What was planned is suppressed, and what would be planned is not made at every fact to be suppressed."""
    async with plans(database) as it:
        await it.tell(planned())
        await says_no(it, EARLY)
        assert await it.standing() == dict.fromkeys(USUAL, "suppressed opted_out")
        before = await everything(it.hand.connection)
        await it.tell(planned())
        assert await everything(it.hand.connection) == before
        await it.tell(planned(debt="loan-2", as_of=LATER))
        assert await it.reminders() == len(USUAL)


async def test_agreeing_again_later_lifts_what_a_call_has_stopped(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await says_no(it, LATER)
        await it.tell(back_in(LATER))  # of two at one moment the opting out counts
        assert await it.standing() == dict.fromkeys(USUAL, "suppressed opted_out")
        assert await it.hand.state(await born(it, **NEWER)) == OUT
        await it.tell(back_in(LATER + HOUR))
        assert await it.standing() | {"d3": "12-07"} == USUAL
        assert await it.hand.state(await born(it)) == LIVES


async def test_of_a_fact_and_a_call_the_later_one_is_what_must_be_lifted(database: str) -> None:
    async with plans(database) as it:
        await says_no(it, LATER + HOUR)
        await it.tell(out(EARLY), back_in(LATER))
        assert await it.hand.state(await born(it)) == OUT
        await it.tell(back_in(LATER + 2 * HOUR))
        assert await it.hand.state(await born(it)) == LIVES


async def test_a_key_that_is_swept_after_its_borrower_has_agreed_again_stops_nothing(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned(), back_in(LATER))
        request = await born(it)
        assert await says_no(it, EARLY) == []
        assert await it.hand.state(request) == LIVES
        assert await it.standing() | {"d3": "12-07"} == USUAL
        assert await says_no(it, LATER) != []


@pytest.mark.parametrize(("ladder", "becomes"), [("sp", ("scheduled", "next_contact")), ("s", OUT)])
async def test_a_channel_that_is_unwanted_is_left_out(ladder: str, becomes: tuple[str, str], database: str) -> None:
    async with plans(database) as it:
        request = await born(it, ladder=ladder)
        await it.tell(out(LATER, channel=Channel.SMS))
        worker, claimed = await it.hand.claimed(request)
        intent = it.hand.intent(claimed)
        done = await it.hand.intend(worker, intent)
        assert (done.sendable, done.channel_out) == (frozenset(), {intent.attempt})
        await it.hand.settle(worker, claimed, skip=Reason.OPTED_OUT)
        assert await it.hand.state(request) == becomes
        await it.tell(back_in(LATER + HOUR, channel=Channel.SMS))
        assert (await it.hand.sent(await born(it))).attempt
