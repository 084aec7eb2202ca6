"""Every occasion of every instalment has one outcome, and it is the right one."""

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Sequence
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.cadence import loading
from gateway.cadence.facts import Case, told
from gateway.cadence.planning import Occurrence, Outcome, Skip, outcomes
from schemas.repayments import Fact, Program, Stop
from schemas.vocabulary import Channel
from tests.unit.cadence.facts import (
    DUE,
    EARLY,
    at,
    back_in,
    failed,
    filed,
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
from tests.unit.cadence.test_cadence_facts import FACTS

DEFAULT = loading.load().by_name["default"][-1]
NAMES = [each.name for each in DEFAULT.occasions]
HOUR = dt.timedelta(hours=1)
TAUGHT = {"spot_fraud": "2026-11-22", "ask_for_help": "2026-11-24", "pay_early": "2026-11-27", "complain": "2026-11-29"}
LESSONS = tuple(TAUGHT)


def known(facts: Iterable[Fact]) -> Case:
    return reduce(told, facts, Case())


def plan(*facts: Fact, now: dt.datetime = EARLY, debt: str = "loan-1") -> dict[str, Outcome]:
    """The outcomes of the first instalment, by occasion."""
    return {each.occasion: each for each in outcomes(DEFAULT, known(facts), debt, now) if each.key.instalment == 1}


def seen(outcome: Outcome) -> str:
    """A date where it goes out, else why it does not."""
    if isinstance(outcome, Skip):
        return outcome.reason
    return "fact_missing" if outcome.lacks else f"{outcome.date}"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            [planned()],
            {
                "d7": "2026-12-03", "d3": "2026-12-07", "due": "2026-12-11", "t1": "in_grace", "t3": "2026-12-13",
                "t7": "2026-12-17", "t15": "2026-12-25", "t30": "fact_missing",
            },
        ),
        # A debit that failed makes it late at once, and ends the grace.
        ([planned(), failed(at("2026-12-10"))], {"due": "2026-12-10", "t1": "2026-12-11"}),
        ([planned(), failed(at("2026-12-10")), failed(at("2026-12-11"))], {"due": "2026-12-10"}),
        ([planned(), failed(at("2026-12-09"))], {"due": "2026-12-11"}),  # before it was due: of another plan
        ([planned(), failed(at("2026-12-10"), 2)], {"due": "2026-12-11"}),
        ([planned(), reported(EARLY)], {"t30": "2027-01-09"}),
        ([planned(), filed(EARLY)], {"t30": "2027-01-09"}),
        ([planned(), reported(EARLY), reported(EARLY + HOUR, withdrawn=True)], {"t30": "fact_missing"}),
        ([planned(), paid(EARLY)], dict.fromkeys(NAMES, "paid")),
        ([planned(), paid(EARLY, None)], dict.fromkeys(NAMES, "paid")),
        ([planned(), paid(EARLY, 2)], {"d7": "2026-12-03"}),
        ([planned(), stopped(EARLY)], dict.fromkeys(NAMES, "stopped:disputed")),
        ([planned(), stopped(EARLY, Stop.DECEASED, None)], dict.fromkeys(NAMES, "stopped:deceased")),
        ([planned(), stopped(EARLY), resumed(EARLY + HOUR)], {"d7": "2026-12-03"}),
        ([planned(), stopped(EARLY, debt="loan-2")], {"d7": "2026-12-03"}),
        ([planned(), out(EARLY)], dict.fromkeys(NAMES, "opted_out")),
        ([planned(), out(EARLY), back_in(EARLY + HOUR)], {"d7": "2026-12-03"}),
        ([planned(), out(EARLY, Program.EDUCATION)], {"d7": "2026-12-03"}),
        # Nobody is taught who has not agreed; who has, until he refuses that, or everything.
        ([planned()], dict.fromkeys(LESSONS, "no_consent")),
        ([planned(), back_in(EARLY)], dict.fromkeys(LESSONS, "no_consent")),
        ([planned(), back_in(EARLY, Program.EDUCATION)], TAUGHT),
        ([planned(), back_in(EARLY, Program.EDUCATION), out(EARLY + HOUR)], dict.fromkeys(NAMES, "opted_out")),
        (
            [planned(), back_in(EARLY, Program.EDUCATION), out(EARLY + HOUR, Program.EDUCATION)],
            {"d7": "2026-12-03", **dict.fromkeys(LESSONS, "opted_out")},
        ),
        ([planned(channels=(Channel.SMS,)), back_in(EARLY, Program.EDUCATION)], dict.fromkeys(LESSONS, "no_contact")),
        # What is owed next is taught about when the first is paid; of what is owed no more nobody is.
        (
            [planned(DUE, dt.date(2027, 1, 10)), back_in(EARLY, Program.EDUCATION), paid(EARLY)],
            {"d7": "paid", **TAUGHT},
        ),
        ([planned(), back_in(EARLY, Program.EDUCATION), paid(EARLY)], dict.fromkeys(NAMES, "paid")),
        ([planned(channels=(Channel.VOICE,))], {"d7": "no_contact", "t7": "2026-12-17"}),
        ([planned(), prefers(EARLY, ("21:00", "23:00"))], {"d7": "no_window", "t30": "no_window"}),
        ([planned(), rescheduled(dt.date(2027, 1, 10), as_of=EARLY + HOUR)], {"d7": "2027-01-03"}),
        ([rescheduled(DUE, as_of=EARLY)], {"d7": "no_borrower"}),
        ([planned(), moved(EARLY, "Pacific/Kiritimati")], {"d7": "2026-12-03"}),
    ],
)  # fmt: skip
def test_what_follows(facts: Sequence[Fact], expected: dict[str, str]) -> None:
    found = {name: seen(outcome) for name, outcome in plan(*facts).items()}
    assert found.keys() == set(NAMES)
    assert {name: found[name] for name in expected} == expected


def occurrence(outcome: Outcome) -> Occurrence:
    assert isinstance(outcome, Occurrence), outcome
    return outcome


@pytest.mark.parametrize(
    ("told_at", "goes_at"),
    [
        (at("2026-12-10", "00:10"), at("2026-12-10", "09:00")),  # not at night
        (at("2026-12-10", "10:17"), at("2026-12-10", "10:17")),  # at once
        (at("2026-12-10", "19:59"), at("2026-12-10", "19:59")),
        (at("2026-12-10", "20:00"), at("2026-12-11", "09:00")),
        (at("2026-12-10", "23:50"), at("2026-12-11", "09:00")),
    ],
)
def test_a_failed_debit_is_told_at_once_within_the_hours(told_at: dt.datetime, goes_at: dt.datetime) -> None:
    due = occurrence(plan(planned(), failed(told_at), now=told_at)["due"])
    assert (due.at, due.pulled) == (goes_at, True)
    assert due.until > due.at


@pytest.mark.parametrize(
    ("days", "told_at", "goes_at"),
    [
        (1, at("2026-12-10", "23:30"), "past"),
        (2, at("2026-12-10", "23:30"), at("2026-12-11", "09:00")),
        (2, at("2026-12-11", "20:00"), "past"),
    ],
)
def test_a_failed_debit_of_a_nightly_file_is_told_while_due_is_good(
    days: int, told_at: dt.datetime, goes_at: dt.datetime | str
) -> None:
    """It failed in the morning, and is told when the hours of its day are over."""
    occasions = tuple(replace(each, good_for_days=days) if each.name == "due" else each for each in DEFAULT.occasions)
    cadence = replace(DEFAULT, occasions=occasions)
    found = outcomes(cadence, known([planned(), failed(at("2026-12-10", "08:00"))]), "loan-1", told_at)
    due = next(each for each in found if each.occasion == "due")
    assert (due.at if isinstance(due, Occurrence) else seen(due)) == goes_at


@pytest.mark.parametrize(
    ("now", "goes_at"),
    [
        (at("2026-12-03", "12:00"), None),  # in its spread, if that is still to come
        (at("2026-12-03", "19:30"), at("2026-12-03", "19:30")),
        (at("2026-12-03", "21:00"), at("2026-12-04", "09:00")),
        (at("2026-12-05", "19:59"), at("2026-12-05", "19:59")),
        (at("2026-12-05", "20:00"), "past"),
        (at("2026-12-09"), "past"),
    ],
)
def test_what_is_late_goes_out_while_it_is_good(now: dt.datetime, goes_at: dt.datetime | str | None) -> None:
    found = plan(planned(), now=now)["d7"]
    if isinstance(goes_at, str):
        assert seen(found) == goes_at
    else:
        first = occurrence(plan(planned())["d7"])
        assert occurrence(found).at == (goes_at or max(first.at, now))
        assert occurrence(found).until == first.until == at("2026-12-05", "20:00")


def test_the_hours_are_those_the_borrower_prefers_by_his_own_clock() -> None:
    evening = occurrence(plan(planned(), prefers(EARLY, ("18:00", "22:00")))["d7"])
    assert at("2026-12-03", "18:00") <= evening.at < evening.until == at("2026-12-05", "20:00")
    there = occurrence(plan(planned(), moved(EARLY, "America/New_York"))["d7"])
    assert 9 <= there.at.astimezone(zoneinfo.ZoneInfo("America/New_York")).hour < 13
    assert there.date == dt.date(2026, 12, 3)


def test_the_ladder_is_what_he_can_be_reached_by() -> None:
    def ladder(*facts: Fact) -> list[str]:
        return [rung.channel.value for rung in occurrence(plan(*facts)["d7"]).ladder]

    assert ladder(planned()) == ["push", "sms"]
    assert ladder(planned(channels=(Channel.SMS,))) == ["sms"]
    assert ladder(planned(), out(EARLY, channel=Channel.PUSH)) == ["sms"]
    assert ladder(planned(), prefers(EARLY, channels=(Channel.PUSH,))) == ["push"]


def test_a_stage_that_repeats_has_its_day_in_its_key_and_the_others_have_none() -> None:
    found = plan(planned())
    assert {name: each.key.step for name, each in found.items()} == {
        "d7": "", "d3": "", "due": "", "t1": "2026-12-11", "t3": "2026-12-13", "t7": "2026-12-17",
        "t15": "2026-12-25", "t30": "2027-01-09", **{name: name for name in LESSONS},
    }  # fmt: skip


def test_a_partial_payment_changes_what_is_asked_for_and_nothing_else() -> None:
    before, after = plan(planned())["d3"], plan(planned(), paid(EARLY, outstanding="40.00"))["d3"]
    assert (str(occurrence(before).amount), str(occurrence(after).amount)) == ("100.00", "40.00")
    assert occurrence(before).at == occurrence(after).at


def test_moments_are_spread_and_stay_where_they_are() -> None:
    days = [occurrence(plan(planned(debt=f"loan-{n}"), debt=f"loan-{n}")["d7"]).at for n in range(200)]
    opening = at("2026-12-03", "09:00")
    shares = sorted((each - opening) / (4 * HOUR) for each in days)
    assert 0 <= shares[0] < 0.05
    assert 0.95 < shares[-1] < 1
    assert 0.4 < shares[100] < 0.6
    assert occurrence(plan(planned(debt="loan-7"), stopped(EARLY, debt="x"), debt="loan-7")["d7"]).at == days[7]


@given(st.lists(FACTS, max_size=8), st.integers(-10, 45))
def test_whatever_is_known_nothing_is_left_out_and_nothing_is_early_late_or_at_night(
    facts: list[Fact], days: int
) -> None:
    now = at("2026-12-10") + dt.timedelta(days=days)
    case = known(facts)
    for debt, debt_facts in case.debts.items():
        found = outcomes(DEFAULT, case, debt, now)
        assert found == outcomes(DEFAULT, case, debt, now)
        number = 0 if debt_facts.instalments is None else len(debt_facts.instalments.what)
        assert len(found) == number * len(DEFAULT.occasions)
        assert len({(each.key.instalment, each.occasion) for each in found}) == len(found)
        for each in found:
            if isinstance(each, Skip):
                continue
            occasion = next(known for known in DEFAULT.occasions if known.name == each.occasion)
            assert now <= each.at < each.until
            assert case.borrower.timezone is not None
            zone = zoneinfo.ZoneInfo(case.borrower.timezone.what)
            there, latest = each.at.astimezone(zone), each.until.astimezone(zone)
            assert occasion.window.hours.opens <= there.time() < occasion.window.hours.closes
            assert each.date <= there.date() <= latest.date() <= each.date + dt.timedelta(days=occasion.good_for_days)
            assert each.amount > 0
            assert case.borrower.stopped() is debt_facts.stopped() is None
            assert not case.borrower.opted_out(Program.REMINDERS)
