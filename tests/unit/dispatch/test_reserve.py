"""Reserve: slots, the token bucket and the circuits, under a clock turned by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.reserve import Circuit, CircuitState, Reservation
from schemas.vocabulary import Failure, FailureScope

ANY = "due-soon"
OPENING = {Failure.BAD_CONFIG, Failure.THROTTLED, Failure.TRANSIENT, Failure.AMBIGUOUS}


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def reservation(time: Time, slots: int = 1000, rate: float | None = None, burst: int | None = None) -> Reservation:
    return Reservation(slots, rate, burst, time)


def open_by(it: Reservation, scope: FailureScope = FailureScope.ACCOUNT, template: str = ANY) -> None:
    it.failed(Failure.BAD_CONFIG, scope, template, None)


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


@pytest.mark.parametrize("scope", [FailureScope.ACCOUNT, FailureScope.SENDER, FailureScope.TEMPLATE])
def test_bad_configuration_opens_at_once_for_its_scope(scope: FailureScope) -> None:
    it = reservation(Time())
    open_by(it, scope)
    assert it.take(ANY) > 0
    assert (it.take("another") == 0.0) == (scope is FailureScope.TEMPLATE)


@pytest.mark.parametrize("failure", sorted(OPENING - {Failure.BAD_CONFIG}))
def test_others_open_after_the_threshold_in_a_row(failure: Failure) -> None:
    it = reservation(Time())
    for _ in range(Circuit().threshold - 1):
        it.failed(failure, FailureScope.ACCOUNT, ANY, None)
    assert it.take(ANY) == 0.0
    it.succeeded(ANY)
    it.failed(failure, FailureScope.ACCOUNT, ANY, None)
    assert it.take(ANY) == 0.0
    for _ in range(Circuit().threshold - 1):
        it.failed(failure, FailureScope.ACCOUNT, ANY, None)
    assert it.take(ANY) > 0


def test_an_explicit_retry_after_opens_at_once_and_for_so_long() -> None:
    time = Time()
    it = reservation(time)
    it.failed(Failure.THROTTLED, FailureScope.ACCOUNT, ANY, 60.0)
    assert it.take(ANY) == pytest.approx(60.0)
    time.now += 59.9
    assert it.take(ANY) > 0
    time.now += 0.2
    assert it.take(ANY) == 0.0


def test_a_date_sent_as_retry_after_does_not_close_the_provider_for_years() -> None:
    it = reservation(Time())
    it.failed(Failure.THROTTLED, FailureScope.ACCOUNT, ANY, 1_732_406_400.0)
    assert 0 < it.take(ANY) <= 3600


def test_a_later_short_failure_does_not_shorten_a_long_one() -> None:
    it = reservation(Time())
    it.failed(Failure.THROTTLED, FailureScope.ACCOUNT, ANY, 600.0)
    it.failed(Failure.THROTTLED, FailureScope.ACCOUNT, ANY, 1.0)
    assert it.take(ANY) == pytest.approx(600.0)


@pytest.mark.parametrize("failure", list(Failure))
def test_what_a_recipient_did_never_opens_a_circuit(failure: Failure) -> None:
    it = reservation(Time())
    for _ in range(100):
        it.failed(failure, FailureScope.RECIPIENT, ANY, 60.0)
    assert it.take(ANY) == 0.0


@pytest.mark.parametrize("failure", sorted(set(Failure) - OPENING))
@pytest.mark.parametrize("scope", list(FailureScope))
def test_failures_that_say_nothing_of_the_provider_never_open_a_circuit(failure: Failure, scope: FailureScope) -> None:
    it = reservation(Time())
    for _ in range(100):
        it.failed(failure, scope, ANY, 60.0)
    assert it.take(ANY) == 0.0


def half_open(time: Time) -> Reservation:
    it = reservation(time, slots=5, rate=100.0, burst=5)
    open_by(it)
    time.now += Circuit().cool_off
    return it


def test_after_the_cool_off_one_message_tries() -> None:
    it = half_open(Time())
    assert it.take(ANY) == 0.0
    assert it.take(ANY) > 0
    assert it.take("another") > 0


def test_a_probe_that_succeeds_closes_the_circuit() -> None:
    it = half_open(Time())
    it.take(ANY)
    it.succeeded(ANY)
    assert [it.take(ANY) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_probe_that_fails_opens_the_circuit_again() -> None:
    time = Time()
    it = half_open(time)
    it.take(ANY)
    time.now += 1
    it.failed(Failure.TRANSIENT, FailureScope.ACCOUNT, ANY, None)
    assert it.take(ANY) == pytest.approx(Circuit().cool_off)


def test_a_probe_that_never_reports_is_followed_by_another() -> None:
    """Its intent was refused, or the recipient was at fault: neither says anything about the provider."""
    time = Time()
    it = half_open(time)
    for _ in range(3):
        assert it.take(ANY) == 0.0
        it.failed(Failure.BAD_RECIPIENT, FailureScope.RECIPIENT, ANY, None)
        it.done()
        assert it.take(ANY) > 0
        time.now += Circuit().cool_off


def test_a_message_without_a_slot_is_no_probe() -> None:
    time = Time()
    it = reservation(time, slots=1)
    assert it.take(ANY) == 0.0
    open_by(it)
    time.now += Circuit().cool_off
    assert it.take(ANY) > 0  # no slot
    it.done()
    assert it.take(ANY) == 0.0


def test_a_message_whose_template_is_closed_is_no_probe_of_the_account() -> None:
    time = Time()
    it = reservation(time)
    open_by(it)
    time.now += Circuit().cool_off
    open_by(it, FailureScope.TEMPLATE, "closed")
    assert it.take("closed") > 0
    assert it.take("fine") == 0.0


def test_what_changes_is_told() -> None:
    time, told = Time(), []
    it = Reservation(5, None, None, time, lambda scope, state: told.append((scope, state)))
    open_by(it)
    it.succeeded(ANY)
    it.succeeded(ANY)
    assert told == [(FailureScope.ACCOUNT, CircuitState.OPEN), (FailureScope.ACCOUNT, CircuitState.CLOSED)]


Step = st.one_of(
    st.tuples(st.just("wait"), st.floats(0.1, 40)),
    st.tuples(st.just("take"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("fail"), st.tuples(st.sampled_from(list(Failure)), st.sampled_from(list(FailureScope)))),
    st.tuples(st.just("done"), st.none()),
    st.tuples(st.just("succeed"), st.sampled_from(["a", "b"])),
)


@given(st.lists(Step, max_size=60))
def test_no_history_closes_the_provider_for_ever(steps: list[tuple[str, object]]) -> None:
    """Whatever happened, with free slots and after the longest wait it tells, a message may go."""
    time = Time()
    it = reservation(time, slots=3, rate=5.0)
    for what, value in steps:
        if what == "wait":
            time.now += float(str(value))
        elif what == "take":
            it.take(str(value))
        elif what == "fail":
            assert isinstance(value, tuple)
            it.failed(value[0], value[1], "a", None)
        elif what == "done":
            if it.free < 3:
                it.done()
        else:
            it.succeeded(str(value))
        assert 0 <= it.free <= 3
    while it.free < 3:
        it.done()
    for _ in range(4):
        wait = it.take("a")
        if wait == 0:
            return
        time.now += wait + 0.001
    pytest.fail("still closed")
