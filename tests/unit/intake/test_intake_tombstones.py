"""What facts leave for reminders that are requested: the same tombstones in whatever order they are told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gateway.cadence.facts import Case, told
from gateway.intake.tombstones import changed
from gateway.ledger.tombstones import Kind, Stone
from schemas.repayments import Fact, Program, Stop
from schemas.vocabulary import Channel
from tests.unit.cadence.facts import EARLY, back_in, failed, out, paid, planned, resumed, stopped

HOUR = dt.timedelta(hours=1)


def standing(facts: Iterable[Fact]) -> dict[Stone, dt.datetime]:
    """What stands in the end: each change as the ledger makes it, one fact at a time."""
    case, stones = Case(), dict[Stone, dt.datetime]()
    for fact in facts:
        was, case = case, told(case, fact)
        change = changed(was, case)
        for stone in change.lifted:
            del stones[stone]
        if (agreed := change.buried.get(Stone(Kind.OPTED_IN))) is not None and Stone(Kind.OPTED_OUT) in stones:
            assert stones.pop(Stone(Kind.OPTED_OUT)) < agreed
        stones |= change.buried
    return stones


def test_each_stop_leaves_its_own() -> None:
    late = EARLY + HOUR
    assert standing([paid(EARLY), paid(late, 2), paid(late, None, debt="loan-2")]) == {
        Stone(Kind.PAID, "loan-1", 1): EARLY, Stone(Kind.PAID, "loan-1", 2): late, Stone(Kind.PAID, "loan-2"): late,
    }  # fmt: skip
    assert standing([stopped(EARLY), stopped(late, debt=None)]) == {
        Stone(Kind.STOPPED, "loan-1"): EARLY, Stone(Kind.STOPPED): late,
    }  # fmt: skip
    assert standing([out(EARLY), out(late, channel=Channel.SMS)]) == {
        Stone(Kind.OPTED_OUT): EARLY, Stone(Kind.CHANNEL_OUT, "sms"): late,
    }  # fmt: skip


def test_what_stops_nothing_leaves_nothing() -> None:
    assert standing([planned(), failed(EARLY), paid(EARLY, outstanding="0.01")]) == {}
    assert standing([out(EARLY, Program.EDUCATION), out(EARLY, Program.EDUCATION, Channel.SMS)]) == {}


def test_a_payment_that_bounced_is_none() -> None:
    assert standing([paid(EARLY), paid(EARLY + HOUR, outstanding="100.00")]) == {}


def test_a_stop_stands_until_the_last_of_its_reasons_is_resumed() -> None:
    facts: list[Fact] = [
        stopped(EARLY), stopped(EARLY + HOUR, Stop.HARDSHIP), resumed(EARLY + 2 * HOUR, Stop.HARDSHIP),
    ]  # fmt: skip
    assert standing(facts) == {Stone(Kind.STOPPED, "loan-1"): EARLY}
    assert standing([*facts, resumed(EARLY + HOUR)]) == {}


def test_who_agrees_again_is_remembered_by_when_he_did() -> None:
    assert standing([out(EARLY), back_in(EARLY + HOUR)]) == {Stone(Kind.OPTED_IN): EARLY + HOUR}
    assert standing([out(EARLY), back_in(EARLY)]) == {Stone(Kind.OPTED_OUT): EARLY}
    assert standing([out(EARLY, channel=Channel.SMS), back_in(EARLY + HOUR, channel=Channel.SMS)]) == {}


_MOMENTS = st.integers(0, 3).map(lambda hours: EARLY + hours * HOUR)
_FACTS = st.one_of(
    st.builds(paid, _MOMENTS, st.sampled_from((None, 1, 2)), st.just("0")),
    st.builds(paid, _MOMENTS, st.sampled_from((1, 2)), st.sampled_from(("0", "5"))),
    st.builds(stopped, _MOMENTS, st.sampled_from((Stop.DISPUTED, Stop.MINOR)), st.sampled_from((None, "loan-1"))),
    st.builds(resumed, _MOMENTS, st.sampled_from((Stop.DISPUTED, Stop.MINOR)), st.sampled_from((None, "loan-1"))),
    st.builds(out, _MOMENTS, st.sampled_from(Program), st.sampled_from((None, Channel.SMS))),
    st.builds(back_in, _MOMENTS, st.sampled_from(Program), st.sampled_from((None, Channel.SMS))),
)


@given(st.lists(_FACTS, max_size=8).flatmap(lambda facts: st.tuples(st.just(facts), st.permutations(facts + facts))))
def test_any_order_and_any_repetition_leave_the_same(orders: tuple[list[Fact], list[Fact]]) -> None:
    assert standing(orders[0]) == standing(orders[1])
