"""What follows: from a reminder's situation and what its attempts came to, the one move it makes next.  Pure.

Every module that moves a reminder asks here, so that an outcome from a worker, a receipt, a rescue and a timer cannot
disagree; or in `queueing`, where none of its attempts has a say.  The caller holds the borrower's lock, so the
situation is the truth until it commits.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Final

from msgspec.structs import replace

from gateway.ledger import climbing, queueing, waiting
from gateway.ledger.climbing import Climb
from gateway.ledger.standing import Attempt, Move, Rules, Situation
from gateway.ledger.states import FAILED, MAY_ARRIVE, NO_CONTACT, OPEN, REACHED
from schemas.vocabulary import AttemptState, Failure, Reason, ReminderState

_OUTSIDE_WINDOW_DELAY: Final = dt.timedelta(minutes=30)
_MOST_TRIES: Final = 1000

_BEFORE_REPEAT: Final = frozenset({ReminderState.SCHEDULED, ReminderState.HELD})
_TAKEN: Final = frozenset({AttemptState.ACCEPTED, AttemptState.SENT})
_NEXT_CONTACT: Final = frozenset({Failure.BAD_RECIPIENT, Failure.UNREACHABLE, Failure.BAD_CONTENT})
_DEFER: Final = frozenset({Failure.TRANSIENT, Failure.THROTTLED, Failure.OUTSIDE_WINDOW, Failure.BAD_CONFIG})


def after_attempts(
    was: Situation,
    changed: Collection[Attempt],
    now: dt.datetime,
    rules: Rules,
    *,
    retry_after: float | None = None,
    jitter: float = 1.0,
) -> Move | None:
    """The one move of a reminder of which several attempts have changed at once, in whatever order.

    That one of them arrived outweighs everything; then, before a repeat, that one of them was taken.  Else the current
    attempt decides, or after the end the last one; of what is planned also another one.
    """
    climb = rules.climb(was.occasion)
    reached = next((each for each in changed if each.state in REACHED and _ends(was, each, climb)), None)
    if reached is not None:
        return after_attempt(was, reached, now, rules)
    taken = next((each for each in changed if each.state in _TAKEN and not _passed(was, each, climb)), None)
    if taken is not None and was.state in _BEFORE_REPEAT:
        return after_attempt(was, taken, now, rules)
    current = was.attempt
    if was.queue is None and was.attempts:
        current = was.attempts[-1].id
    decides = next((each for each in changed if each.id == current), None)
    if climb is not None:
        refused = next((each for each in changed if each.failure is Failure.OPTED_OUT), None)
        decides = refused or decides or next(iter(changed), None)
    if decides is None:
        return None
    return after_attempt(was, decides, now, rules, retry_after=retry_after, jitter=jitter)


def after_attempt(
    was: Situation,
    attempt: Attempt,
    now: dt.datetime,
    rules: Rules,
    *,
    retry_after: float | None = None,
    jitter: float = 1.0,
) -> Move | None:
    """The reminder's move once `attempt` has reached its (new) state; None when only the attempt moved.

    `was.attempts` holds the new state already.  `jitter` in 0..1 scales the backoff (full jitter).
    """
    if was.queue is None:
        return _correction(was, attempt, now)
    climb = rules.climb(was.occasion)
    if attempt.state in REACHED and _ends(was, attempt, climb):
        return queueing.end(was, ReminderState.DELIVERED, None, now)
    elsewhere = attempt.id != was.attempt or _passed(was, attempt, climb)
    if climb is not None and elsewhere and attempt.failure is Failure.OPTED_OUT:
        return cancel(was, Reason.OPTED_OUT, now, rules)[0]
    if was.reason is Reason.RECEIPTS_UNHEALTHY and (attempt.id != was.attempt or attempt.state not in FAILED):
        return None  # it is looked at again anyway
    if was.state in _BEFORE_REPEAT:
        return _before_resend(was, attempt, now, rules, retry_after, jitter)
    if attempt.id != was.attempt:
        return waiting.await_word(was, None, now, rules, attempt) if climb is not None and _waits(was) else None
    if attempt.state in _TAKEN or attempt.state in REACHED:
        return waiting.await_word(was, None, now, rules, attempt)
    if attempt.state is AttemptState.UNKNOWN:
        return _after_unknown(was, attempt, now, rules, jitter)
    if attempt.state in NO_CONTACT or attempt.state in FAILED:
        return _after_failure(was, attempt, now, rules, retry_after, jitter)
    return None


def _ends(was: Situation, attempt: Attempt, climb: Climb | None) -> bool:
    """Whether an attempt that has arrived is enough; a late word always counts."""
    return climb is None or was.queue is None or climbing.is_enough(was, attempt, climb)


def _passed(was: Situation, attempt: Attempt, climb: Climb | None) -> bool:
    """Whether its rung lies behind by time: it may still arrive, and the next one goes out all the same."""
    return climb is not None and attempt.rung < was.rung


def _waits(was: Situation) -> bool:
    return was.state is ReminderState.AWAITING


def opened(was: Situation, attempt: Attempt, now: dt.datetime, rules: Rules) -> Move | None:
    """The borrower has opened the message.  Of what is planned that is enough, whatever its rule."""
    if was.queue is None or rules.climb(was.occasion) is None or attempt.state in NO_CONTACT:
        return None
    return queueing.end(was, ReminderState.DELIVERED, None, now)


def _before_resend(
    was: Situation, attempt: Attempt, now: dt.datetime, rules: Rules, retry_after: float | None, jitter: float
) -> Move | None:
    """The outcome of an unknown attempt comes while its repeat is scheduled or held: then there is none to make.

    That it was taken may also be told of an earlier one than the last.
    """
    if _passed(was, attempt, rules.climb(was.occasion)):
        return None
    if attempt.state in _TAKEN or attempt.state in REACHED:
        return waiting.await_word(was, None, now, rules, attempt)
    if attempt.id != was.attempt:
        return None
    if attempt.state in FAILED or (attempt.state in NO_CONTACT and attempt.failure not in _DEFER):
        return _after_failure(was, attempt, now, rules, retry_after, jitter)
    return None  # what certainly was not sent is scheduled already


def _may_resend(was: Situation, attempt: Attempt, rules: Rules) -> bool:
    """Only what nobody knows of is sent again: not what was taken, by whichever of its attempts."""
    if any(each.state in _TAKEN for each in was.attempts):
        return False
    climb = rules.climb(was.occasion)
    if climb is None:
        resends = (attempt.provider, was.stage) in rules.resend
    else:
        resends = climb.resends and attempt.provider in rules.replaces
    return resends and was.closed is None and was.tries < rules.max_tries


def _after_unknown(was: Situation, attempt: Attempt, now: dt.datetime, rules: Rules, jitter: float) -> Move:
    if _may_resend(was, attempt, rules):
        at = _backoff(was, now, rules, None, jitter)
        return queueing.schedule(was, now, Reason.RETRY, at, was.rung, _another(was))
    return waiting.await_word(was, Reason.OUTCOME_UNKNOWN, now, rules, attempt)


def _after_failure(
    was: Situation, attempt: Attempt, now: dt.datetime, rules: Rules, retry_after: float | None, jitter: float
) -> Move:
    failure, climb = attempt.failure, rules.climb(was.occasion)
    others = [
        other.state
        for other in was.attempts
        if other.id != attempt.id
        and (other.state in MAY_ARRIVE if climb is None else climbing.blocks(other, attempt.rung))
    ]
    if others:
        # An earlier attempt (of a resend) may still have arrived: only another repeat leaves until that is settled.
        if attempt.state in NO_CONTACT and failure in _DEFER and _may_resend(was, attempt, rules):
            at = _backoff(was, now, rules, retry_after, jitter)
            return queueing.schedule(was, now, Reason.RETRY, at, was.rung, _another(was))
        reason = None if _TAKEN.issuperset(others) else Reason.OUTCOME_UNKNOWN
        closed = was.closed or (Reason.OPTED_OUT if failure is Failure.OPTED_OUT else None)
        return waiting.await_word(replace(was, closed=closed), reason, now, rules, attempt)
    if was.closed is not None:
        if _stands(was):
            return waiting.await_word(was, None, now, rules, attempt)
        if all(each.state in NO_CONTACT for each in was.attempts):
            return _stopped(was, was.closed, now)
        return queueing.end(was, ReminderState.UNDELIVERED, Reason.LADDER_CLOSED, now)
    if failure is Failure.OPTED_OUT and _stands(was):
        return waiting.await_word(replace(was, closed=Reason.OPTED_OUT), None, now, rules, attempt)
    if failure is Failure.OPTED_OUT:
        return queueing.end(was, ReminderState.SUPPRESSED, Reason.OPTED_OUT, now)
    if failure is Failure.BUG:
        return queueing.hold(was, Reason.BUG, now, was.not_after)
    if attempt.state is AttemptState.DECLINED:
        return _next_contact(was, now, rules)
    # What certainly was not taken costs nobody anything to try again; what was taken and failed may have rung a phone.
    spent = attempt.state in FAILED and (was.tries + 1 >= rules.max_tries or _again_by_our_fault(was, attempt))
    if failure in _DEFER and not spent:
        at = _backoff(was, now, rules, retry_after, jitter)
        if failure is Failure.OUTSIDE_WINDOW and retry_after is None:
            at = now + _OUTSIDE_WINDOW_DELAY * (1 + jitter)
        return queueing.schedule(was, now, Reason.RETRY, at, was.rung, _another(was))
    return _next_contact(was, now, rules)


def _again_by_our_fault(was: Situation, attempt: Attempt) -> bool:
    """A phone rings for our mistake twice at most: what the receipt of a repeat complains of again is not mended."""
    ours = [each for each in was.attempts if each.state in FAILED and each.failure is Failure.BAD_CONFIG]
    return attempt.failure is Failure.BAD_CONFIG and sum(each.rung == attempt.rung for each in ours) > 1


def _another(was: Situation) -> int:
    """The number of tries with one more; beyond the bound it only keeps the backoff at its cap."""
    return min(was.tries + 1, _MOST_TRIES)


def _next_contact(was: Situation, now: dt.datetime, rules: Rules) -> Move:
    rung = was.next_rung(was.rung)
    if rung is not None:
        return queueing.schedule(was, now, Reason.NEXT_CONTACT, now, rung, 0)
    if _stands(was):
        return waiting.await_word(was, None, now, rules, was.attempts[-1])
    return queueing.end(was, ReminderState.UNDELIVERED, Reason.CONTACTS_EXHAUSTED, now)


def _stands(was: Situation) -> bool:
    """Whether a contact that was passed by time, or given up, is out, or has arrived without being enough: it ends by
    that one.
    """
    return any(each.state in MAY_ARRIVE or each.state in REACHED for each in was.attempts)


def _backoff(was: Situation, now: dt.datetime, rules: Rules, retry_after: float | None, jitter: float) -> dt.datetime:
    """Exponential with full jitter, never sooner than the provider asked for."""
    doublings: int = 2 ** min(was.tries, 20)
    wait = min(rules.backoff_base * doublings, rules.backoff_cap) * jitter
    if retry_after is not None:
        wait = dt.timedelta(seconds=retry_after) + rules.backoff_base * jitter
    return now + wait


def _correction(was: Situation, attempt: Attempt, now: dt.datetime) -> Move | None:
    """A last word after the end.  Corrections only raise; what we cancelled or suppressed stays so, and is told."""
    if attempt.state in REACHED:
        if was.state is ReminderState.DELIVERED:
            return None
        kept = was.state in (ReminderState.CANCELLED, ReminderState.SUPPRESSED)
        state, reason = (was.state, was.reason) if kept else (ReminderState.DELIVERED, None)
        return replace(queueing.end(was, state, reason, now), correction=True)
    if was.occasion is None:
        decides = bool(was.attempts) and attempt.id == was.attempts[-1].id
    else:  # of several rungs that are out each may be the one that arrived
        decides = all(each.state in FAILED or each.state in NO_CONTACT for each in was.attempts)
    if attempt.state in FAILED and was.state is ReminderState.UNCONFIRMED and decides:
        return replace(queueing.end(was, ReminderState.UNDELIVERED, Reason.CONTACTS_EXHAUSTED, now), correction=True)
    return None


def asks(was: Situation, now: dt.datetime, rules: Rules) -> Attempt | None:
    """The attempt whose provider's receipts must be healthy for the next contact to follow by time now."""
    climb = rules.climb(was.occasion)
    at = None if climb is None else climbing.advances_at(was, now, climb)
    if at is None or now < at or now >= climbing.closes_at(was, now, rules):
        return None
    return climbing.silent(was)


def wake(was: Situation, now: dt.datetime, rules: Rules, *, healthy: bool) -> Move:
    """The timer of one that waits for receipts is ripe: the next contact, or the end; or it goes on waiting.

    `healthy`: the receipts of `asks` come in, so that silence says something.
    """
    climb = rules.climb(was.occasion)
    if climb is None or now >= climbing.closes_at(was, now, rules):
        return waiting.window_closed(was, now)
    if asks(was, now, rules) is None:
        if was.state is ReminderState.HELD and now >= was.not_after:
            return waiting.window_closed(was, now)
        return waiting.await_planned(was, now, rules, climb)
    rung = was.next_rung(was.rung)
    assert rung is not None  # else nothing would be asked
    if healthy:
        return queueing.schedule(was, now, Reason.NEXT_CONTACT, now, rung, 0)
    recheck = min(now + rules.receipts_recheck, climbing.closes_at(was, now, rules))
    return queueing.hold(was, Reason.RECEIPTS_UNHEALTHY, now, recheck)


def give_up(was: Situation, now: dt.datetime) -> Move | None:
    """Nobody will ever say what became of its unknown attempt, which is `unconfirmed` by now.

    A repeat that waits is not made any more.  None where another attempt may still be heard of, or after the end.
    """
    if was.queue is None or any(each.state in OPEN for each in was.attempts):
        return None
    if any(each.state in REACHED for each in was.attempts):
        return waiting.window_closed(was, now)
    return queueing.end(was, ReminderState.UNCONFIRMED, Reason.OUTCOME_UNKNOWN, now)


def cancel(was: Situation, by: Reason, now: dt.datetime, rules: Rules) -> tuple[Move | None, bool]:
    """The move a stop causes, and whether it came too late for a message that may have left."""
    if was.queue is None:
        left = any(each.state not in NO_CONTACT for each in was.attempts)
        return None, left and was.state is not ReminderState.CANCELLED
    if all(each.state in NO_CONTACT or each.state in FAILED for each in was.attempts):
        return _stopped(was, by, now), False
    closed = was.closed or by
    climb = rules.climb(was.occasion)
    if climb is not None and was.state is not ReminderState.SENDING:
        return waiting.await_planned(replace(was, closed=closed), now, rules, climb), True
    if was.state in (ReminderState.SENDING, ReminderState.AWAITING):
        return replace(queueing.stay(was), closed=closed), True
    # Scheduled or held for a resend while the first attempt is unknown: the resend must not happen any more.
    move = waiting.await_word(was, Reason.OUTCOME_UNKNOWN, now, rules, was.attempts[-1])
    return replace(move, closed=closed), True


def _stopped(was: Situation, by: Reason, now: dt.datetime) -> Move:
    """What the borrower himself has stopped, or the mode, is suppressed, what the lender has stopped is cancelled."""
    ours = by in (Reason.OPTED_OUT, Reason.NOT_ALLOWLISTED)
    state = ReminderState.SUPPRESSED if ours else ReminderState.CANCELLED
    return queueing.end(was, state, by, now)


def skip(was: Situation, reason: Reason, now: dt.datetime, rules: Rules) -> Move:
    """This contact is not to be made: its text is no longer so, or its channel unwanted.  The next, or the end."""
    climb = rules.climb(was.occasion)
    if any(each.state in MAY_ARRIVE if climb is None else climbing.blocks(each, was.rung) for each in was.attempts):
        return waiting.await_word(was, Reason.OUTCOME_UNKNOWN, now, rules, was.attempts[-1])
    move = _next_contact(was, now, rules)
    if move.queue is None and not was.attempts:
        state = ReminderState.SUPPRESSED if reason is Reason.OPTED_OUT else ReminderState.EXPIRED
        return queueing.end(was, state, reason, now)
    return move


def suppress(was: Situation, reason: Reason, now: dt.datetime, rules: Rules) -> Move:
    """It is not to be sent.  What may already have left ends by its attempt instead."""
    if _stands(was):
        planned = was.occasion is not None  # or it would come by time again and again
        closed = replace(was, closed=reason) if planned else was
        return waiting.await_word(closed, Reason.OUTCOME_UNKNOWN, now, rules, was.attempts[-1])
    return queueing.end(was, ReminderState.SUPPRESSED, reason, now)


def expire(was: Situation, now: dt.datetime) -> Move:
    """`not_after` passed.  What may already have left ends by its attempt instead."""
    if _stands(was):
        return waiting.window_closed(was, now)
    return queueing.end(was, ReminderState.EXPIRED, Reason.NOT_AFTER, now)


def close_open(was: Situation, now: dt.datetime) -> list[Attempt]:
    """Nobody waits for these attempts any more: they become unconfirmed.  A late last word still corrects them."""
    closed = [each for each in was.attempts if each.state in OPEN]
    for each in closed:
        each.become(AttemptState.UNCONFIRMED, each.failure, None, now)
    return closed
