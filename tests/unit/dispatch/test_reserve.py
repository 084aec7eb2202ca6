"""Reserve: slots, the token bucket and the lines of those who wait for them, under a clock turned by hand."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.reserve import Reservation
from schemas.vocabulary import Failure, FailureScope, Lane

ANY = "due-soon"


class Time:
    """A clock turned by hand, with the timers that were set by it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, what))

    def passes(self, seconds: float) -> None:
        """Moves on and fires what is due on the way, in order."""
        end = self.now + seconds
        while due := sorted((each for each in self.timers if each[0] <= end), key=lambda each: each[0]):
            self.timers.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()
        self.now = end


def reservation(time: Time, slots: int = 1000, rate: float | None = None, burst: int | None = None) -> Reservation:
    return Reservation(slots, rate, burst, time, later=time.later)


def test_slots_are_given_out_once_and_come_back() -> None:
    it = reservation(Time(), slots=2)
    assert [it.take(ANY), it.take(ANY)] == [0.0, 0.0]
    assert it.take(ANY) > 0
    assert it.free == 0
    it.done()
    assert it.take(ANY) == 0.0


def test_the_bucket_gives_its_burst_and_then_its_rate() -> None:
    time = Time()
    it = reservation(time, rate=10.0, burst=3)
    assert [it.take(ANY) for _ in range(3)] == [0.0, 0.0, 0.0]
    wait = it.take(ANY)
    assert wait == pytest.approx(0.1)
    time.now += wait + 1e-9
    assert it.take(ANY) == 0.0
    assert it.take(ANY) > 0


def test_a_slow_rate_still_sends() -> None:
    time = Time()
    it = reservation(time, rate=0.5)
    assert it.take(ANY) == 0.0
    assert it.take(ANY) == pytest.approx(2.0)


@given(
    rate=st.floats(0.5, 50),
    burst=st.integers(1, 20),
    steps=st.lists(st.floats(0, 3), max_size=60),
)
def test_the_rate_holds_over_every_span(rate: float, burst: int, steps: list[float]) -> None:
    time = Time()
    it = reservation(time, rate=rate, burst=burst)
    taken = 0
    for step in steps:
        time.now += step
        while it.take(ANY) == 0.0:
            taken += 1
        assert taken <= burst + (time.now - 1000.0) * rate + 1e-6


def test_a_message_without_a_slot_takes_no_token() -> None:
    time = Time()
    it = reservation(time, slots=1, rate=1.0, burst=2)
    assert it.take(ANY) == 0.0
    for _ in range(5):
        assert it.take(ANY) > 0
    it.done()
    assert it.take(ANY) == 0.0


# --- the lines --------------------------------------------------------------------------------------------------------


class Line:
    """Who asked, and what each was told: in order."""

    def __init__(self, it: Reservation) -> None:
        self.it = it
        self.told: list[tuple[str, float]] = []

    def ask(self, name: str, lane: Lane = Lane.BULK, template: str = ANY) -> float | None:
        return self.it.ask(template, lane, lambda wait: self.told.append((name, wait)))


def test_a_free_slot_is_given_at_once_and_the_next_one_when_it_comes_back() -> None:
    line = Line(reservation(Time(), slots=1))
    assert line.ask("first") == 0.0
    assert line.ask("second") is None
    assert line.told == []
    line.it.done()
    assert line.told == [("second", 0.0)]


def test_urgent_goes_before_whatever_waits() -> None:
    line = Line(reservation(Time(), slots=1))
    line.ask("in the way")
    for name in ("bulk 1", "bulk 2"):
        assert line.ask(name) is None
    assert line.ask("urgent", Lane.URGENT) is None
    for _ in range(3):
        line.it.done()
    assert [name for name, _ in line.told] == ["urgent", "bulk 1", "bulk 2"]


def test_nobody_overtakes_those_of_his_lane() -> None:
    time = Time()
    line = Line(reservation(time, rate=10.0, burst=1))
    assert line.ask("first") == 0.0
    assert line.ask("second") is None
    time.passes(0.15)  # the token for the second came, and the next is on its way
    assert line.ask("third") is None
    time.passes(1)
    assert [name for name, _ in line.told] == ["second", "third"]


def test_tokens_serve_the_line_at_their_rate() -> None:
    time = Time()
    line = Line(reservation(time, rate=10.0, burst=1))
    line.ask("first")
    for name in "abcde":
        line.ask(name)
    time.passes(0.25)
    assert [name for name, _ in line.told] == ["a", "b"]
    time.passes(0.3)
    assert [name for name, wait in line.told if wait == 0] == ["a", "b", "c", "d", "e"]


def test_who_waits_too_long_is_sent_back_and_holds_nothing() -> None:
    time = Time()
    line = Line(reservation(time, slots=1))
    line.ask("in the way")
    line.ask("patient")
    time.passes(5)
    ((name, wait),) = line.told
    assert name == "patient"
    assert wait > 0
    line.it.done()
    assert line.it.free == 1


def test_those_who_are_sent_back_are_told_of_different_tokens() -> None:
    """A hundred for one message a second: if all came for the next token, they would be written over and over."""
    time = Time()
    it = reservation(time, rate=1.0, burst=1)
    told: list[float] = []
    for _ in range(100):
        it.ask(ANY, Lane.BULK, told.append)
    time.passes(2)
    waits = sorted(each for each in told if each > 0)
    assert len(waits) >= 97
    assert all(later - sooner >= 0.99 for sooner, later in pairwise(waits[:50]))
    assert waits[-1] <= 61


def test_a_circuit_that_opens_sends_the_line_back() -> None:
    time = Time()
    line = Line(reservation(time, slots=1))
    line.ask("in the way")
    line.ask("waiting")
    line.it.failed(Failure.BAD_CONFIG, FailureScope.ACCOUNT, ANY)
    line.it.done()
    ((name, wait),) = line.told
    assert (name, wait > 1) == ("waiting", True)
    assert line.it.free == 1
    seconds = line.ask("late")
    assert seconds is not None
    assert seconds > 1


def test_a_closed_template_does_not_stand_in_the_way_of_the_others() -> None:
    time = Time()
    line = Line(reservation(time, slots=1))
    line.ask("in the way")
    line.ask("closed", template="closed")
    line.ask("fine")
    line.it.failed(Failure.BAD_CONFIG, FailureScope.TEMPLATE, "closed")
    line.it.done()
    assert [(name, wait > 0) for name, wait in line.told] == [("closed", True), ("fine", False)]


@given(
    slots=st.integers(1, 3),
    rate=st.one_of(st.none(), st.floats(1, 20)),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.sampled_from(list(Lane))),
            st.tuples(st.just("done"), st.none()),
            st.tuples(st.just("wait"), st.floats(0.01, 0.7)),
        ),
        max_size=60,
    ),
)
def test_everybody_is_told_exactly_once_and_no_slot_is_lost(
    slots: int, rate: float | None, steps: list[tuple[str, object]]
) -> None:
    time = Time()
    line = Line(reservation(time, slots=slots, rate=rate))
    asked = granted = finished = 0
    for what, value in steps:
        if what == "ask":
            assert isinstance(value, Lane)
            asked += 1
            answer = line.ask(str(asked), value)
            granted += answer == 0
            assert answer is None or answer == 0  # no circuit here
        elif what == "done" and finished < granted + sum(wait == 0 for _, wait in line.told):
            finished += 1
            line.it.done()
        elif what == "wait":
            time.passes(float(str(value)))
        in_use = granted + sum(wait == 0 for _, wait in line.told) - finished
        assert in_use == slots - line.it.free
        assert 0 <= line.it.free <= slots
    time.passes(10)
    names = [name for name, _ in line.told]
    assert len(names) == len(set(names)) == asked - granted
