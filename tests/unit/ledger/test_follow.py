"""What follows: the design's table line by line, and rules that hold in every situation there can be."""

import datetime as dt
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.ledger import follow, queueing, waiting
from gateway.ledger.standing import LADDER_CHANNEL, Attempt, Move, Queue, Rules, Situation
from gateway.ledger.states import FAILED, NO_CONTACT, OPEN, REACHED, reminder_moves
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Channel, Failure, Lane, Reason
from schemas.vocabulary import ReminderState as R

NOW = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
RULES = Rules(resend=frozenset({("push-1", "due")}), receipt_window={"sms-1": 24 * HOUR})
PROVIDER = {Channel.SMS: "sms-1", Channel.PUSH: "push-1", Channel.VOICE: "voice-1"}
QUEUES = {
    R.SCHEDULED: [Queue.DUE, Queue.CLAIM],
    R.HELD: [Queue.TIMER],
    R.SENDING: [Queue.CLAIM],
    R.AWAITING: [Queue.TIMER],
}
STOPS = [Reason.CANCELLED_REQUEST, Reason.CANCELLED_DEBT, Reason.CANCELLED_BORROWER]


def attempt(state: A, rung: int = 0, ladder: str = "s", id_: int = 1, failure: Failure | None = None) -> Attempt:
    channel = LADDER_CHANNEL[ladder[rung]]
    final = NOW if state not in OPEN else None
    return Attempt(id_, rung, channel, PROVIDER[channel], state, NOW - HOUR, failure, final)


def situation(state: R = R.SENDING, *attempts: Attempt, ladder: str = "s", **more: object) -> Situation:
    values: dict[str, object] = {
        "id": 5, "subject": b"s" * 16, "lender": "acme", "source": "core", "request_id": "r-1", "stage": "due",
        "lane": Lane.BULK,
        "ladder": ladder, "not_after": NOW + 8 * HOUR, "state": state, "reason": None, "seq": 3, "at": NOW - HOUR,
        "queue": None if state.final else QUEUES[state][0], "attempts": attempts,
        "attempt": attempts[-1].id if attempts else None, "rung": attempts[-1].rung if attempts else 0,
    }  # fmt: skip
    return Situation(**(values | more))  # type: ignore[arg-type]  # a table of values


def after(state: A, failure: Failure | None = None, ladder: str = "sv", **more: object) -> Move:
    """The move of a reminder that is sending, once its only attempt has become `state`."""
    own = attempt(state, ladder=ladder, failure=failure)
    move = follow.after_attempt(situation(R.SENDING, own, ladder=ladder, **more), own, NOW, RULES)
    assert move is not None
    return move


# --- several attempts at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("current", sorted(FAILED | {A.SENT, A.ACCEPTED, A.UNKNOWN}))
@pytest.mark.parametrize("first", [0, 1])
def test_a_delivery_outweighs_whatever_else_came_with_it(current: A, first: int) -> None:
    """Two receipts in one group, in either order: the sms arrived after all, and nobody picked up the phone."""
    both = [attempt(A.DELIVERED, 0, "svp", 1), attempt(current, 1, "svp", 2, Failure.UNREACHABLE)]
    was = situation(R.AWAITING, *both, ladder="svp")
    move = follow.after_attempts(was, [both[first], both[1 - first]], NOW, RULES)
    assert move is not None
    assert (move.state, move.queue) == (R.DELIVERED, None)


@pytest.mark.parametrize("first", [0, 1])
def test_a_delivery_outweighs_the_rest_after_the_end_too(first: int) -> None:
    both = [attempt(A.DELIVERED, 0, "sv", 1), attempt(A.BUSY, 1, "sv", 2)]
    was = situation(R.UNCONFIRMED, *both, ladder="sv")
    move = follow.after_attempts(was, [both[first], both[1 - first]], NOW, RULES)
    assert move is not None
    assert (move.state, move.correction) == (R.DELIVERED, True)


@pytest.mark.parametrize("first", [0, 1])
def test_without_a_delivery_the_current_attempt_decides(first: int) -> None:
    both = [attempt(A.UNDELIVERED, 0, "svp", 1), attempt(A.BUSY, 1, "svp", 2)]
    was = situation(R.AWAITING, *both, ladder="svp")
    move = follow.after_attempts(was, [both[first], both[1 - first]], NOW, RULES)
    assert move is not None
    assert (move.state, move.reason, move.rung) == (R.SCHEDULED, Reason.NEXT_CONTACT, 2)


# --- the design's table -----------------------------------------------------------------------------------------------

NEXT = (R.SCHEDULED, Reason.NEXT_CONTACT, 1)
LATER = (R.SCHEDULED, Reason.RETRY, 0)
TABLE = {
    Failure.BAD_RECIPIENT: NEXT,
    Failure.UNREACHABLE: NEXT,
    Failure.BAD_CONTENT: NEXT,
    Failure.TRANSIENT: LATER,
    Failure.THROTTLED: LATER,
    Failure.OUTSIDE_WINDOW: LATER,
    Failure.BAD_CONFIG: LATER,
    Failure.OPTED_OUT: (R.SUPPRESSED, Reason.OPTED_OUT, 0),
    Failure.BUG: (R.HELD, Reason.BUG, 0),
}


def test_every_failure_has_its_line() -> None:
    assert set(TABLE) | {Failure.AMBIGUOUS} == set(Failure)


@pytest.mark.parametrize("failure", list(TABLE))
@pytest.mark.parametrize("state", [A.REJECTED, A.NOT_SENT, A.UNDELIVERED, A.NO_ANSWER, A.BUSY, A.TTL_EXPIRED])
def test_what_follows_a_failure(failure: Failure, state: A) -> None:
    move = after(state, failure)
    assert (move.state, move.reason, move.rung) == TABLE[failure]


def test_a_phone_rings_for_our_mistake_twice_at_most() -> None:
    """The provider takes each call and says afterwards that it cannot be made with our settings."""
    first, again = (attempt(A.UNDELIVERED, 0, "vs", n, Failure.BAD_CONFIG) for n in (1, 2))
    once = follow.after_attempt(situation(R.AWAITING, first, ladder="vs"), first, NOW, RULES)
    twice = follow.after_attempt(situation(R.AWAITING, first, again, ladder="vs", tries=1), again, NOW, RULES)
    assert once is not None
    assert twice is not None
    assert [(each.state, each.reason, each.rung) for each in (once, twice)] == [LATER, NEXT]


@pytest.mark.parametrize("provider_resends", [False, True])
def test_ambiguous_blocks_every_other_channel(provider_resends: bool) -> None:
    move = after(A.UNKNOWN, Failure.AMBIGUOUS, ladder="psv" if provider_resends else "spv")
    assert move.rung == 0
    expected = (R.SCHEDULED, Reason.RETRY) if provider_resends else (R.AWAITING, Reason.OUTCOME_UNKNOWN)
    assert (move.state, move.reason) == expected


@pytest.mark.parametrize("state", list(A))
def test_every_attempt_state_is_followed(state: A) -> None:
    own = attempt(state, ladder="vs")
    move = follow.after_attempt(situation(R.SENDING, own, ladder="vs"), own, NOW, RULES)
    if state in (A.INTENDED, A.UNCONFIRMED):
        assert move is None
    else:
        assert move is not None
        expected = {A.UNKNOWN: R.AWAITING, A.ACCEPTED: R.AWAITING, A.SENT: R.AWAITING}
        expected |= dict.fromkeys(REACHED, R.DELIVERED) | dict.fromkeys(FAILED | NO_CONTACT, R.SCHEDULED)
        assert move.state is expected[state]


@pytest.mark.parametrize("state", sorted(FAILED | NO_CONTACT))
def test_after_the_last_contact_it_is_undelivered(state: A) -> None:
    move = after(state, Failure.BAD_RECIPIENT, ladder="s")
    assert (move.state, move.reason, move.queue, move.emit) == (R.UNDELIVERED, Reason.CONTACTS_EXHAUSTED, None, True)


def test_it_waits_for_the_last_word_as_long_as_its_provider_says() -> None:
    assert after(A.ACCEPTED).at == NOW + 24 * HOUR
    assert after(A.ACCEPTED, ladder="v").at == NOW + 72 * HOUR


@pytest.mark.parametrize("failure", [None, *Failure])
def test_who_declined_is_not_called_again(failure: Failure | None) -> None:
    if failure in (Failure.OPTED_OUT, Failure.BUG):
        return
    assert after(A.DECLINED, failure, ladder="vvs").rung == 2
    assert after(A.DECLINED, failure, ladder="vv").state is R.UNDELIVERED


def test_who_declined_is_not_called_again_after_another_contact_either() -> None:
    first, second = attempt(A.DECLINED, 0, "vpvs"), attempt(A.UNDELIVERED, 1, "vpvs", 2, Failure.UNREACHABLE)
    move = follow.after_attempt(situation(R.AWAITING, first, second, ladder="vpvs"), second, NOW, RULES)
    assert move is not None
    assert (move.state, move.rung) == (R.SCHEDULED, 3)


DEFERRED = [Failure.TRANSIENT, Failure.THROTTLED, Failure.OUTSIDE_WINDOW, Failure.BAD_CONFIG]


@pytest.mark.parametrize("failure", DEFERRED)
@pytest.mark.parametrize("state", sorted(NO_CONTACT))
def test_what_was_certainly_not_taken_is_tried_until_its_time_is_over(failure: Failure, state: A) -> None:
    """A night without a provider says nothing about the borrower's number."""
    for tries in (0, RULES.max_tries, 500, 30_000):
        move = after(state, failure, tries=tries)
        assert (move.state, move.reason, move.rung) == LATER
        assert move.tries <= 1000


@pytest.mark.parametrize("failure", DEFERRED)
@pytest.mark.parametrize("state", [A.UNDELIVERED, A.NO_ANSWER, A.BUSY, A.TTL_EXPIRED])
def test_what_was_taken_and_failed_is_not_tried_for_ever(failure: Failure, state: A) -> None:
    """Somebody's phone may have rung each time."""
    assert after(state, failure, tries=RULES.max_tries - 2).rung == 0
    assert after(state, failure, tries=RULES.max_tries - 1).rung == 1


# --- repeats of what may have arrived ---------------------------------------------------------------------------------


def repeated(second: A, failure: Failure | None = None, **more: object) -> Move | None:
    """A push of unknown outcome was sent again, and the repeat has become `second`."""
    first = attempt(A.UNKNOWN, 0, "ps", 1)
    own = attempt(second, 0, "ps", 2, failure)
    return follow.after_attempt(situation(R.SENDING, first, own, ladder="ps", **more), own, NOW, RULES)


@pytest.mark.parametrize("state", sorted(NO_CONTACT))
@pytest.mark.parametrize("failure", DEFERRED)
def test_a_repeat_that_did_not_leave_is_tried_again(state: A, failure: Failure) -> None:
    move = repeated(state, failure)
    assert move is not None
    assert (move.state, move.reason, move.rung, move.tries) == (R.SCHEDULED, Reason.RETRY, 0, 1)
    spent = repeated(state, failure, tries=RULES.max_tries)
    assert spent is not None
    assert (spent.state, spent.reason) == (R.AWAITING, Reason.OUTCOME_UNKNOWN)


@pytest.mark.parametrize("failure", sorted(set(Failure) - set(DEFERRED)))
def test_a_repeat_that_was_refused_leaves_the_first_to_be_settled(failure: Failure) -> None:
    move = repeated(A.REJECTED, failure)
    assert move is not None
    assert (move.state, move.reason, move.rung) == (R.AWAITING, Reason.OUTCOME_UNKNOWN, 0)


def test_no_stage_but_those_that_say_so_is_sent_again() -> None:
    own = attempt(A.UNKNOWN, ladder="p")
    for stage, state in (("due", R.SCHEDULED), ("overdue_late", R.AWAITING)):
        move = follow.after_attempt(situation(R.SENDING, own, ladder="p", stage=stage), own, NOW, RULES)
        assert move is not None
        assert move.state is state


@pytest.mark.parametrize("state", [R.SCHEDULED, R.HELD])
@pytest.mark.parametrize("word", [A.ACCEPTED, A.SENT])
def test_a_late_acceptance_calls_the_repeat_off(state: R, word: A) -> None:
    own = attempt(word, ladder="p")
    move = follow.after_attempt(situation(state, own, ladder="p", reason=Reason.RETRY), own, NOW, RULES)
    assert move is not None
    assert (move.state, move.reason, move.queue) == (R.AWAITING, None, Queue.TIMER)


@pytest.mark.parametrize("state", [R.SCHEDULED, R.HELD])
@pytest.mark.parametrize("word", [A.ACCEPTED, A.SENT])
def test_a_late_acceptance_of_an_earlier_attempt_calls_the_repeat_off_too(state: R, word: A) -> None:
    """Two were unknown, a third is about to leave, and then the first one's worker comes back."""
    first, second = attempt(word, ladder="p"), attempt(A.UNKNOWN, ladder="p", id_=2)
    was = situation(state, first, second, ladder="p", reason=Reason.RETRY)
    move = follow.after_attempts(was, [first], NOW, RULES)
    assert move is not None
    assert (move.state, move.reason, move.queue) == (R.AWAITING, None, Queue.TIMER)


@pytest.mark.parametrize("word", [A.ACCEPTED, A.SENT])
@pytest.mark.parametrize(
    ("second", "failure", "reason"),
    [
        (A.NOT_SENT, Failure.TRANSIENT, None),
        (A.REJECTED, Failure.THROTTLED, None),
        (A.UNKNOWN, Failure.AMBIGUOUS, Reason.OUTCOME_UNKNOWN),
    ],
)
def test_no_repeat_is_made_of_what_is_known_to_be_taken(
    word: A, second: A, failure: Failure, reason: Reason | None
) -> None:
    """The first one's worker was late to say so: by then its repeat was on its way, and came to nothing."""
    first, own = attempt(word, 0, "ps", 1), attempt(second, 0, "ps", 2, failure)
    move = follow.after_attempt(situation(R.SENDING, first, own, ladder="ps"), own, NOW, RULES)
    assert move is not None
    assert (move.state, move.reason, move.queue, move.rung) == (R.AWAITING, reason, Queue.TIMER, 0)


@pytest.mark.parametrize("state", [R.SCHEDULED, R.HELD])
def test_a_late_refusal_decides_instead_of_the_repeat(state: R) -> None:
    def late(failure: Failure, word: A = A.REJECTED) -> Move | None:
        own = attempt(word, ladder="ps", failure=failure)
        return follow.after_attempt(situation(state, own, ladder="ps", reason=Reason.RETRY), own, NOW, RULES)

    opted_out, dead, busy = late(Failure.OPTED_OUT), late(Failure.BAD_RECIPIENT), late(Failure.THROTTLED)
    assert opted_out is not None
    assert (opted_out.state, opted_out.reason) == (R.SUPPRESSED, Reason.OPTED_OUT)
    assert dead is not None
    assert (dead.state, dead.reason, dead.rung) == (R.SCHEDULED, Reason.NEXT_CONTACT, 1)
    assert busy is None  # the repeat is scheduled already, and now it is an ordinary try


def test_what_is_not_waited_for_any_more_is_unconfirmed() -> None:
    settled = attempt(A.REJECTED, 0, "pp", 1)
    open_ = [attempt(state, 0, "pp", n + 2) for n, state in enumerate(sorted(OPEN))]
    was = situation(R.AWAITING, settled, *open_, ladder="pp")
    assert follow.close_open(was, NOW) == open_
    assert {each.state for each in open_} == {A.UNCONFIRMED}
    assert settled.state is A.REJECTED


# --- backoff ----------------------------------------------------------------------------------------------------------


@given(
    tries=st.integers(0, 6),
    jitter=st.floats(0, 1),
    retry_after=st.none() | st.floats(0, 9_999_999_999),
    failure=st.sampled_from([Failure.TRANSIENT, Failure.THROTTLED, Failure.BAD_CONFIG, Failure.OUTSIDE_WINDOW]),
)
def test_backoff_keeps_its_bounds(tries: int, jitter: float, retry_after: float | None, failure: Failure) -> None:
    own = attempt(A.REJECTED, failure=failure)
    was = situation(R.SENDING, own, tries=tries)
    move = follow.after_attempt(was, own, NOW, RULES, retry_after=retry_after, jitter=jitter)
    assert move is not None
    assert move.tries == tries + 1
    assert NOW <= move.at <= was.not_after
    if retry_after is not None:
        asked = dt.timedelta(seconds=retry_after)
        assert move.at >= min(NOW + asked, was.not_after)
        assert move.at <= NOW + asked + RULES.backoff_base
    elif failure is not Failure.OUTSIDE_WINDOW:
        longest = min(RULES.backoff_base * 2**tries, RULES.backoff_cap)
        assert move.at - NOW == pytest.approx(longest * jitter, abs=dt.timedelta(milliseconds=1))


def test_full_jitter_reaches_from_now_to_the_whole_wait() -> None:
    own = attempt(A.REJECTED, failure=Failure.TRANSIENT)
    moves = [
        follow.after_attempt(situation(R.SENDING, own, tries=3), own, NOW, RULES, jitter=each) for each in (0.0, 1.0)
    ]
    assert [move.at for move in moves if move] == [NOW, NOW + RULES.backoff_base * 8]


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", STOPS)
@pytest.mark.parametrize("state", [R.SCHEDULED, R.HELD])
def test_a_stop_in_time_cancels(state: R, by: Reason) -> None:
    for attempts in ((), (attempt(A.REJECTED),), (attempt(A.NOT_SENT), attempt(A.UNDELIVERED, id_=2))):
        move, too_late = follow.cancel(situation(state, *attempts), by, NOW, RULES)
        assert move is not None
        assert (move.state, move.reason, move.queue, too_late) == (R.CANCELLED, by, None, False)


@pytest.mark.parametrize(
    ("state", "left"), [(R.SENDING, A.INTENDED), (R.AWAITING, A.ACCEPTED), (R.AWAITING, A.UNKNOWN)]
)
def test_a_stop_too_late_closes_the_ladder(state: R, left: A) -> None:
    was = situation(state, attempt(left, ladder="sv"), ladder="sv")
    move, too_late = follow.cancel(was, Reason.CANCELLED_DEBT, NOW, RULES)
    assert move is not None
    assert too_late
    assert (move.state, move.closed, move.queue, move.at) == (state, Reason.CANCELLED_DEBT, was.queue, was.at)


@pytest.mark.parametrize("state", [R.SCHEDULED, R.HELD])
def test_a_stop_forbids_the_resend_of_what_may_have_arrived(state: R) -> None:
    was = situation(state, attempt(A.UNKNOWN, ladder="p"), ladder="p", reason=Reason.RETRY)
    move, too_late = follow.cancel(was, Reason.CANCELLED_DEBT, NOW, RULES)
    assert move is not None
    assert too_late
    assert (move.state, move.queue, move.closed) == (R.AWAITING, Queue.TIMER, Reason.CANCELLED_DEBT)
    assert reminder_moves(was.state, move.state)


def test_a_stop_after_the_end_changes_nothing_and_says_whether_something_left() -> None:
    for state, attempts, expected in (
        (R.DELIVERED, (attempt(A.DELIVERED),), True),
        (R.EXPIRED, (), False),
        (R.UNDELIVERED, (attempt(A.REJECTED),), False),
        (R.CANCELLED, (attempt(A.DELIVERED),), False),
    ):
        assert follow.cancel(situation(state, *attempts), STOPS[0], NOW, RULES) == (None, expected)


@pytest.mark.parametrize("failure", list(TABLE))
def test_on_a_closed_ladder_a_failure_ends_it(failure: Failure) -> None:
    move = after(A.REJECTED, failure, closed=Reason.CANCELLED_DEBT)
    assert (move.state, move.reason) == (R.CANCELLED, Reason.CANCELLED_DEBT)
    move = after(A.UNDELIVERED, failure, closed=Reason.CANCELLED_DEBT)
    assert (move.state, move.reason) == (R.UNDELIVERED, Reason.LADDER_CLOSED)


# --- after the end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in R if state.final])
@pytest.mark.parametrize("word", sorted(REACHED | FAILED))
def test_a_last_word_after_the_end_only_raises(state: R, word: A) -> None:
    own = attempt(word)
    was = situation(state, own, reason=Reason.NO_RECEIPT)
    move = follow.after_attempt(was, own, NOW, RULES)
    if word in REACHED and state is not R.DELIVERED:
        kept = state in (R.CANCELLED, R.SUPPRESSED)
        assert move is not None
        assert (move.state, move.reason) == ((state, Reason.NO_RECEIPT) if kept else (R.DELIVERED, None))
        assert move.correction and move.emit
    elif word in FAILED and state is R.UNCONFIRMED:
        assert move is not None
        assert (move.state, move.correction) == (R.UNDELIVERED, True)
    else:
        assert move is None


# --- timers, rescues, verdicts ----------------------------------------------------------------------------------------


def test_a_window_that_closes_says_what_was_not_known() -> None:
    assert waiting.window_closed(situation(R.AWAITING, attempt(A.ACCEPTED)), NOW).reason is Reason.NO_RECEIPT
    assert waiting.window_closed(situation(R.AWAITING, attempt(A.UNKNOWN)), NOW).reason is Reason.OUTCOME_UNKNOWN


def test_a_reminder_rescued_too_often_is_held_as_poison() -> None:
    was = situation(R.SCHEDULED, queue=Queue.CLAIM)
    for _ in range(RULES.max_rescues):
        move = queueing.rescue(was, NOW, RULES)
        assert (move.state, move.reason, move.queue) == (R.SCHEDULED, Reason.RESCUED, Queue.DUE)
        was = replace(was, rescues=move.rescues)
    move = queueing.rescue(was, NOW, RULES)
    assert (move.state, move.reason, move.at) == (R.HELD, Reason.POISON, was.not_after)


def test_a_hold_is_told_once_per_reason_and_never_sleeps_past_not_after() -> None:
    was = situation(R.SCHEDULED)
    move = queueing.hold(was, Reason.FROZEN, NOW, NOW + 99 * HOUR)
    assert (move.emit, move.at) == (True, was.not_after)
    again = queueing.hold(situation(R.HELD, reason=Reason.FROZEN), Reason.FROZEN, NOW, NOW + HOUR)
    assert not again.emit
    assert queueing.hold(situation(R.HELD, reason=Reason.FROZEN), Reason.STOP_UNREADABLE, NOW, NOW).emit


def test_what_may_have_left_does_not_expire() -> None:
    assert follow.expire(situation(R.SCHEDULED), NOW).state is R.EXPIRED
    assert follow.expire(situation(R.SCHEDULED, attempt(A.UNKNOWN)), NOW).state is R.UNCONFIRMED
    assert follow.expire(situation(R.SCHEDULED, attempt(A.REJECTED)), NOW).state is R.EXPIRED


# --- every situation --------------------------------------------------------------------------------------------------


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any situation the ledger can hold: attempts climb the ladder, the current one is the last."""
    state = draw(st.sampled_from(list(R)))
    ladder = draw(st.text("spv", min_size=1, max_size=5))
    rungs = sorted(draw(st.lists(st.integers(0, len(ladder) - 1), max_size=5)))
    if state in (R.SENDING, R.AWAITING) and not rungs:
        rungs = [0]
    attempts = tuple(
        attempt(draw(st.sampled_from(list(A))), rung, ladder, n + 1, draw(st.sampled_from([None, *Failure])))
        for n, rung in enumerate(rungs)
    )
    return situation(
        state, *attempts, ladder=ladder,
        queue=None if state.final else draw(st.sampled_from(QUEUES[state])),
        reason=draw(st.sampled_from([None, Reason.OUTCOME_UNKNOWN, Reason.RETRY, Reason.FROZEN])),
        rung=draw(st.integers(rungs[-1] if rungs else 0, len(ladder) - 1)),
        tries=draw(st.integers(0, 9)), rescues=draw(st.integers(0, 6)),
        closed=draw(st.sampled_from([None, Reason.CANCELLED_DEBT])),
        not_after=NOW + draw(st.integers(-3, 100)) * HOUR,
    )  # fmt: skip


def check(was: Situation, move: Move) -> None:
    """What holds for every move."""
    allowed = reminder_moves(was.state, move.state) or (move.correction and move.state is was.state)
    assert allowed, f"{was.state} to {move.state}"
    assert (move.queue is None) == move.state.final
    if move.state.final:
        assert move.emit
    else:
        assert move.queue in QUEUES[move.state]
    if move.state in (R.SCHEDULED, R.HELD) and was.not_after > NOW:
        assert move.at <= was.not_after
    assert move.correction == was.state.final
    assert move.rung < len(was.ladder)
    assert move.rung >= was.rung
    assert was.closed is None or move.closed == was.closed


@given(was=situations(), which=st.integers(0, 4), jitter=st.floats(0, 1), wait=st.none() | st.floats(0, 1e6))
def test_whatever_an_attempt_became(was: Situation, which: int, jitter: float, wait: float | None) -> None:
    if not was.attempts:
        return
    own = was.attempts[which % len(was.attempts)]
    move = follow.after_attempt(was, own, NOW, RULES, retry_after=wait, jitter=jitter)
    if move is None:
        return
    check(was, move)
    doubtful = any(each.state in OPEN for each in was.attempts)
    if doubtful and own.state not in REACHED:
        assert move.reason is not Reason.NEXT_CONTACT
        assert move.rung == was.rung
        if not was.state.final:
            assert move.state in (R.AWAITING, R.SENDING) or (own.provider, was.stage) in RULES.resend
    if own.id != was.attempt and not was.state.final:
        called_off = own.state in (A.ACCEPTED, A.SENT) and was.state in (R.SCHEDULED, R.HELD)
        assert move.state is (R.AWAITING if called_off else R.DELIVERED)
    if move.state is R.DELIVERED:
        assert own.state in REACHED
    if move.state is R.SCHEDULED:
        assert was.closed is None
        assert not any(each.state in (A.ACCEPTED, A.SENT) for each in was.attempts)
        declined = any(each.state is A.DECLINED for each in was.attempts)
        if declined and move.rung != was.rung:
            assert LADDER_CHANNEL[was.ladder[move.rung]] is not Channel.VOICE
        if own.state is A.DECLINED:
            assert move.rung != was.rung


@given(was=situations(), by=st.sampled_from(STOPS))
def test_whenever_a_stop_comes(was: Situation, by: Reason) -> None:
    move, too_late = follow.cancel(was, by, NOW, RULES)
    if was.state.final:
        assert move is None
        return
    assert move is not None
    check(was, move)
    contacted = any(each.state not in NO_CONTACT | FAILED for each in was.attempts)
    assert too_late == contacted
    assert (move.state is R.CANCELLED) == (not contacted)
    if contacted:
        assert move.closed is not None
        assert move.state in (R.SENDING, R.AWAITING)


OTHERS: dict[str, tuple[Callable[[Situation], Move], set[R]]] = {
    "window": (lambda was: waiting.window_closed(was, NOW), {R.AWAITING}),
    "rescue": (lambda was: queueing.rescue(was, NOW, RULES), {R.SCHEDULED}),
    "defer": (lambda was: queueing.defer(was, NOW, NOW + 200 * HOUR), {R.SCHEDULED}),
    "release": (lambda was: queueing.release(was, NOW), {R.HELD}),
    "hold": (lambda was: queueing.hold(was, Reason.FROZEN, NOW, NOW + 200 * HOUR), {R.SCHEDULED, R.HELD}),
    "suppress": (lambda was: follow.suppress(was, Reason.OPTED_OUT, NOW, RULES), {R.SCHEDULED, R.HELD}),
    "expire": (lambda was: follow.expire(was, NOW), {R.SCHEDULED, R.HELD}),
}


@given(was=situations(), what=st.sampled_from(sorted(OTHERS)))
def test_whatever_else_moves_it(was: Situation, what: str) -> None:
    make, states = OTHERS[what]
    if was.state in states:
        check(was, make(was))
