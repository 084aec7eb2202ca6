"""How long the last word on what is out is waited for, and what a reminder is when nobody waits any more.  Pure."""

from __future__ import annotations

import datetime as dt

from gateway.ledger import climbing, queueing
from gateway.ledger.climbing import Climb
from gateway.ledger.standing import Attempt, Move, Queue, Rules, Situation
from gateway.ledger.states import OPEN, REACHED
from schemas.vocabulary import AttemptState, Reason, ReminderState


def await_word(was: Situation, reason: Reason | None, now: dt.datetime, rules: Rules, attempt: Attempt) -> Move:
    """Waits for the last word; a reminder that waits already for the same reason keeps its window."""
    climb = rules.climb(was.occasion)
    if climb is not None:
        return await_planned(was, now, rules, climb)
    if was.state is ReminderState.AWAITING and was.reason is reason:
        return queueing.stay(was)
    at = now + rules.window(attempt.provider)
    return queueing.put(was, now, ReminderState.AWAITING, reason, at, Queue.TIMER, emit=True)


def await_planned(was: Situation, now: dt.datetime, rules: Rules, climb: Climb) -> Move:
    """Waits until the next rung follows by time or the last window closes; ends where there is nothing to wait for."""
    advances = climbing.advances_at(was, now, climb)
    waits = any(each.state in OPEN for each in was.attempts)
    reached = any(each.state in REACHED for each in was.attempts)
    if reached and advances is None and (not waits or was.closed is not None):
        return queueing.end(was, ReminderState.DELIVERED, None, now)
    given_up = not waits and not reached and any(each.state is AttemptState.UNCONFIRMED for each in was.attempts)
    if given_up and was.state is not ReminderState.SENDING:  # or it awaits a timer that rings at once
        return window_closed(was, now)
    if not waits and not reached and not given_up:
        reason = Reason.CONTACTS_EXHAUSTED if was.closed is None else Reason.LADDER_CLOSED
        return queueing.end(was, ReminderState.UNDELIVERED, reason, now)
    at = climbing.closes_at(was, now, rules)
    if advances is not None:
        at = min(at, advances)
    if not climb.known:
        at = min(at, now + rules.receipts_recheck)
    unknown = given_up or any(each.state is AttemptState.UNKNOWN for each in was.attempts)
    why = Reason.OUTCOME_UNKNOWN if unknown else None
    news = was.state is not ReminderState.AWAITING or was.reason is not why
    if not news and at == was.at:
        return queueing.stay(was)
    return queueing.put(was, now, ReminderState.AWAITING, why, at, Queue.TIMER, emit=news)


def window_closed(was: Situation, now: dt.datetime) -> Move:
    """Nothing follows any more, and nobody is waited for: it ends as its best attempt."""
    if any(each.state in REACHED for each in was.attempts):
        return queueing.end(was, ReminderState.DELIVERED, None, now)
    return queueing.end(was, ReminderState.UNCONFIRMED, _why_unconfirmed(was), now)


def _why_unconfirmed(was: Situation) -> Reason:
    unknown = any(each.state in (AttemptState.UNKNOWN, AttemptState.UNCONFIRMED) for each in was.attempts)
    return Reason.OUTCOME_UNKNOWN if unknown or was.reason is Reason.OUTCOME_UNKNOWN else Reason.NO_RECEIPT
