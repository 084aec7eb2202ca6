"""The funnel says no: to a reminder that is missing, to one that nobody planned, and to sums that are off."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import replace

import msgspec
import pytest
from rich.console import Console

from gateway.cadence.loading import PACKAGED, load
from gateway.dev.lapse.funnel import Funnel, Key, Told, read
from gateway.dev.lapse.play import event
from gateway.ledger.occasions import Standing
from schemas.repayments import Fact, Program
from schemas.vocabulary import Channel
from tests.unit.cadence import facts
from tests.unit.cadence.test_cadence_planning import LESSONS

CADENCE = load(PACKAGED).version("default", 1)
assert CADENCE is not None
NOW = facts.EARLY
SECOND = dt.date(2027, 1, 10)


def told(*each: Fact) -> list[Told]:
    return [Told(fact.as_of, fact) for fact in each]


PLAN = told(
    facts.planned(facts.DUE, SECOND), facts.paid(facts.at("2026-12-04")), facts.failed(facts.at("2027-01-10"), 2)
)


def stands(story: list[Told], **state: str) -> list[Standing]:
    """What a ledger would hold that has made what was wanted, and nothing else."""
    assert CADENCE is not None
    found = Funnel.of(story, CADENCE, tuple(Channel), [])
    return [
        Standing(*key, state.get(each.occasion, "delivered"), None, 1)
        for key, each in found.wanted.items()
        if each.made
    ]


def funnel(story: list[Told], ledger: list[Standing]) -> Funnel:
    assert CADENCE is not None
    return Funnel.of(story, CADENCE, tuple(Channel), ledger)


def test_instalments_times_occasions_are_reminders_and_skips() -> None:
    found = funnel(PLAN, stands(PLAN))
    assert found.problems() == []
    sums = found.sums()
    assert (sums["instalments"], sums["occasions"], sums["reminders"]) == (2, 20, 15)
    # Two times eight and four lessons, to which he has not agreed.  The first was paid early: nobody was a day late.
    assert sums["skips"] == {"no_consent": 4, "paid": 1}


def test_a_lesson_is_there_once_for_a_borrower_however_many_debts_he_has() -> None:
    agreed = facts.back_in(facts.at("2026-11-20", "10:01"), Program.EDUCATION)
    story = told(facts.planned(), facts.planned(SECOND, debt="loan-2", as_of=facts.at("2026-11-20", "10:02")), agreed)
    ledger = stands(story)
    assert sorted(each.step for each in ledger if each.stage == "education") == sorted(LESSONS)
    found = funnel(story, ledger)
    assert found.problems() == []
    assert found.sums()["occasions"] == 2 * 8 + 4


def test_what_is_rescheduled_is_planned_again_where_it_has_a_date_of_its_own() -> None:
    later = facts.rescheduled(facts.DUE + dt.timedelta(days=14), SECOND, as_of=facts.at("2026-12-01"))
    story = [*PLAN[:1], *told(later)]
    found = funnel(story, stands(story))
    assert found.problems() == []
    assert found.sums()["occasions"] == 20 + 5


def test_a_skip_keeps_the_reason_it_had_when_it_went_by() -> None:
    paid_later = facts.paid(facts.at("2027-01-20"), None)
    story = [*PLAN[:1], *told(facts.failed(facts.at("2027-01-10"), 2), paid_later)]
    found = funnel(story, stands(story))
    assert found.skips == {"in_grace": 1, "no_consent": 4}


def test_a_reminder_that_is_missing_is_a_problem() -> None:
    ledger = stands(PLAN)
    assert funnel(PLAN, ledger[1:]).problems() == [
        "20 occasions, but 14 reminders and 5 skips", "b-1/loan-1/1/d7: was to be a reminder, and there is none",
    ]  # fmt: skip


def test_a_reminder_that_was_none_is_a_problem() -> None:
    key = next(key for key, each in funnel(PLAN, []).wanted.items() if each.why == "paid" and not each.made)
    extra = Standing(*key, "delivered", None, 1)
    assert funnel(PLAN, [*stands(PLAN), extra]).problems() == [
        "20 occasions, but 16 reminders and 5 skips",
        f"b-1/loan-1/1/overdue_early/{key.step}: there is a reminder, but it was none: paid",
    ]


def test_a_reminder_that_nobody_planned_is_a_problem() -> None:
    extra = Standing("b-1", "loan-9", 1, "d7", "", "delivered", None, 1)
    found = funnel(PLAN, [*stands(PLAN), extra])
    assert "b-1/loan-9/1/d7: a reminder that no plan asks for" in found.problems()
    assert found.table().row_count  # it is shown all the same


def test_a_planner_that_leaves_something_out_is_a_problem() -> None:
    found = funnel(PLAN, stands(PLAN))
    left = {key: each for key, each in found.wanted.items() if key.stage != "d7"}
    standing = {key: each for key, each in found.standing.items() if key.stage != "d7"}
    assert replace(found, wanted=left, standing=standing).problems() == ["20 occasions, but 13 reminders and 5 skips"]


def test_made_anew_are_counted_apart() -> None:
    ledger = stands(PLAN)
    twice = [msgspec.structs.replace(ledger[0], made=3), *ledger[1:]]
    found = funnel(PLAN, twice)
    assert found.problems() == []
    assert found.sums()["made_anew"] == 2


def test_the_table_shows_every_state_and_reason_once() -> None:
    ledger = [msgspec.structs.replace(each, state="suppressed", reason="merged_into") for each in stands(PLAN)]
    out = io.StringIO()
    Console(file=out, width=200).print(funnel(PLAN, ledger).table())
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "suppressed: merged_into 2 2 2 1 2 2 2 2 15" in lines
    assert "skipped: paid 1 1" in lines
    assert "= 2 instalments × 8 occasions + 1 borrowers × 4 lessons 1 1 1 1 2 2 2 2 2 2 2 2 20" in lines


@pytest.mark.parametrize("fact", [each.fact for each in PLAN])
def test_facts_are_read_as_they_were_told(fact: Fact) -> None:
    assert read([event("fact-1", fact, NOW)]) == [Told(NOW, fact)]


def test_keys_name_one_business_key() -> None:
    assert Key("b-1", "a", 1, "d7", "") in funnel(told(facts.planned(debt="a")), []).wanted
