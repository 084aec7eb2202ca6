"""What was under way in the place of a plan's reminder and reached nobody leaves no gap."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import ids, personal
from gateway.ledger import replan
from gateway.ledger.database import Database
from gateway.ledger.plans import Written
from gateway.ledger.wanted import LenderGone
from gateway.recovery import Recovery
from schemas.messages import Contact
from schemas.repayments import ContactChanged, Fact, Program
from schemas.vocabulary import AttemptState, Channel, Failure
from tests.integration.plans_by_hand import SEALER, USUAL, Plans, everything, plans
from tests.unit.cadence.facts import ADDRESS, EARLY, at, back_in, paid, planned, rescheduled, resumed, stopped

IN_HAND = at("2026-12-03", "14:00")
LATER = rescheduled(dt.date(2026, 12, 20), as_of=IN_HAND)
NOT_SENT = (AttemptState.NOT_SENT, Failure.BAD_CONTENT)


async def swept(it: Plans) -> list[Written]:
    """One round of recovery."""
    waiting = await replan.waiting(it.hand.connection, 0)
    return [
        await it.hand.tx(lambda c, each=each: replan.plan(c, each, it.hand.now, it.hand.rules, it.planner))  # type: ignore[misc]
        for each in waiting
    ]


@asynccontextmanager
async def running(dsn: str, it: Plans) -> AsyncIterator[tuple[Recovery, list[str]]]:
    """Recovery of a process, and what it has told of."""
    found: list[str] = []
    database = Database(dsn, size=1, statement_timeout_ms=60_000)
    await database.open()
    clock: Any = SimpleNamespace(now=lambda: it.hand.now, anchor=lambda at: None)
    metrics: Any = SimpleNamespace(moved=lambda moves: None, born=lambda state, reason: found.append(state))
    worker: Any = SimpleNamespace(lease=SimpleNamespace(id=-1))
    recovery = Recovery(
        database, worker, clock, it.hand.rules, frozenset, metrics, lambda: found.append("due"), it.planner,
        seconds=3600,
    )  # fmt: skip
    await recovery.start()
    try:
        yield recovery, found
    finally:
        await recovery.stop()
        await database.close()


async def left(it: Plans, *meanwhile: Fact, became: tuple[AttemptState, Failure]) -> None:
    """The first reminder is on its way while these are told, and then this becomes of it."""
    await it.tell(planned())
    sent = await it.leaves(IN_HAND)
    for fact in meanwhile:
        await it.tell(fact)
    await it.became(*sent, *became)


async def test_what_reached_nobody_by_the_plan_before_is_made_anew_by_this_one(database: str) -> None:
    async with plans(database) as it:
        await left(it, LATER, became=NOT_SENT)
        assert (await it.standing())["d7"] == "cancelled replanned"
        (done,) = await swept(it)
        assert [each.request.stage for each in done.accepted] == ["d7"]
        assert (await it.standing())["d7"] == "12-13"
        assert await swept(it) == []
        assert await it.hand.value("select sum(n) from planned_count") == await it.reminders()


async def test_a_lesson_that_reached_nobody_is_told_as_that_of_another_debt(database: str) -> None:
    """Its own is paid meanwhile."""
    async with plans(database) as it:
        await it.tell(planned(), planned(dt.date(2026, 12, 12), debt="loan-2"), back_in(EARLY, Program.EDUCATION))
        sent = await it.leaves(at("2026-11-22", "20:00"))
        await it.tell(paid(it.hand.now, None))
        await it.became(*sent, AttemptState.REJECTED, Failure.BAD_RECIPIENT)
        (done,) = await swept(it)
        assert [(each.request.debt, each.request.step) for each in done.accepted] == [("loan-2", "spot_fraud")]


async def test_whose_lender_is_gone_keeps_what_he_has_and_waits(database: str) -> None:
    """It may be a mistake in the configuration."""
    async with plans(database) as it:
        await left(it, LATER, became=NOT_SENT)
        (waits,) = await replan.waiting(it.hand.connection, 0)
        before = await everything(it.hand.connection)
        planner = it.planner_of({})
        with pytest.raises(LenderGone):
            await it.hand.tx(lambda c: replan.plan(c, waits, it.hand.now, it.hand.rules, planner))
        assert await everything(it.hand.connection) == before
        assert await replan.waiting(it.hand.connection, 0) == [waits]
        (done,) = await swept(it)
        assert [each.request.stage for each in done.accepted] == ["d7"]


async def test_what_may_have_reached_somebody_keeps_its_place(database: str) -> None:
    async with plans(database) as it:
        await left(it, LATER, became=(AttemptState.UNDELIVERED, Failure.UNREACHABLE))
        assert (await it.standing())["d7"] == "undelivered ladder_closed"
        assert await swept(it) == []


async def test_what_was_stopped_while_it_was_under_way_is_made_anew_when_that_was_lifted(database: str) -> None:
    async with plans(database) as it:
        await left(it, stopped(IN_HAND), resumed(IN_HAND + dt.timedelta(seconds=1)), became=NOT_SENT)
        assert (await it.standing())["d7"] == "cancelled stopped"
        await swept(it)
        assert await it.standing() == {**USUAL, "d7": "12-03"}


async def test_what_is_stopped_still_is_not_made_anew(database: str) -> None:
    async with plans(database) as it:
        await left(it, paid(IN_HAND), became=NOT_SENT)
        (done,) = await swept(it)
        assert done == Written()
        assert set((await it.standing()).values()) == {"cancelled paid"}
        assert await it.hand.value("select count(*) from replan") == 0


@pytest.mark.parametrize(
    ("cancelled", "then"), [(None, "12-07"), ("request", "12-07"), ("debt", "cancelled cancelled_debt")]
)
async def test_a_direct_request_that_reached_nobody_leaves_its_stage_to_the_plan(
    cancelled: str | None, then: str, database: str
) -> None:
    """Also one that upstream takes back; with the debt everything of it is."""
    async with plans(database) as it:
        subject = ids.subject_key("harbour", "b-1")
        direct = it.hand.request(
            stage_key=ids.stage_key("harbour", "b-1", "loan-1", 1, "d3", ""), lender="harbour", borrower="b-1",
            subject=subject, id=it.hand.id(subject), debt="loan-1", instalment=1,
            send_at=at("2026-12-01"), not_after=at("2026-12-02"),
        )  # fmt: skip
        await it.hand.read(direct)
        await it.tell(planned())
        assert await it.hand.value("select count(*) from reminder where stage = 'd3'") == 1
        it.hand.now = at("2026-12-02", "12:00")
        if cancelled:
            await it.hand.read(it.hand.stop(direct, cancelled))
        else:
            worker = await it.hand.worker()
            (claimed,) = await it.hand.claim(worker)
            await it.hand.settle(worker, claimed, expire=True)
        await swept(it)
        assert (await it.standing())["d3"] == then


@pytest.mark.parametrize(
    ("spoil", "mend", "told"),
    [
        ("debt_fact set sealed = '\\x01' || substr(sealed, 2) || 'spoilt'",
         "debt_fact set sealed = substr(sealed, 1, length(sealed) - 6)", [("replan_failed", "FactsBroken")]),
        ("reminder set lender = 'gone' where lender = 'harbour'",
         "reminder set lender = 'harbour' where lender = 'gone'", [("replan_failed", "LenderGone")]),
        ("debt_fact set version = 99", "debt_fact set version = 1", []),
    ],
)  # fmt: skip
async def test_whose_facts_do_not_open_waits_and_keeps_nobody_else(
    spoil: str, mend: str, told: list[tuple[str, str]], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told once, however many rounds meet it; also one whose version nobody has, which ends a round."""
    rounds: asyncio.Queue[None] = asyncio.Queue()

    async def waits(recovery: Recovery) -> None:
        rounds.put_nowait(None)

    monkeypatch.setattr(Recovery, "_release", waits)
    async with plans(database) as it, running(database, it) as (recovery, found):

        async def one_round() -> None:
            while not rounds.empty():
                rounds.get_nowait()
            for _ in range(2):  # the first may have begun before
                recovery.wake()
                await asyncio.wait_for(rounds.get(), 60)

        await left(it, LATER, became=NOT_SENT)
        (mine,) = await replan.waiting(it.hand.connection, 0)
        await it.hand.connection.execute(f"update {spoil}")
        other = await it.hand.born(id=mine + 1)
        await it.hand.connection.execute("insert into replan values ($1, $2), (1, 'gone')", other.id, other.subject)
        with capture_logs() as logs:
            await one_round()
            await one_round()
        assert [(each["event"], each["error"]) for each in logs if each["event"] == "replan_failed"] == told
        assert await replan.waiting(it.hand.connection, 0) == [mine]
        await it.hand.connection.execute(f"update {mend}")
        with capture_logs() as logs:
            await one_round()
        assert [each["n"] for each in logs if each["event"] == "planned_anew"] == [1]
        assert await replan.waiting(it.hand.connection, 0) == []
        assert (await it.standing())["d7"] == "12-13"
        assert found == ["scheduled", "due"]


def corrected(at: dt.datetime, phone: str = "+8613900005678") -> ContactChanged:
    contacts = (Contact(Channel.SMS, phone),)
    return ContactChanged(lender="harbour", borrower_ref="b-1", contacts=contacts, as_of=at)


DEAD = (AttemptState.REJECTED, Failure.BAD_RECIPIENT)
A_DAY_LATER = IN_HAND + dt.timedelta(days=1)


async def test_whose_address_was_dead_is_reminded_by_the_one_that_is_told_later(database: str) -> None:
    """As long as it is good; and once: the next fact says nothing of addresses."""
    async with plans(database) as it:
        await it.tell(planned(channels=(Channel.SMS,)))
        await it.became(*await it.leaves(IN_HAND), *DEAD)
        assert (await it.standing())["d7"] == "undelivered contacts_exhausted"
        same = corrected(IN_HAND + dt.timedelta(hours=1), ADDRESS[Channel.SMS])
        await it.tell(same, paid(IN_HAND + dt.timedelta(hours=2), outstanding="40.00"))
        assert (await it.standing())["d7"] == "undelivered contacts_exhausted"
        await it.tell(corrected(A_DAY_LATER))
        assert (await it.standing())["d7"] == "12-04"
        claimed, attempt = await it.leaves(it.hand.now + dt.timedelta(minutes=1))
        said = personal.decode(SEALER.open(claimed.sealed, claimed.id, personal.SEALED_FIELD))
        assert [address for _, address in said.contacts] == ["+8613900005678"]
        await it.became(claimed, attempt, *DEAD)
        await it.tell(paid(it.hand.now, outstanding="30.00"))
        assert (await it.standing())["d7"] == "undelivered contacts_exhausted"


async def test_whose_address_turns_out_to_be_dead_after_it_was_corrected_is_reminded_at_once(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned(channels=(Channel.SMS,)))
        sent = await it.leaves(IN_HAND)
        await it.tell(corrected(IN_HAND))
        await it.became(*sent, *DEAD)
        (done,) = await swept(it)
        assert [each.request.stage for each in done.accepted] == ["d7"]
        # By the new one, which is dead as well: nobody tries for ever.
        await it.became(*await it.leaves(it.hand.now + dt.timedelta(minutes=1)), *DEAD)
        assert await swept(it) == []
        assert (await it.standing())["d7"] == "undelivered contacts_exhausted"


@pytest.mark.parametrize(
    ("became", "state"),
    [
        ((AttemptState.REJECTED, Failure.OPTED_OUT), "suppressed opted_out"),
        ((AttemptState.UNDELIVERED, Failure.BAD_RECIPIENT), "undelivered contacts_exhausted"),
    ],
)
async def test_a_correction_is_no_reason_where_he_wants_no_more_or_somebody_may_have_been_reached(
    became: tuple[AttemptState, Failure], state: str, database: str
) -> None:
    async with plans(database) as it:
        await it.tell(planned(channels=(Channel.SMS,)))
        await it.became(*await it.leaves(IN_HAND), *became)
        assert (await it.standing())["d7"] == state
        await it.tell(corrected(A_DAY_LATER))
        assert (await it.standing())["d7"] == state
