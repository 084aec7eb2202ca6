"""The verdict on a contact: every rule alone, and which comes first when several apply."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy import Cancel, Expire, Facts, Hold, Send, Suppress, decide
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
