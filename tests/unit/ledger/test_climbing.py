"""How a planned reminder climbs: what is enough, when silence leads on, and what an open contact of an earlier rung
does to everything else.
"""

import datetime as dt

import pytest
from msgspec.structs import replace

from gateway.cadence import loading
from gateway.cadence.model import Confirm
from gateway.ledger import follow
from gateway.ledger.climbing import Climb, Step, climbs
from gateway.ledger.standing import Attempt, Move, Queue, Rules, Situation
from gateway.ledger.states import OPEN
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Channel, Failure, Lane, Reason
from schemas.vocabulary import ReminderState as R

NOW = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
CHANNEL = {"p": Channel.PUSH, "s": Channel.SMS, "v": Channel.VOICE}
DELIVERED, OPENED, ANSWERED, ACCEPTED = Confirm.DELIVERED, Confirm.OPENED, Confirm.ANSWERED, Confirm.ACCEPTED


def rules(*steps: Step, ladder: str = "psv", **more: object) -> Rules:
    climb = Climb({CHANNEL[letter]: step for letter, step in zip(ladder, steps, strict=False)}, **more)  # type: ignore[arg-type]
    receipts = frozenset({"push", "sms", "voice"})
    window = {"push": 48 * HOUR, "sms": 24 * HOUR, "voice": 24 * HOUR}
    return Rules(climbs={"c/1/d3": climb}, receipts=receipts, receipt_window=window, replaces=frozenset({"push"}))


OPEN_WITHIN = rules(Step(OPENED, 4 * HOUR), Step(DELIVERED, 4 * HOUR), Step(ANSWERED))


def attempt(state: A, rung: int = 0, ladder: str = "psv", ago: float = 1, failure: Failure | None = None) -> Attempt:
    channel = CHANNEL[ladder[rung]]
    final = None if state in OPEN else NOW
    return Attempt(100 + rung, rung, channel, channel.value, state, NOW - ago * HOUR, failure, final)


def was(state: R, *attempts: Attempt, ladder: str = "psv", **more: object) -> Situation:
    queue = {R.SCHEDULED: Queue.DUE, R.SENDING: Queue.CLAIM}.get(state, Queue.TIMER)
    values: dict[str, object] = {
        "id": 5, "subject": b"s" * 16, "lender": "acme", "source": "core", "request_id": "r-1", "stage": "d3",
        "lane": Lane.BULK, "ladder": ladder, "not_after": NOW + 20 * HOUR, "state": state, "reason": None, "seq": 3,
        "at": NOW - HOUR, "queue": None if state.final else queue, "attempts": attempts,
        "attempt": attempts[-1].id if attempts else None, "rung": attempts[-1].rung if attempts else 0,
        "occasion": "c/1/d3",
    }  # fmt: skip
    return Situation(**(values | more))  # type: ignore[arg-type]


def becomes(state: A, numbers: Rules = OPEN_WITHIN, failure: Failure | None = None, **more: object) -> Move:
    """The move of one that is sending by push, an hour after it was intended."""
    own = attempt(state, failure=failure)
    move = follow.after_attempt(was(R.SENDING, own, **more), own, NOW, numbers)  # type: ignore[arg-type]
    assert move is not None
    return move


def standing(move: Move | None) -> tuple[R, Reason | None, int] | None:
    return None if move is None else (move.state, move.reason, move.rung)


# --- what is enough, and until when it waits --------------------------------------------------------------------------

WAITS = (R.AWAITING, None, 0)
ENDS = (R.DELIVERED, None, 0)
ADVANCE, CLOSE = NOW + 3 * HOUR, NOW + 47 * HOUR
ENOUGH = [
    (Step(ACCEPTED), A.ACCEPTED, WAITS, CLOSE),
    (Step(ACCEPTED, 4 * HOUR), A.ACCEPTED, WAITS, CLOSE),  # leads on by nothing but a failure
    (Step(ACCEPTED), A.DELIVERED, ENDS, NOW),
    (Step(DELIVERED), A.ACCEPTED, WAITS, CLOSE),
    (Step(DELIVERED, 4 * HOUR), A.ACCEPTED, WAITS, ADVANCE),
    (Step(DELIVERED, 4 * HOUR), A.SENT, WAITS, ADVANCE),
    (Step(DELIVERED, 4 * HOUR), A.DELIVERED, ENDS, NOW),
    (Step(DELIVERED, 4 * HOUR), A.UNKNOWN, (R.AWAITING, Reason.OUTCOME_UNKNOWN, 0), CLOSE),
    (Step(OPENED, 4 * HOUR), A.ACCEPTED, WAITS, ADVANCE),
    (Step(OPENED, 4 * HOUR), A.DELIVERED, WAITS, ADVANCE),
    (Step(OPENED, 4 * HOUR), A.UNKNOWN, (R.AWAITING, Reason.OUTCOME_UNKNOWN, 0), CLOSE),
    (Step(OPENED), A.DELIVERED, ENDS, NOW),
    (Step(OPENED, 60 * HOUR), A.ACCEPTED, WAITS, CLOSE),  # behind not_after: nothing can follow
    (Step(OPENED, 60 * HOUR), A.DELIVERED, ENDS, NOW),
]


@pytest.mark.parametrize(("step", "state", "expected", "at"), ENOUGH)
def test_what_is_enough(step: Step, state: A, expected: tuple[R, Reason | None, int], at: dt.datetime) -> None:
    move = becomes(state, rules(step))
    assert standing(move) == expected
    assert move.at == at


def test_the_last_rung_has_nothing_to_wait_for_but_its_receipt() -> None:
    assert standing(becomes(A.DELIVERED, ladder="p")) == ENDS
    assert becomes(A.ACCEPTED, ladder="p").at == CLOSE


@pytest.mark.parametrize("state", [A.ANSWERED, A.ANSWERED_HUMAN, A.ANSWERED_MACHINE])
def test_a_call_that_was_taken_is_enough(state: A) -> None:
    own = attempt(state, ladder="vs")
    numbers = rules(Step(ANSWERED, 2 * HOUR), Step(), ladder="vs")
    assert standing(follow.after_attempt(was(R.AWAITING, own, ladder="vs"), own, NOW, numbers)) == ENDS


def test_a_call_of_which_only_the_delivery_is_told_is_not() -> None:
    own = attempt(A.DELIVERED, ladder="vs")
    numbers = rules(Step(ANSWERED, 2 * HOUR), Step(), ladder="vs")
    assert standing(follow.after_attempt(was(R.SENDING, own, ladder="vs"), own, NOW, numbers)) == WAITS


@pytest.mark.parametrize("confirm", [DELIVERED, OPENED, ACCEPTED])
@pytest.mark.parametrize("state", [R.SENDING, R.AWAITING, R.SCHEDULED, R.HELD])
def test_what_was_opened_is_enough_wherever_it_stands(confirm: Confirm, state: R) -> None:
    own = attempt(A.DELIVERED)
    move = follow.opened(was(state, own), own, NOW, rules(Step(confirm, 4 * HOUR)))
    assert standing(move) == ENDS


def test_opened_moves_nothing_that_was_requested_or_has_ended_or_cannot_be() -> None:
    own, refused = attempt(A.ACCEPTED), attempt(A.REJECTED)
    assert follow.opened(was(R.AWAITING, own, occasion=None), own, NOW, OPEN_WITHIN) is None
    assert follow.opened(was(R.UNCONFIRMED, own), own, NOW, OPEN_WITHIN) is None
    assert follow.opened(was(R.SCHEDULED, refused), refused, NOW, OPEN_WITHIN) is None


# --- the timer --------------------------------------------------------------------------------------------------------


def wake(situation: Situation, numbers: Rules = OPEN_WITHIN, now: dt.datetime = NOW, healthy: bool = True) -> Move:
    return follow.wake(situation, now, numbers, healthy=healthy)


@pytest.mark.parametrize("state", [A.ACCEPTED, A.SENT, A.DELIVERED])
def test_silence_leads_to_the_next_rung_where_receipts_come_in(state: A) -> None:
    silent = was(R.AWAITING, attempt(state, ago=4))
    assert follow.asks(silent, NOW, OPEN_WITHIN) is silent.attempts[0]
    move = wake(silent)
    assert (standing(move), move.at, move.queue) == ((R.SCHEDULED, Reason.NEXT_CONTACT, 1), NOW, Queue.DUE)
    held = wake(silent, healthy=False)
    assert standing(held) == (R.HELD, Reason.RECEIPTS_UNHEALTHY, 0)
    assert (held.at, held.emit) == (NOW + dt.timedelta(minutes=5), True)


@pytest.mark.parametrize(
    ("own", "more"),
    [
        (attempt(A.UNKNOWN, ago=5), {}),
        (attempt(A.ACCEPTED, ago=3.9), {}),
        (attempt(A.ACCEPTED, ago=5), {"closed": Reason.PAID}),
        (attempt(A.ACCEPTED, ago=5), {"not_after": NOW}),
        (attempt(A.ACCEPTED, ago=5), {"not_after": NOW - HOUR}),
        (attempt(A.ACCEPTED, ago=5), {"ladder": "p"}),
        (attempt(A.ACCEPTED, ago=5), {"occasion": "other/9/d3"}),
    ],
)
@pytest.mark.parametrize("healthy", [True, False])
def test_silence_that_leads_nowhere_goes_on(own: Attempt, more: dict[str, object], healthy: bool) -> None:
    move = wake(was(R.AWAITING, own, **more), healthy=healthy)  # type: ignore[arg-type]
    assert move.state is R.AWAITING
    assert (move.queue, move.rung) == (Queue.TIMER, 0)
    assert move.at > NOW


def test_an_occasion_nobody_here_has_heard_of_is_left_for_who_has() -> None:
    move = wake(was(R.AWAITING, attempt(A.ACCEPTED, ago=5), occasion="other/9/d3"))
    assert move.at == NOW + dt.timedelta(minutes=5)


def test_an_unknown_attempt_of_any_rung_blocks_every_other() -> None:
    silent = was(R.AWAITING, attempt(A.UNKNOWN, 0, ago=9), attempt(A.ACCEPTED, 1, ago=5))
    assert follow.asks(silent, NOW, OPEN_WITHIN) is None
    assert wake(silent).state is R.AWAITING


@pytest.mark.parametrize(
    ("attempts", "ending"),
    [
        ([(A.ACCEPTED, 0)], (R.UNCONFIRMED, Reason.NO_RECEIPT)),
        ([(A.UNKNOWN, 0)], (R.UNCONFIRMED, Reason.OUTCOME_UNKNOWN)),
        ([(A.DELIVERED, 0), (A.ACCEPTED, 1)], (R.DELIVERED, None)),
        ([(A.DELIVERED, 0), (A.SENT, 1), (A.UNKNOWN, 2)], (R.DELIVERED, None)),
        ([(A.ACCEPTED, 0), (A.ACCEPTED, 1), (A.NO_ANSWER, 2)], (R.UNCONFIRMED, Reason.NO_RECEIPT)),
    ],
)
def test_the_last_window_that_closes_ends_it_as_its_best_attempt(
    attempts: list[tuple[A, int]], ending: tuple[R, Reason | None]
) -> None:
    made = [attempt(state, rung, ago=48) for state, rung in attempts]
    move = wake(was(R.AWAITING, *made, not_after=NOW + 90 * HOUR))
    assert (move.state, move.reason) == ending


# --- held: receipts do not come in ------------------------------------------------------------------------------------


def held(own: Attempt, **more: object) -> Situation:
    return was(R.HELD, own, reason=Reason.RECEIPTS_UNHEALTHY, **more)  # type: ignore[arg-type]


def test_what_is_held_goes_on_when_receipts_come_in_again() -> None:
    assert standing(wake(held(attempt(A.SENT, ago=5)))) == (R.SCHEDULED, Reason.NEXT_CONTACT, 1)
    again = wake(held(attempt(A.SENT, ago=5)), healthy=False)
    assert (again.state, again.emit) == (R.HELD, False)


@pytest.mark.parametrize(("state", "ending"), [(A.ACCEPTED, R.UNCONFIRMED), (A.DELIVERED, R.DELIVERED)])
def test_what_is_held_ends_at_its_not_after_by_its_attempt(state: A, ending: R) -> None:
    assert wake(held(attempt(state, ago=5), not_after=NOW)).state is ending


def test_a_receipt_moves_what_is_held_as_it_would_have() -> None:
    for state, expected in {
        A.SENT: None, A.DELIVERED: None, A.UNDELIVERED: (R.SCHEDULED, Reason.NEXT_CONTACT, 1),
    }.items():  # fmt: skip
        own = attempt(state, ago=5)
        assert standing(follow.after_attempt(held(own), own, NOW, OPEN_WITHIN)) == expected
    own = attempt(A.DELIVERED, ago=5)
    enough = rules(Step(DELIVERED, 4 * HOUR))
    assert standing(follow.after_attempt(held(own), own, NOW, enough)) == ENDS


def test_a_stop_of_what_is_held_waits_for_the_receipt() -> None:
    move, late = follow.cancel(held(attempt(A.SENT, ago=5)), Reason.PAID, NOW, OPEN_WITHIN)
    assert move is not None
    assert (standing(move), move.closed, late) == (WAITS, Reason.PAID, True)
    assert move.at == NOW + 43 * HOUR


# --- with an earlier rung still out -----------------------------------------------------------------------------------


def after(
    changed: Attempt, *others: Attempt, state: R = R.AWAITING, rung: int | None = None, **more: object
) -> Move | None:
    made = sorted([changed, *others], key=lambda each: each.id)
    values = more if rung is None else {"rung": rung} | more
    return follow.after_attempts(was(state, *made, **values), [changed], NOW, OPEN_WITHIN)  # type: ignore[arg-type]


TABLE = [
    # The current rung has failed for certain: the next, or the end by what is out.
    (
        attempt(A.REJECTED, 1, failure=Failure.BAD_RECIPIENT),
        [attempt(A.ACCEPTED, 0, ago=6)],
        R.SENDING,
        (R.SCHEDULED, Reason.NEXT_CONTACT, 2),
    ),
    (attempt(A.UNDELIVERED, 1), [attempt(A.SENT, 0, ago=6)], R.AWAITING, (R.SCHEDULED, Reason.NEXT_CONTACT, 2)),
    (
        attempt(A.NOT_SENT, 1, failure=Failure.TRANSIENT),
        [attempt(A.ACCEPTED, 0, ago=6)],
        R.SENDING,
        (R.SCHEDULED, Reason.RETRY, 1),
    ),
    (
        attempt(A.BUSY, 2),
        [attempt(A.ACCEPTED, 0, ago=9), attempt(A.UNDELIVERED, 1, ago=5)],
        R.AWAITING,
        (R.AWAITING, None, 2),
    ),
    (
        attempt(A.BUSY, 2),
        [attempt(A.DELIVERED, 0, ago=9), attempt(A.UNDELIVERED, 1, ago=5)],
        R.AWAITING,
        (R.DELIVERED, None, 2),
    ),
    (
        attempt(A.BUSY, 2),
        [attempt(A.UNDELIVERED, 0, ago=9), attempt(A.UNDELIVERED, 1, ago=5)],
        R.AWAITING,
        (R.UNDELIVERED, Reason.CONTACTS_EXHAUSTED, 2),
    ),
    (attempt(A.UNDELIVERED, 1), [attempt(A.UNKNOWN, 0, ago=6)], R.AWAITING, (R.AWAITING, Reason.OUTCOME_UNKNOWN, 1)),
    (attempt(A.REJECTED, 1, failure=Failure.BUG), [attempt(A.ACCEPTED, 0, ago=6)], R.SENDING, (R.HELD, Reason.BUG, 1)),
    # The current rung is unknown: it waits, whatever is out.
    (attempt(A.UNKNOWN, 1), [attempt(A.ACCEPTED, 0, ago=6)], R.SENDING, (R.AWAITING, Reason.OUTCOME_UNKNOWN, 1)),
    # An earlier one is heard of.
    (attempt(A.SENT, 0, ago=6), [attempt(A.ACCEPTED, 1)], R.AWAITING, (R.AWAITING, None, 1)),
    (attempt(A.UNDELIVERED, 0, ago=6), [attempt(A.ACCEPTED, 1)], R.AWAITING, (R.AWAITING, None, 1)),
    (attempt(A.UNDELIVERED, 0, ago=6), [attempt(A.INTENDED, 1)], R.SENDING, None),
    (attempt(A.DELIVERED, 0, ago=6), [attempt(A.INTENDED, 1)], R.SENDING, None),
    (attempt(A.DELIVERED, 0, ago=6), [attempt(A.ACCEPTED, 1)], R.AWAITING, (R.AWAITING, None, 1)),
    (
        attempt(A.DELIVERED, 0, ago=9),
        [attempt(A.UNDELIVERED, 1, ago=6), attempt(A.BUSY, 2)],
        R.AWAITING,
        (R.DELIVERED, None, 2),
    ),
    (
        attempt(A.DELIVERED, 1, ago=6),
        [attempt(A.ACCEPTED, 0, ago=9), attempt(A.INTENDED, 2)],
        R.SENDING,
        (R.DELIVERED, None, 2),
    ),
    (
        attempt(A.DELIVERED, 1, ago=6),
        [attempt(A.ACCEPTED, 0, ago=9), attempt(A.UNKNOWN, 2)],
        R.AWAITING,
        (R.DELIVERED, None, 2),
    ),
    (
        attempt(A.UNDELIVERED, 0, ago=9),
        [attempt(A.UNDELIVERED, 1, ago=6), attempt(A.BUSY, 2)],
        R.AWAITING,
        (R.UNDELIVERED, Reason.CONTACTS_EXHAUSTED, 2),
    ),
    # That a call was put through is not enough, and nothing could follow it.
    (
        attempt(A.DELIVERED, 2),
        [attempt(A.ACCEPTED, 0, ago=9), attempt(A.UNDELIVERED, 1, ago=5)],
        R.AWAITING,
        (R.DELIVERED, None, 2),
    ),
    # He wants no more by the channel of an earlier rung: nothing else leaves.
    (
        attempt(A.UNDELIVERED, 0, ago=6, failure=Failure.OPTED_OUT),
        [attempt(A.UNDELIVERED, 1)],
        R.SCHEDULED,
        (R.SUPPRESSED, Reason.OPTED_OUT, 1),
    ),
    (
        attempt(A.UNDELIVERED, 1, failure=Failure.OPTED_OUT),
        [attempt(A.ACCEPTED, 0, ago=6)],
        R.AWAITING,
        (R.AWAITING, None, 1),
    ),
]


@pytest.mark.parametrize(("changed", "others", "state", "expected"), TABLE)
def test_what_follows_with_an_earlier_rung_out(
    changed: Attempt, others: list[Attempt], state: R, expected: tuple[R, Reason | None, int] | None
) -> None:
    assert standing(after(replace(changed), *map(replace, others), state=state)) == expected


@pytest.mark.parametrize("state", [R.SCHEDULED, R.HELD])
@pytest.mark.parametrize(("first", "expected"), [(A.SENT, None), (A.UNDELIVERED, None), (A.DELIVERED, None)])
def test_a_rung_that_waits_for_its_turn_is_not_called_back(state: R, first: A, expected: None) -> None:
    """The sms is scheduled, or frozen, since nobody has opened the push in time; only opening it stops that."""
    assert after(attempt(first, 0, ago=6), state=state, rung=1) is expected


@pytest.mark.parametrize("state", [R.SCHEDULED, R.HELD])
def test_a_delivery_that_is_enough_calls_it_back(state: R) -> None:
    own = attempt(A.DELIVERED, 0, ago=6)
    move = follow.after_attempts(was(state, own, rung=1), [own], NOW, rules(Step(DELIVERED, 4 * HOUR)))
    assert (move and move.state) is R.DELIVERED


@pytest.mark.parametrize("first", [0, 1])
def test_a_refusal_outweighs_a_failure_that_came_with_it(first: int) -> None:
    both = [attempt(A.UNDELIVERED, 0, ago=6, failure=Failure.OPTED_OUT), attempt(A.UNDELIVERED, 1)]
    changed = [both[first], both[1 - first]]
    move = follow.after_attempts(was(R.AWAITING, *both), changed, NOW, OPEN_WITHIN)
    assert standing(move) == (R.SUPPRESSED, Reason.OPTED_OUT, 1)


@pytest.mark.parametrize("first", [0, 1])
def test_a_delivery_outweighs_a_failure_that_came_with_it_after_the_end(first: int) -> None:
    """Of a push that had to be opened, too: nothing follows any more."""
    both = [attempt(A.DELIVERED, 0, ago=6), attempt(A.UNDELIVERED, 1)]
    changed = [both[first], both[1 - first]]
    assert standing(follow.after_attempts(was(R.UNCONFIRMED, *both), changed, NOW, OPEN_WITHIN)) == (
        R.DELIVERED,
        None,
        1,
    )


def test_a_stop_does_not_wait_for_the_rest_of_what_has_arrived() -> None:
    move, late = follow.cancel(
        was(R.AWAITING, attempt(A.DELIVERED, 0, ago=6), attempt(A.ACCEPTED, 1)), Reason.PAID, NOW, OPEN_WITHIN
    )
    assert (standing(move), late) == ((R.DELIVERED, None, 1), True)


def test_each_window_is_counted_from_its_own_hand_over() -> None:
    """The push may be heard of for another 18 hours, and that of the sms has closed."""
    open_ = was(R.AWAITING, attempt(A.ACCEPTED, 0, ago=30), attempt(A.ACCEPTED, 1, ago=25), not_after=NOW - HOUR)
    move = wake(open_)
    assert (standing(move), move.at) == ((R.AWAITING, None, 1), NOW + 18 * HOUR)


def test_nobody_asks_for_receipts_once_the_last_window_has_closed() -> None:
    """It ends then, whether or not they come in."""
    assert follow.asks(was(R.AWAITING, attempt(A.ACCEPTED, ago=50), not_after=NOW + HOUR), NOW, OPEN_WITHIN) is None


def test_who_refused_is_not_asked_again_by_time() -> None:
    own = attempt(A.UNDELIVERED, 1, failure=Failure.OPTED_OUT)
    move = after(own, attempt(A.ACCEPTED, 0, ago=6))
    assert (move and move.closed) is Reason.OPTED_OUT


@pytest.mark.parametrize("state", [R.SCHEDULED, R.HELD])
def test_who_refuses_the_last_contact_while_the_next_waits_gets_none(state: R) -> None:
    own = attempt(A.UNDELIVERED, 0, ago=6, failure=Failure.OPTED_OUT)
    move = follow.after_attempts(was(state, own, rung=1), [own], NOW, OPEN_WITHIN)
    assert standing(move) == (R.SUPPRESSED, Reason.OPTED_OUT, 1)


def test_who_refuses_a_repeat_gets_no_other_contact_when_the_first_fails() -> None:
    first, repeat = replace(attempt(A.UNKNOWN, ago=2), id=99), attempt(A.REJECTED, failure=Failure.OPTED_OUT)
    move = follow.after_attempts(was(R.SENDING, first, repeat), [repeat], NOW, OPEN_WITHIN)
    assert (standing(move), move and move.closed) == ((R.AWAITING, Reason.OUTCOME_UNKNOWN, 0), Reason.OPTED_OUT)


@pytest.mark.parametrize("state", [A.DECLINED])
def test_who_declined_a_call_is_not_called_again_by_time(state: A) -> None:
    made = [attempt(state, 0, "vsv", 9), attempt(A.ACCEPTED, 1, "vsv", 5)]
    numbers = rules(Step(), Step(DELIVERED, 4 * HOUR), ladder="vs")
    assert follow.asks(was(R.AWAITING, *made, ladder="vsv"), NOW, numbers) is None


VERDICTS = {
    "expire": lambda each: follow.expire(each, NOW),
    "skip": lambda each: follow.skip(each, Reason.OUT_OF_DATE, NOW, OPEN_WITHIN),
    "suppress": lambda each: follow.suppress(each, Reason.NOT_ALLOWLISTED, NOW, OPEN_WITHIN),
    "cancel": lambda each: follow.cancel(each, Reason.PAID, NOW, OPEN_WITHIN)[0],
}
DECIDED = {
    # of the sms that was to follow: the push accepted, delivered and not opened, and certainly failed
    "expire": [(R.UNCONFIRMED, Reason.NO_RECEIPT, 1), (R.DELIVERED, None, 1), (R.EXPIRED, Reason.NOT_AFTER, 1)],
    "skip": [(R.SCHEDULED, Reason.NEXT_CONTACT, 2)] * 3,
    "suppress": [(R.AWAITING, None, 1), (R.DELIVERED, None, 1), (R.SUPPRESSED, Reason.NOT_ALLOWLISTED, 1)],
    "cancel": [(R.AWAITING, None, 1), (R.DELIVERED, None, 1), (R.CANCELLED, Reason.PAID, 1)],
}  # fmt: skip


@pytest.mark.parametrize("verdict", sorted(VERDICTS))
def test_what_is_decided_of_a_rung_that_came_by_time(verdict: str) -> None:
    found = []
    for state in (A.ACCEPTED, A.DELIVERED, A.UNDELIVERED):
        move = VERDICTS[verdict](was(R.SCHEDULED, attempt(state, 0, ago=6), rung=1))
        found.append(standing(move))
        if move is not None and move.state is R.AWAITING:
            assert move.closed is not None  # or it would come again and again
            assert move.at == NOW + 42 * HOUR
    assert found == DECIDED[verdict]


def test_a_last_rung_that_is_skipped_leaves_what_is_out() -> None:
    skipped = was(R.SCHEDULED, attempt(A.SENT, 0, ago=2), rung=2)
    move = follow.skip(skipped, Reason.OUT_OF_DATE, NOW, OPEN_WITHIN)
    assert standing(move) == (R.AWAITING, None, 2)
    assert move.at == NOW + 46 * HOUR  # its silence has led on already
    unknown = was(R.SCHEDULED, attempt(A.UNKNOWN, 0, ago=6))
    assert standing(follow.skip(unknown, Reason.OUT_OF_DATE, NOW, OPEN_WITHIN)) == (
        R.AWAITING,
        Reason.OUTCOME_UNKNOWN,
        0,
    )


def test_a_correction_says_undelivered_only_when_nothing_may_have_arrived() -> None:
    for first, expected in ((A.UNCONFIRMED, None), (A.UNDELIVERED, R.UNDELIVERED)):
        last = attempt(A.UNDELIVERED, 1)
        move = follow.after_attempts(was(R.UNCONFIRMED, attempt(first), last), [last], NOW, OPEN_WITHIN)
        assert (move and move.state) == expected


def test_who_gives_up_on_an_unknown_one_ends_it_by_the_best() -> None:
    delivered = was(R.AWAITING, attempt(A.DELIVERED, 0, ago=9), attempt(A.UNCONFIRMED, 1))
    move = follow.give_up(delivered, NOW)
    assert (move and move.state) is R.DELIVERED
    assert follow.give_up(was(R.AWAITING, attempt(A.SENT, 0, ago=9), attempt(A.UNCONFIRMED, 1)), NOW) is None


def test_what_was_given_up_may_have_arrived_when_its_repeat_fails() -> None:
    given_up, again = attempt(A.UNCONFIRMED, ago=3), replace(attempt(A.REJECTED, failure=Failure.BAD_RECIPIENT), id=101)
    move = follow.after_attempts(was(R.SENDING, given_up, again), [again], NOW, OPEN_WITHIN)
    assert move is not None
    assert (move.state, move.reason, move.at) == (R.AWAITING, Reason.OUTCOME_UNKNOWN, NOW)
    end = follow.wake(was(R.AWAITING, given_up, again), NOW, OPEN_WITHIN, healthy=True)
    assert (end.state, end.reason) == (R.UNCONFIRMED, Reason.OUTCOME_UNKNOWN)


def test_what_has_arrived_after_all_is_not_sent_again_when_its_repeat_fails() -> None:
    """A push that had failed, its repeat, the word that the first has arrived: silence leads on, nothing else."""
    first, again = attempt(A.DELIVERED, ago=3), replace(attempt(A.UNDELIVERED, failure=Failure.THROTTLED), id=101)
    single = was(R.AWAITING, first, again)
    move = follow.after_attempts(single, [again], NOW, OPEN_WITHIN)
    assert standing(move) == WAITS
    assert move is not None
    assert move.at == NOW + HOUR  # four hours after the first
    later = NOW + HOUR
    waits = was(R.AWAITING, first, again, at=later)
    assert follow.asks(waits, later, OPEN_WITHIN) is first
    assert standing(wake(waits, now=later)) == (R.SCHEDULED, Reason.NEXT_CONTACT, 1)


# --- unknown: a repeat ------------------------------------------------------------------------------------------------


def test_the_occasion_alone_says_what_is_sent_again() -> None:
    again = rules(Step(DELIVERED), ladder="p", resends=True)
    own = attempt(A.UNKNOWN, ladder="p")
    single = was(R.SENDING, own, ladder="p")
    assert standing(follow.after_attempt(single, own, NOW, again)) == (R.SCHEDULED, Reason.RETRY, 0)
    plain = Rules(climbs=rules(Step(), ladder="p").climbs, resend=frozenset({("push", "d3")}))
    assert standing(follow.after_attempt(single, own, NOW, plain)) == (R.AWAITING, Reason.OUTCOME_UNKNOWN, 0)
    stopped = was(R.SENDING, own, ladder="p", closed=Reason.PAID)
    assert standing(follow.after_attempt(stopped, own, NOW, again)) == (R.AWAITING, Reason.OUTCOME_UNKNOWN, 0)
    replaces_nothing = Rules(climbs=again.climbs)
    assert standing(follow.after_attempt(single, own, NOW, replaces_nothing)) == (R.AWAITING, Reason.OUTCOME_UNKNOWN, 0)


# --- from a cadence ---------------------------------------------------------------------------------------------------


def test_every_occasion_of_every_version_is_known_by_its_path() -> None:
    found = climbs(loading.load().by_name["default"][0])
    assert found["default/1/d3"].step(Channel.PUSH) == Step(OPENED, 6 * HOUR)
    assert found["default/1/d3"].step(Channel.SMS) == Step()
    assert found["default/1/t7"].paced(Channel.VOICE)
    assert not found["default/1/t7"].paced(Channel.SMS)
