"""Circuits: what opens them, for how long, and what may close them again, under a clock turned by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.circuit import Circuit, Circuits, CircuitState
from gateway.dispatch.reserve import Reservation
from schemas.vocabulary import Failure, FailureScope

ANY = "due-soon"
OPENING = {Failure.BAD_CONFIG, Failure.THROTTLED, Failure.TRANSIENT, Failure.AMBIGUOUS}


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sent(Reservation):
    """A reservation whose sends set out the moment they are reserved."""

    def __init__(self, time: Time, slots: int = 1000, rate: float | None = None, burst: int | None = None) -> None:
        super().__init__(slots, rate, burst, time, later=lambda seconds, what: None)

    def succeeded(self, template: str = ANY, started_at: float | None = None) -> None:
        super().succeeded(template, self.clock() if started_at is None else started_at)


def reservation(time: Time, slots: int = 1000, rate: float | None = None, burst: int | None = None) -> Sent:
    return Sent(time, slots, rate, burst)


def open_by(it: Reservation, scope: FailureScope = FailureScope.ACCOUNT, template: str = ANY) -> None:
    it.failed(Failure.BAD_CONFIG, scope, template, None)


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


def test_what_was_under_way_before_the_circuit_opened_does_not_close_it() -> None:
    """The usual case with many in flight: the refusal overtakes the answers to what was sent before it."""
    time = Time()
    it = reservation(time)
    older = time.now
    time.now += 0.1
    it.failed(Failure.THROTTLED, FailureScope.ACCOUNT, ANY, 30.0, older)
    time.now += 0.1
    it.succeeded(ANY, older)
    assert it.take(ANY) == pytest.approx(29.9)
    it.failed(Failure.BAD_RECIPIENT, FailureScope.RECIPIENT, ANY, None, older)
    assert it.take(ANY) == pytest.approx(29.9)


def test_a_success_with_another_template_leaves_the_senders_circuit_open() -> None:
    time = Time()
    it = reservation(time)
    older = time.now
    time.now += 0.1
    open_by(it, FailureScope.SENDER)
    it.succeeded("another", older)
    assert it.take("another") > 0


def test_come_back_at_once_is_no_reason_to_wait() -> None:
    it = reservation(Time())
    it.failed(Failure.THROTTLED, FailureScope.ACCOUNT, ANY, 0.0)
    assert it.take(ANY) == 0.0


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
    it.failed(Failure.TRANSIENT, FailureScope.ACCOUNT, ANY, None, time.now)
    assert it.take(ANY) == pytest.approx(Circuit().cool_off)


def test_a_failure_of_something_older_is_not_the_probes() -> None:
    time = Time()
    it = half_open(time)
    it.take(ANY)
    it.failed(Failure.AMBIGUOUS, FailureScope.ACCOUNT, ANY, None, time.now - 100)
    it.succeeded(ANY)
    assert it.take(ANY) == 0.0


def test_while_one_tries_the_others_come_back_soon() -> None:
    it = half_open(Time())
    assert it.take(ANY) == 0.0
    assert 0 < it.take(ANY) <= 1


def test_a_probe_that_never_reports_is_followed_by_another() -> None:
    """Its intent was refused: that says nothing about the provider."""
    time = Time()
    it = half_open(time)
    for _ in range(3):
        assert it.take(ANY) == 0.0
        it.done()
        assert it.take(ANY) > 0
        time.now += Circuit().cool_off


@pytest.mark.parametrize("failure", sorted(set(Failure) - OPENING))
def test_a_probe_that_fails_by_its_recipient_shows_the_provider_well(failure: Failure) -> None:
    time = Time()
    it = half_open(time)
    assert it.take(ANY) == 0.0
    it.failed(failure, FailureScope.RECIPIENT, ANY, None, time.now)
    assert it.take(ANY) == 0.0


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


def test_every_opening_is_told_once_and_the_state_can_be_asked_for() -> None:
    time, told = Time(), []
    it = Circuits(time, lambda scope, failure, seconds: told.append((scope, failure, seconds)))
    assert set(it.states().values()) == {CircuitState.CLOSED}
    for _ in range(3):
        it.failed(Failure.BAD_CONFIG, FailureScope.SENDER, ANY, None, time.now)
    assert told == [(FailureScope.SENDER, Failure.BAD_CONFIG, Circuit().cool_off)]
    assert it.states()[FailureScope.SENDER] is CircuitState.OPEN
    time.now += Circuit().cool_off + 1
    assert it.states()[FailureScope.SENDER] is CircuitState.HALF_OPEN  # nobody had to do anything for that
    it.begin(ANY)
    time.now += 1
    it.succeeded(ANY, time.now)
    assert set(it.states().values()) == {CircuitState.CLOSED}


def test_the_worst_circuit_of_a_scope_is_shown() -> None:
    time = Time()
    it = Circuits(time)
    it.failed(Failure.BAD_CONFIG, FailureScope.TEMPLATE, "a", None, time.now)
    it.failed(Failure.TRANSIENT, FailureScope.TEMPLATE, "b", None, time.now)
    assert it.states()[FailureScope.TEMPLATE] is CircuitState.OPEN
    assert it.states()[FailureScope.ACCOUNT] is CircuitState.CLOSED


def complained(it: Reservation, age: float = 0.0, scope: FailureScope = FailureScope.SENDER) -> None:
    it.failed_by_receipt(Failure.BAD_CONFIG, scope, ANY, age)


def test_what_a_receipt_complained_of_no_answer_closes() -> None:
    """The provider takes every message and says afterwards that it did not go out."""
    time = Time()
    it = reservation(time)
    complained(it)
    assert it.take(ANY) == pytest.approx(300)
    time.now += 300
    assert it.take(ANY) == 0.0  # the one that tries
    it.succeeded(ANY)
    assert it.take(ANY) == pytest.approx(300)
    time.now += 200
    complained(it, age=199)
    time.now += 100
    assert it.take(ANY) == pytest.approx(200)


def test_it_closes_when_nobody_has_complained_of_the_one_that_tried() -> None:
    time = Time()
    it = reservation(time)
    complained(it)
    for _ in range(2):
        time.now += 300
        assert it.take(ANY) == 0.0
    assert [it.take(ANY) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert it.circuits.states()[FailureScope.SENDER] is CircuitState.CLOSED


def test_a_complaint_of_what_was_sent_before_it_opened_says_nothing_of_the_one_that_tries() -> None:
    time = Time()
    it = reservation(time)
    complained(it)
    time.now += 300
    assert it.take(ANY) == 0.0
    complained(it, age=301)
    time.now += 300
    assert it.take(ANY) == 0.0
    assert it.take(ANY) == 0.0


def test_a_receipt_of_a_template_stops_that_template_and_one_of_a_recipient_nothing() -> None:
    it = reservation(Time())
    complained(it, scope=FailureScope.TEMPLATE)
    complained(it, scope=FailureScope.RECIPIENT)
    assert it.take(ANY) > 0
    assert it.take("another") == 0.0


Step = st.one_of(
    st.tuples(st.just("wait"), st.floats(0.1, 40)),
    st.tuples(st.just("take"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("fail"), st.tuples(st.sampled_from(list(Failure)), st.sampled_from(list(FailureScope)))),
    st.tuples(st.just("complain"), st.sampled_from(list(FailureScope))),
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
            it.failed(value[0], value[1], "a", None, time.now)
        elif what == "complain":
            it.failed_by_receipt(Failure.BAD_CONFIG, FailureScope(str(value)), "a", 1.0)
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
