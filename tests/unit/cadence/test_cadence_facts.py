"""What is known does not depend on the order in which it was told, nor on how often."""

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from functools import reduce
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cadence.facts import Case, told
from schemas.repayments import Fact, Program, Stop
from schemas.vocabulary import Channel
from tests.unit.cadence.facts import (
    DUE,
    EARLY,
    SHANGHAI,
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

HOUR = dt.timedelta(hours=1)
# Few moments, so that two facts of one moment are common.
MOMENTS = st.integers(0, 3).map(lambda n: EARLY + n * HOUR)
DATES = st.integers(0, 2).map(lambda n: DUE + dt.timedelta(days=n))
DEBTS = st.sampled_from(["loan-1", "loan-2"])
STOPS = st.sampled_from([Stop.DISPUTED, Stop.DECEASED])
PROGRAMS = st.sampled_from(list(Program))
CHANNELS = st.sampled_from([None, Channel.SMS])
ZONES = ("Asia/Shanghai", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Chatham", "Etc/GMT+12")
AMOUNTS = st.sampled_from(["0", "40.00", "100.00"])

FACTS: st.SearchStrategy[Fact] = st.one_of(
    st.builds(lambda due, as_of, debt, amount: planned(due, as_of=as_of, debt=debt, amount=amount),
              DATES, MOMENTS, DEBTS, AMOUNTS),
    st.builds(lambda due, as_of, debt: rescheduled(due, as_of=as_of, debt=debt), DATES, MOMENTS, DEBTS),
    st.builds(failed, MOMENTS, st.integers(1, 2), DEBTS),
    st.builds(paid, MOMENTS, st.integers(1, 2), AMOUNTS, DEBTS),
    st.builds(lambda as_of, debt: paid(as_of, None, debt=debt), MOMENTS, DEBTS),
    st.builds(stopped, MOMENTS, STOPS, st.one_of(st.none(), DEBTS)),
    st.builds(resumed, MOMENTS, STOPS, st.one_of(st.none(), DEBTS)),
    st.builds(lambda as_of, withdrawn: reported(as_of, withdrawn=withdrawn), MOMENTS, st.booleans()),
    st.builds(lambda as_of, withdrawn: filed(as_of, withdrawn=withdrawn), MOMENTS, st.booleans()),
    st.builds(moved, MOMENTS, st.sampled_from([None, SHANGHAI, "Europe/Berlin"])),
    st.builds(lambda as_of, channel: prefers(as_of, channels=channel and (channel,)), MOMENTS, CHANNELS),
    st.builds(out, MOMENTS, PROGRAMS, CHANNELS),
    st.builds(back_in, MOMENTS, PROGRAMS, CHANNELS),
)  # fmt: skip


def known(facts: Iterable[Fact]) -> Case:
    return reduce(told, facts, Case())


@given(st.data(), st.lists(FACTS, max_size=8))
def test_any_order_and_any_repetition_tell_the_same(data: st.DataObject, facts: list[Fact]) -> None:
    again = data.draw(
        st.permutations([*facts, *data.draw(st.lists(st.sampled_from(facts), max_size=4) if facts else st.just([]))])
    )
    assert known(again) == known(facts)


def owed(*facts: Fact) -> Decimal:
    debt = known(facts).debts["loan-1"]
    assert debt.instalments is not None
    return debt.owed(debt.instalments.what[0])


@pytest.mark.parametrize(
    ("facts", "amount"),
    [
        ([planned()], "100.00"),
        ([planned(), paid(EARLY + HOUR, outstanding="40")], "40"),
        ([planned(), paid(EARLY + HOUR, outstanding="40"), paid(EARLY + 2 * HOUR)], "0"),
        # A plan that is told again with its first amounts does not undo a payment.
        ([planned(), paid(EARLY + HOUR), planned(as_of=EARLY + 5 * HOUR)], "0"),
        ([planned(), paid(EARLY + HOUR), rescheduled(DUE, as_of=EARLY + 5 * HOUR)], "0"),
        # A payment that bounced is told as what is owed then.
        ([planned(), paid(EARLY + HOUR), paid(EARLY + 2 * HOUR, outstanding="100")], "100"),
        ([planned(), paid(EARLY + HOUR, outstanding="500")], "100.00"),  # never more than was planned
        ([planned(), paid(EARLY + HOUR, None)], "0"),
        ([planned(), paid(EARLY, None)], "0"),  # of one moment, the one with less contact
        ([planned(as_of=EARLY + HOUR), paid(EARLY, None)], "100.00"),  # planned anew after all was paid
        ([planned(), paid(EARLY + HOUR, 2)], "100.00"),
    ],
)
def test_what_is_owed(facts: list[Fact], amount: str) -> None:
    assert owed(*facts) == owed(*reversed(facts)) == Decimal(amount)


def test_a_stop_ends_by_its_own_reason_only() -> None:
    facts: list[Fact] = [stopped(EARLY), stopped(EARLY, Stop.DECEASED), resumed(EARLY + HOUR)]
    assert known(facts).debts["loan-1"].stopped() is Stop.DECEASED
    assert known([*facts, resumed(EARLY + HOUR, Stop.DECEASED)]).debts["loan-1"].stopped() is None
    assert known([stopped(EARLY), resumed(EARLY)]).debts["loan-1"].stopped() is Stop.DISPUTED
    everything = known([stopped(EARLY, debt=None), resumed(EARLY + HOUR)])  # which lifts nothing of the borrower's
    assert (everything.borrower.stopped(), everything.debts["loan-1"].stopped()) == (Stop.DISPUTED, None)


def test_who_opts_out_of_one_thing_opts_out_of_nothing_else() -> None:
    asked = known([planned(), back_in(EARLY, Program.EDUCATION), out(EARLY, channel=Channel.SMS)]).borrower
    assert asked.opted_out(Program.REMINDERS, Channel.SMS)
    assert not asked.opted_out(Program.REMINDERS)
    assert not asked.opted_out(Program.REMINDERS, Channel.PUSH)
    assert not asked.opted_out(Program.EDUCATION)
    both = known([back_in(EARLY, Program.EDUCATION), out(EARLY, Program.EDUCATION)]).borrower
    assert both.opted_out(Program.EDUCATION)  # of one moment, the one with less contact


def test_what_was_told_for_nothing_else_says_nothing_else() -> None:
    case = known([planned(), moved(EARLY + HOUR, "Europe/Berlin", (Channel.SMS,)), prefers(EARLY, ("10:00", "12:00"))])
    assert case.borrower.timezone is not None
    assert case.borrower.contacts is not None
    assert (case.borrower.timezone.what, [each.channel for each in case.borrower.contacts.what]) == (
        "Europe/Berlin",
        [Channel.SMS],
    )
    assert known([planned(), moved(EARLY + HOUR)]).borrower.timezone == known([planned()]).borrower.timezone


@given(st.lists(st.integers(-3600 * 30, 3600 * 30), min_size=1, max_size=40), st.sampled_from(ZONES), DATES)
def test_of_debits_that_failed_no_first_of_a_day_is_forgotten(seconds: list[int], zone: str, due: dt.date) -> None:
    midnight = dt.datetime.combine(DUE, dt.time(), dt.UTC)
    moments = [midnight + dt.timedelta(seconds=each) for each in seconds]
    known = reduce(told, map(failed, moments), Case()).debts["loan-1"].failed[1]
    assert set(known) <= set(moments)

    def first(of: Iterable[dt.datetime]) -> dt.datetime | None:
        return min((each for each in of if each.astimezone(ZoneInfo(zone)).date() >= due), default=None)

    assert first(known) == first(moments)


def test_a_storm_of_debits_that_fail_leaves_little() -> None:
    case = reduce(told, (failed(EARLY + n * dt.timedelta(seconds=1)) for n in range(5000)), Case())
    assert len(case.debts["loan-1"].failed[1]) == 6
