"""The verdict on a contact: every rule alone, and which comes first when several apply."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cadence.calendar import Span
from gateway.policy import Cancel, Defer, Expire, Facts, Hold, Send, Suppress, decide
from schemas.vocabulary import Reason

NOW = dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(hours=1)
STOPS = [Reason.CANCELLED_REQUEST, Reason.CANCELLED_DEBT, Reason.CANCELLED_BORROWER]


def test_what_nothing_forbids_may_be_sent_until_its_time_is_over() -> None:
    assert decide(NOW, Facts(LATER)) == Send(LATER, "none")


@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_comes_first(stop: Reason) -> None:
    assert decide(NOW, Facts(NOW, frozen=True, cancelled=stop)) == Cancel(stop)


def test_a_freeze_comes_before_time() -> None:
    """What is frozen when its time is over ends by its timer, as what it is: never sent, and never deferred."""
    assert decide(NOW, Facts(NOW, frozen=True)) == Hold(Reason.FROZEN, "frozen")


def test_at_its_end_it_is_too_late() -> None:
    assert decide(NOW, Facts(NOW)) == Expire("not_after")
    assert isinstance(decide(NOW - dt.timedelta(microseconds=1), Facts(NOW)), Send)


def test_who_is_not_listed_is_left_out() -> None:
    assert decide(NOW, Facts(LATER, listed=False)) == Suppress(Reason.NOT_ALLOWLISTED, "not_allowlisted")


def test_the_allowlist_ends_only_what_would_have_been_sent() -> None:
    assert decide(NOW, Facts(LATER, cancelled=STOPS[0], listed=False)) == Cancel(STOPS[0])
    assert decide(NOW, Facts(LATER, frozen=True, listed=False)) == Hold(Reason.FROZEN, "frozen")
    assert decide(NOW, Facts(NOW, listed=False)) == Expire("not_after")


@given(
    seconds=st.integers(-1000, 1000),
    frozen=st.booleans(),
    cancelled=st.none() | st.sampled_from(STOPS),
    listed=st.booleans(),
)
def test_a_send_is_never_stopped_frozen_late_or_unlisted(
    seconds: int, frozen: bool, cancelled: Reason | None, listed: bool
) -> None:
    not_after = NOW + dt.timedelta(seconds=seconds)
    verdict = decide(NOW, Facts(not_after, frozen, cancelled, listed))
    free = cancelled is None and not frozen and not_after > NOW and listed
    assert isinstance(verdict, Send) == free
    if isinstance(verdict, Send):
        assert NOW < verdict.send_by <= not_after


def _span(start: float, end: float) -> Span:
    """In hours from now."""
    return Span(NOW + dt.timedelta(hours=start), NOW + dt.timedelta(hours=end))


DAYS = NOW + dt.timedelta(days=3)


@pytest.mark.parametrize(
    ("not_after", "spans", "verdict"),
    [
        (DAYS, [_span(-1, 2)], Send(_span(0, 2).end)),
        (LATER, [_span(-1, 2)], Send(LATER)),
        (DAYS, [_span(0, 2)], Send(_span(0, 2).end)),
        (DAYS, [_span(1, 2)], Defer(LATER, "outside_hours")),
        (DAYS, [_span(-2, 0), _span(1, 2)], Defer(LATER, "outside_hours")),
        (LATER, [_span(-2, 0), _span(1, 2)], Expire("outside_hours")),
        (DAYS, [_span(-2, 0)], Expire("outside_hours")),
        (DAYS, [], Expire("outside_hours")),
    ],
)
def test_outside_its_hours_it_waits_for_the_next_ones(
    not_after: dt.datetime, spans: list[Span], verdict: object
) -> None:
    assert decide(NOW, Facts(not_after, spans=spans)) == verdict


@pytest.mark.parametrize(
    ("not_after", "minutes"),
    [(DAYS, 5.0), (LATER + dt.timedelta(minutes=2), 1.0), (LATER + dt.timedelta(hours=9), 5.0)],
)
def test_what_waits_for_the_same_opening_does_not_leave_all_at_once(not_after: dt.datetime, minutes: float) -> None:
    verdict = decide(NOW, Facts(not_after, spans=[_span(1, 2)], share=0.5))
    assert verdict == Defer(LATER + dt.timedelta(minutes=minutes), "outside_hours")


def test_hours_come_after_everything_that_ends_it() -> None:
    assert decide(NOW, Facts(LATER, listed=False, spans=[])) == Suppress(Reason.NOT_ALLOWLISTED, "not_allowlisted")
    assert decide(NOW, Facts(LATER, cancelled=STOPS[0], spans=[])) == Cancel(STOPS[0])


HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("stale_at", "verdict"),
    [
        (None, Send(DAYS)),
        (NOW + HOUR, Send(NOW + HOUR)),
        (DAYS + HOUR, Send(DAYS)),
        (NOW, Hold(Reason.STALE_FACTS, "max_fact_age")),
        (NOW - HOUR, Hold(Reason.STALE_FACTS, "max_fact_age")),
    ],
)
def test_what_is_known_may_be_only_so_old(stale_at: dt.datetime | None, verdict: object) -> None:
    assert decide(NOW, Facts(DAYS, stale_at=stale_at)) == verdict


def test_it_leaves_within_its_hours_and_while_its_facts_are_fresh() -> None:
    spans = [_span(-1, 2)]
    assert decide(NOW, Facts(DAYS, spans=spans, stale_at=NOW + HOUR)) == Send(NOW + HOUR)
    assert decide(NOW, Facts(DAYS, spans=spans, stale_at=NOW + 3 * HOUR)) == Send(spans[0].end)


def test_stale_comes_after_stops_freezes_and_time_and_before_the_rest() -> None:
    assert decide(NOW, Facts(DAYS, cancelled=STOPS[0], stale_at=NOW)) == Cancel(STOPS[0])
    assert decide(NOW, Facts(DAYS, frozen=True, stale_at=NOW)) == Hold(Reason.FROZEN, "frozen")
    assert decide(NOW, Facts(NOW, stale_at=NOW)) == Expire("not_after")
    assert decide(NOW, Facts(DAYS, listed=False, stale_at=NOW)) == Hold(Reason.STALE_FACTS, "max_fact_age")
    assert decide(NOW, Facts(DAYS, spans=[], stale_at=NOW)) == Hold(Reason.STALE_FACTS, "max_fact_age")
