"""Plans on a real Postgres: facts become reminders, and only what differs changes."""

from __future__ import annotations

import datetime as dt

import pytest
from msgspec.structs import replace

from gateway import personal
from gateway.cadence import loading
from gateway.cadence.rehearsal import Fate, rehearse
from gateway.ids import stage_key
from gateway.ledger import timeline
from schemas.repayments import Fact, Instalment, Program
from schemas.vocabulary import AttemptState, Channel, Failure
from tests.integration.plans_by_hand import SEALER, USUAL, Plans, everything, plans
from tests.unit.cadence.facts import (
    DUE,
    EARLY,
    at,
    back_in,
    failed,
    moved,
    out,
    paid,
    planned,
    prefers,
    reported,
    rescheduled,
    resumed,
    stopped,
)
from tests.unit.cadence.test_cadence_planning import LESSONS


async def test_a_plan_becomes_all_its_reminders_at_once(database: str) -> None:
    async with plans(database) as it:
        result = await it.tell(planned())
        assert await it.standing() == USUAL
        assert (len(result.planned), result.accepted) == (len(USUAL), [])
        assert await it.hand.value("select count(*) from due") == len(USUAL) - 1
        assert await it.hand.value("select count(*) from outbox") == len(USUAL)
        assert await it.hand.value("select cadence || '/' || version from debt_fact") == "default/1"


async def test_what_is_planned_is_found_by_its_occasion(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.tell(rescheduled(dt.date(2026, 12, 14), as_of=EARLY + dt.timedelta(hours=1)))  # d7 is made anew
        connection = it.hand.connection
        found = await timeline.find(connection, None, "/core", "loan-1/1/d7")
        assert found == await it.hand.value("select max(id) from reminder where stage = 'd7'")
        assert found != await it.hand.value("select min(id) from reminder where stage = 'd7'")
        story = await timeline.read(connection, found, it.hand.now)
        assert story is not None
        assert dict(story.now)["occasion"] == "default/1/d7"
        assert await timeline.find(connection, None, "/other", "loan-1/1/d7") is None


async def test_a_rehearsal_says_the_moments_of_the_ledger(database: str) -> None:
    facts: list[Fact] = [planned(DUE, dt.date(2027, 3, 28)), planned(debt="loan-2"), prefers(EARLY, ("18:00", "19:00"))]
    async with plans(database) as it:
        await it.tell(*facts)
        rows = await it.hand.connection.fetch(
            "select r.debt, r.instalment, split_part(r.occasion, '/', 3) as occasion, r.send_at from reminder r"
            " where r.stage <> 'overdue_late'"
        )
        cadence = loading.load().by_name["default"][-1]
        rehearsed = rehearse(facts, lambda *_: cadence, EARLY + dt.timedelta(seconds=1)).lines
        assert {tuple(row) for row in rows} == {
            (each.debt, each.instalment, each.occasion, each.at) for each in rehearsed if each.fate is Fate.AHEAD
        }
        assert len(rows) == 18


async def test_the_same_facts_again_write_nothing(database: str) -> None:
    async with plans(database) as it:
        facts: list[Fact] = [planned(), failed(at("2026-12-10")), paid(at("2026-12-11"), outstanding="40.00")]
        await it.tell(*facts)
        before = await everything(it.hand.connection)
        for fact in facts:
            await it.tell(fact)
        await it.tell(*reversed(facts))
        assert await everything(it.hand.connection) == before


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (paid(EARLY), "cancelled paid"),
        (paid(EARLY, None), "cancelled paid"),
        (stopped(EARLY), "cancelled stopped"),
        (stopped(EARLY, debt=None), "cancelled stopped"),
        (out(EARLY), "suppressed opted_out"),
    ],
)
async def test_what_stops_ends_everything_that_waits(fact: Fact, reason: str, database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.tell(fact)
        assert await it.standing() == dict.fromkeys(USUAL, reason)
        assert await it.hand.value("select count(*) from stage_key") == 0


async def test_what_is_resumed_is_made_anew_and_what_went_by_is_not(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.tell(stopped(at("2026-12-01")))
        await it.tell(resumed(at("2026-12-06")))
        assert await it.standing() == {**USUAL, "d7": "cancelled stopped"}


async def test_another_date_moves_what_it_moves(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned(DUE, dt.date(2027, 1, 10)))
        assert await it.reminders() == 2 * len(USUAL)
        await it.tell(rescheduled(DUE, dt.date(2027, 1, 12), as_of=at("2026-11-21")))
        # Of the first instalment nothing; of the second all, each once ended and once made anew.
        assert await it.reminders() == 3 * len(USUAL)
        assert await it.hand.value("select count(*) from ending where reason = 'replanned'") == len(USUAL)
        assert await it.hand.value("select count(*) from live") == 2 * len(USUAL)


async def test_what_another_date_makes_past_does_not_go_out_at_its_old_time(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.tell(rescheduled(dt.date(2026, 11, 24), as_of=EARLY + dt.timedelta(hours=1)))
        standing = await it.standing()
        assert standing["d7"] == "cancelled replanned"
        assert standing["d3"] == "11-21"


async def test_a_partial_payment_revises_what_is_said_and_makes_nothing_anew(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.tell(paid(at("2026-11-21"), outstanding="40.00"))
        assert (await it.standing(), await it.reminders()) == (USUAL, len(USUAL))
        assert (await it.says("d7")).amount == "40.00"


async def test_new_contacts_revise_the_addresses(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        fact = moved(at("2026-11-21"))
        other = type(fact)(
            lender=fact.lender, borrower_ref=fact.borrower_ref, as_of=fact.as_of,
            contacts=tuple(type(each)(each.channel, f"{each.address}9") for each in fact.contacts),
        )  # fmt: skip
        await it.tell(other)
        assert await it.reminders() == len(USUAL)
        assert (await it.says("d7")).contacts == ((Channel.PUSH, "token-19"), (Channel.SMS, "+86139000012349"))


async def test_another_language_revises_what_is_said_and_the_first_is_kept_for_where_it_has_no_words(
    database: str,
) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        assert (await it.says("d7")).locale_of_plan is None
        await it.tell(replace(prefers(at("2026-11-21")), locale="fi"))
        assert (await it.standing(), await it.reminders()) == (USUAL, len(USUAL))
        says = await it.says("d7")
        assert (says.locale, says.locale_of_plan) == ("fi", "zh-CN")


async def test_another_due_date_is_said_by_what_goes_when_it_was_to_go(database: str) -> None:
    """A debit that failed says when, whichever of the days before it was the due one."""
    async with plans(database) as it:
        await it.tell(planned(), failed(at("2026-12-12", "08:00")), now=at("2026-12-12", "08:00"))
        await it.tell(rescheduled(dt.date(2026, 12, 11), as_of=at("2026-12-12", "08:30")))
        assert await it.hand.value("select count(*) from reminder where stage = 'due'") == 1
        assert (await it.says("due")).due_date == dt.date(2026, 12, 11)


async def test_other_hours_make_it_anew_at_another_time(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.tell(prefers(at("2026-11-21"), ("18:00", "19:00")))
        assert await it.standing() == USUAL
        times = await it.hand.connection.fetch(
            "select at at time zone 'Asia/Shanghai' as there from live where state = 'scheduled'"
        )
        assert {row["there"].hour for row in times} == {18}


async def test_what_is_in_hand_is_taken_back_when_it_would_say_what_is_no_longer_so(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        it.hand.now = at("2026-12-03", "14:00")
        worker = await it.hand.worker()
        (claimed,) = await it.hand.claim(worker)
        await it.tell(paid(it.hand.now, outstanding="40.00"))
        done = await it.hand.intend(worker, it.hand.intent(claimed))
        assert done.sendable == frozenset()
        (again,) = await it.hand.claim(worker)
        assert personal.decode(SEALER.open(again.sealed, again.id, personal.SEALED_FIELD)).amount == "40.00"


async def test_what_has_left_is_answered_for_when_it_is_stopped(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.leaves(at("2026-12-03", "14:00"))
        await it.tell(paid(it.hand.now))
        standing = await it.standing()
        assert standing.pop("d7") == "sending None"
        assert set(standing.values()) == {"cancelled paid"}
        answers = await it.hand.value("select count(*) from outbox where payload like '%too_late%'::bytea")
        assert answers == 1


async def test_another_plan_leaves_what_has_left_alone(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.leaves(at("2026-12-03", "14:00"))
        await it.tell(rescheduled(dt.date(2026, 12, 20), as_of=it.hand.now))
        standing = await it.standing()
        assert standing["d7"] == "sending None"
        assert standing["d3"] == "12-17"


@pytest.mark.parametrize("recorded", [False, True])
async def test_what_is_under_way_goes_no_further_by_a_plan_that_is_another(recorded: bool, database: str) -> None:
    """Its next contact would name a date that is no longer so."""
    async with plans(database) as it:
        await it.tell(planned())
        sent = await it.leaves(at("2026-12-03", "14:00"))
        if recorded:
            await it.became(*sent, AttemptState.ACCEPTED, None)
        await it.tell(rescheduled(dt.date(2026, 12, 20), as_of=it.hand.now))
        await it.became(*sent, AttemptState.UNDELIVERED, Failure.UNREACHABLE)
        assert (await it.standing())["d7"] == "undelivered ladder_closed"
        assert await it.hand.value("select count(*) from outbox where payload like '%too_late%'::bytea") == 0


async def test_consequences_are_named_once_they_are_so(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.tell(reported(at("2026-12-20")))
        assert (await it.standing())["overdue_late 01-09"] == "01-09"
        await it.tell(reported(at("2026-12-21"), withdrawn=True))
        assert (await it.standing())["overdue_late 01-09"] == "held fact_missing"
        await it.tell(reported(at("2026-12-22")))
        assert (await it.standing())["overdue_late 01-09"] == "01-09"
        assert await it.reminders() == len(USUAL)


async def test_a_direct_request_of_the_same_stage_keeps_it(database: str) -> None:
    async with plans(database) as it:
        key = stage_key("harbour", "b-1", "loan-1", 1, "d3", "")
        direct = it.hand.request(stage_key=key, send_at=at("2026-12-06"), not_after=at("2026-12-09"))
        await it.hand.read(direct)
        await it.tell(planned())
        assert await it.hand.value("select count(*) from reminder where stage = 'd3'") == 1
        assert await it.reminders() == len(USUAL)


async def test_a_plan_that_has_the_stage_keeps_it_from_who_asks_later(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        key = stage_key("harbour", "b-1", "loan-1", 1, "d3", "")
        asked = it.hand.request(stage_key=key, send_at=at("2026-12-06"), not_after=at("2026-12-09"))
        await it.hand.read(asked)
        assert await it.hand.state(asked) == ("suppressed", "duplicate_stage")
        # Nobody was contacted, and it is stopped: then whoever asks may.
        await it.tell(paid(at("2026-11-21")))
        again = it.hand.request(stage_key=key, send_at=at("2026-12-06"), not_after=at("2026-12-09"))
        await it.hand.read(again)
        assert await it.hand.state(again) == ("scheduled", None)


async def test_a_payment_that_bounced_makes_anew_what_is_still_good(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        await it.tell(paid(at("2026-12-04")))
        await it.tell(paid(at("2026-12-08", "19:59"), outstanding="100.00"))
        assert await it.standing() == {**USUAL, "d7": "cancelled paid", "d3": "12-08"}
        made = await it.reminders()
        await it.tell(paid(at("2026-12-08", "19:59"), outstanding="100.00"))
        assert await it.reminders() == made


async def test_in_whatever_order_facts_come_the_same_reminders_wait(database: str) -> None:
    facts: list[Fact] = [
        planned(), failed(at("2026-12-10")), paid(at("2026-12-11"), outstanding="40.00"), reported(at("2026-12-12")),
    ]  # fmt: skip
    async with plans(database) as it:
        await it.tell(*facts, now=at("2026-12-12"))
        one = await it.standing()
        await it.hand.clear()
        for fact in reversed(facts):
            await it.tell(fact, now=at("2026-12-12"))
        waiting = {name: when for name, when in (await it.standing()).items() if " " not in when}
        assert waiting == {name: when for name, when in one.items() if " " not in when}


async def test_a_lesson_of_an_instalment_that_is_paid_is_made_once(database: str) -> None:
    """He has agreed after he had paid the first of two: the tombstone of that payment stops no lesson."""
    later = dt.date(2027, 1, 10)
    async with plans(database) as it:
        await it.tell(planned(later, dt.date(2027, 2, 10)), paid(EARLY), back_in(EARLY, Program.EDUCATION))
        lessons = "select count(*) from live where stage = 'education' and state = 'scheduled'"
        assert await it.hand.value(lessons) == 4
        made = await it.reminders()
        await it.tell(failed(EARLY, instalment=2))
        assert (await it.hand.value(lessons), await it.reminders()) == (4, made)


async def test_a_lesson_is_told_once_whichever_instalment_is_the_first(database: str) -> None:
    first, second = dt.date(2026, 12, 10), dt.date(2027, 1, 10)
    async with plans(database) as it:
        await it.tell(planned(first, second), back_in(EARLY, Program.EDUCATION))
        it.hand.now = at("2026-11-22", "20:00")
        worker = await it.hand.worker()
        (claimed,) = await it.hand.claim(worker)
        assert (await it.hand.intend(worker, it.hand.intent(claimed))).sendable
        left = (Instalment(2, second, "100.00"),)
        await it.tell(replace(planned(as_of=at("2026-11-23")), instalments=left))
        lessons = await it.hand.connection.fetch(
            "select r.step, l.state::text from live l join reminder r on r.id = l.id where l.stage = 'education'"
        )
        others = ("ask_for_help", "pay_early", "complain")
        assert {tuple(row) for row in lessons} == {("spot_fraud", "sending"), *((each, "scheduled") for each in others)}


async def taught(it: Plans) -> dict[str, str]:
    """By lesson: of which debt it is, and how it stands; of those that are not over."""
    rows = await it.hand.connection.fetch(
        "select r.step, r.debt || ' ' || l.state from live l join reminder r on r.id = l.id where r.stage = 'education'"
    )
    assert len({row[0] for row in rows}) == len(rows)
    return dict(rows)


async def test_a_lesson_is_told_once_to_who_has_several_debts(database: str) -> None:
    """The debt that has it first has it, whichever was told first; what has left is told by no other any more."""
    three = dt.timedelta(days=3)
    async with plans(database) as it:
        await it.tell(planned(DUE + three, debt="loan-2"), back_in(EARLY, Program.EDUCATION))
        assert await taught(it) == dict.fromkeys(LESSONS, "loan-2 scheduled")
        await it.tell(planned())
        assert await taught(it) == dict.fromkeys(LESSONS, "loan-1 scheduled")
        await it.leaves(at("2026-11-22", "20:00"))
        await it.tell(paid(it.hand.now, None), planned(DUE + 2 * three, as_of=it.hand.now, debt="loan-3"))
        rest = dict.fromkeys(LESSONS[1:], "loan-2 scheduled")
        assert await taught(it) == {"spot_fraud": "loan-1 sending", **rest}


async def test_what_a_provider_refuses_for_the_borrower_is_not_made_at_every_fact(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        sent = await it.leaves(at("2026-12-03", "14:00"))
        await it.became(*sent, AttemptState.REJECTED, Failure.OPTED_OUT)
        await it.tell(failed(it.hand.now))
        assert (await it.standing())["d7"] == "suppressed opted_out"
