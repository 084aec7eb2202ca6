"""A cadence on a calendar that nobody lives in."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cadence import loading
from gateway.cadence.difference import changes, moves
from gateway.cadence.merging import merge
from gateway.cadence.model import Cadence
from gateway.cadence.planning import Key, Occurrence
from gateway.cadence.rehearsal import Fate, Line, rehearse
from gateway.zones import in_zone
from schemas.repayments import Fact, Program
from schemas.vocabulary import Stage
from tests.unit.cadence.facts import DUE, EARLY, at, back_in, failed, paid, planned, rescheduled, resumed, stopped
from tests.unit.cadence.test_cadence_facts import FACTS
from tests.unit.cadence.test_cadence_planning import LESSONS

DEFAULT = loading.load().by_name["default"][-1]
END = at("2027-03-01")


def lines(*facts: Fact, end: dt.datetime = END) -> list[Line]:
    return list(rehearse(facts, lambda *_: DEFAULT, end).lines)


def fates(found: Sequence[Line], debt: str = "loan-1") -> dict[str, str]:
    return {each.occasion: each.reason or each.fate.value for each in found if each.debt == debt}


def test_the_usual_life_of_an_instalment() -> None:
    found = lines(
        planned(), failed(at("2026-12-10")), paid(at("2026-12-12"), outstanding="40.00"), paid(at("2026-12-20"))
    )
    assert fates(found) == {
        "d7": "contact", "d3": "contact", "due": "contact", "t1": "contact", "t3": "contact", "t7": "contact",
        "t15": "paid", "t30": "paid", **dict.fromkeys(LESSONS, "no_consent"),
    }  # fmt: skip
    assert {each.occasion: each.rule for each in found}["due"] == "debit_failed"
    assert {each.cadence for each in found} == {"default/1"}


def test_what_went_by_while_there_was_a_reason_keeps_it() -> None:
    found = fates(lines(planned(), stopped(at("2026-12-01")), resumed(at("2026-12-12"))))
    assert (found["d7"], found["d3"], found["t3"]) == ("stopped:disputed", "stopped:disputed", "contact")


def test_on_its_last_day_what_becomes_known_still_counts() -> None:
    found = fates(lines(planned(), stopped(at("2026-12-01")), paid(at("2026-12-13", "21:00"))))
    assert (found["d3"], found["t3"], found["t7"]) == ("stopped:disputed", "paid", "paid")


def test_what_has_gone_out_does_not_go_again_while_it_is_good() -> None:
    """Every fact plans anew, and d7 would be good for two days more."""
    first = {each.occasion: each.at for each in lines(planned())}
    again = {each.occasion: each.at for each in lines(planned(), paid(at("2026-12-04"), outstanding="40.00"))}
    assert again == first


def test_what_is_known_at_a_moment_counts_for_what_leaves_at_it() -> None:
    (d7,) = [each for each in lines(planned()) if each.occasion == "d7"]
    assert d7.at is not None
    assert fates(lines(planned(), paid(d7.at)))["d7"] == "paid"
    assert fates(lines(planned(), paid(d7.at + dt.timedelta(microseconds=1))))["d7"] == "contact"


def test_it_ends_where_it_is_told_to() -> None:
    found = fates(lines(planned(), end=at("2026-12-03", "00:00")))
    assert set(found.values()) == {"ahead", "in_grace", "fact_missing", "no_consent"}


def test_one_message_for_what_is_due_on_one_day() -> None:
    found = lines(planned(), planned(debt="loan-2"), planned(DUE + dt.timedelta(days=14), debt="loan-3"))
    assert fates(found, "loan-2")["d7"] == "loan-1/1/d7"
    # The later stage leads, whatever the hour of the others: t7 of two, d7 of the third.
    assert {
        debt: fates(found, debt)[name] for debt, name in (("loan-1", "t7"), ("loan-2", "t7"), ("loan-3", "d7"))
    } == {
        "loan-1": "contact",
        "loan-2": "loan-1/1/t7",
        "loan-3": "loan-1/1/t7",
    }
    per_day = Counter(each.at.date() for each in found if each.fate is Fate.CONTACT and each.at is not None)
    assert set(per_day.values()) == {1}


def test_a_lesson_yields_to_what_else_is_due_that_day_and_goes_on_the_next() -> None:
    agreed = back_in(EARLY, Program.EDUCATION)
    alone = {each.occasion: each for each in lines(planned(), agreed) if each.fate is Fate.CONTACT}
    assert alone["spot_fraud"].date == dt.date(2026, 11, 22)
    # Another debt has its d7 on the day of the lesson, and its d3 four days later.
    found = lines(planned(), planned(dt.date(2026, 11, 29), debt="loan-2"), agreed)
    lesson = next(each for each in found if each.occasion == "spot_fraud" and each.debt == "loan-1")
    assert lesson.fate is Fate.CONTACT
    assert lesson.at is not None
    assert alone["spot_fraud"].at is not None
    assert lesson.at == alone["spot_fraud"].at + dt.timedelta(days=1)
    # Where every one of its days has something else it is not told.
    busy = [planned(DUE - dt.timedelta(days=each), debt=f"busy-{each}") for each in range(7, 12)]
    assert fates(lines(planned(), *busy, agreed))["spot_fraud"] == "yielded"


@pytest.mark.parametrize("apart", [0, 3, 40])
def test_a_lesson_is_told_once_to_who_has_several_debts(apart: int) -> None:
    """As that of the debt that has it first, also where the other is planned when it has long been told."""
    other = planned(DUE + dt.timedelta(days=apart), debt="loan-2")
    found = lines(planned(), back_in(EARLY, Program.EDUCATION), other, paid(at("2026-12-01"), None))
    assert {fates(found)[each] for each in LESSONS} == {"contact"}
    assert {fates(found, "loan-2")[each] for each in LESSONS} == {"other_debt"}


def test_a_lesson_that_its_debt_is_paid_before_is_told_of_another() -> None:
    other = planned(DUE + dt.timedelta(days=9), debt="loan-2")
    found = lines(planned(), other, back_in(EARLY, Program.EDUCATION), paid(at("2026-11-25"), None))
    assert fates(found)["spot_fraud"] == "contact"
    assert (fates(found)["pay_early"], fates(found, "loan-2")["pay_early"]) == ("paid", "contact")


def test_of_one_instalment_only_the_most_urgent_is_told() -> None:
    """The debit fails after the hours of the day; on the next the first reminder of being late is due as well."""
    found = fates(lines(planned(), failed(at("2026-12-10", "22:00"))))
    assert (found["due"], found["t1"]) == ("loan-1/1/t1", "contact")


def test_another_date_does_not_remind_again_of_what_was_reminded_of() -> None:
    later = rescheduled(dt.date(2026, 12, 20), as_of=at("2026-12-08"))
    found = lines(planned(), later)
    assert Counter(each.occasion for each in found if each.fate is Fate.CONTACT)["d7"] == 1
    assert {each.occasion: each.date for each in found}["t3"] == dt.date(2026, 12, 23)


@given(st.lists(FACTS, max_size=8))
def test_no_occasion_is_told_twice_and_no_day_has_two_messages_for_nothing(facts: list[Fact]) -> None:
    found = lines(*facts)
    told = [each for each in found if each.fate in (Fate.CONTACT, Fate.MERGED)]
    assert len({(each.debt, each.instalment, each.stage, each.date) for each in told}) == len(told)
    assert all(each.at is not None and EARLY <= each.at < END for each in told)
    moments = sorted((each.at, each.zone) for each in found if each.fate is Fate.CONTACT and each.at is not None)
    for (first, zone), (second, other) in pairwise(moments):
        if zone == other and in_zone(first, zone).date() == in_zone(second, zone).date():
            # Only what became known in between can make a second message of a day.
            assert any(first < fact.as_of <= second for fact in facts)


def occurrence(stage: Stage, debt: str = "loan-1", instalment: int = 1, due: dt.date = DUE) -> Occurrence:
    key = Key(debt, instalment, stage, "")
    return Occurrence(key, stage.value, due, EARLY, EARLY, (), Decimal(1), EARLY, due, EARLY, ())


def what(each: Occurrence) -> tuple[Key, dt.date]:
    return each.key, each.due


def test_the_most_urgent_leads() -> None:
    d7, due, late = occurrence(Stage.D7, "loan-3"), occurrence(Stage.DUE, "loan-2"), occurrence(Stage.OVERDUE_LATE)
    merged = merge([d7, due, late], what)
    assert (merged.leader, merged.along, merged.superseded) == (late, (due, d7), ())
    same = occurrence(Stage.DUE)
    assert merge([same, late], what).superseded == (same,)
    older = occurrence(Stage.DUE, "loan-9", due=DUE - dt.timedelta(days=1))
    assert merge([due, older], what).leader is older


def other(**values: object) -> Cadence:
    return msgspec.convert({**msgspec.to_builtins(DEFAULT), "version": 2, **values}, Cadence, strict=False)


def test_what_another_version_changes() -> None:
    occasions = [msgspec.to_builtins(each) for each in DEFAULT.occasions if each.name != "t30"]
    (d3,) = [place for place, each in enumerate(occasions) if each["name"] == "d3"]
    occasions[d3] = {**occasions[d3], "days": -4}
    new = other(occasions=occasions, grace_days=0)
    found = changes(DEFAULT, new)
    assert [(each.occasion, each.field) for each in found] == [("", "grace_days"), ("d3", "days"), ("t30", "")]
    assert changes(DEFAULT, other()) == []
    facts = [planned()]
    was, becomes = lines(*facts), list(rehearse(facts, lambda *_: new, END).lines)
    moved = {each.occasion for move in moves(was, becomes) for each in (move.was, move.becomes) if each is not None}
    assert moved == {"d3", "due", "t1", "t30"}
    assert moves(was, was) == []


@pytest.mark.parametrize("facts", [[], [paid(EARLY)], [stopped(EARLY)]])
def test_without_a_plan_there_is_nothing(facts: list[Fact]) -> None:
    assert lines(*facts) == []
