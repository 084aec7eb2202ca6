"""Where a reminder goes on: it is due, held, or at its end.  The moves in which none of its attempts has a say.  Pure.

What its attempts came to is asked in `follow`.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from msgspec.structs import replace

from gateway.ledger.standing import Move, Queue, Rules, Situation
from schemas.vocabulary import Reason, ReminderState

# Holds that end by themselves, and that `decide`, `intend` or `merge` makes again where they must.
_LETS_GO: Final = frozenset({Reason.FROZEN, Reason.STALE_FACTS, Reason.STOP_UNREADABLE, Reason.MERGED_INTO})


def hold(was: Situation, reason: Reason, now: dt.datetime, recheck_at: dt.datetime) -> Move:
    """Held for `reason`, looked at again at `recheck_at`; told once per reason."""
    at = min(recheck_at, was.not_after)
    news = (was.state, was.reason) != (ReminderState.HELD, reason)
    move = put(was, now, ReminderState.HELD, reason, at, Queue.TIMER, emit=news)
    move.resume_at = was.at if was.state is ReminderState.SCHEDULED else was.resume_at
    return move


def freeze(was: Situation, now: dt.datetime, by: int) -> Move:
    """Held by the freeze with this id until that is over, or until `not_after`."""
    return replace(hold(was, Reason.FROZEN, now, was.not_after), freeze=by)


def stale(was: Situation, now: dt.datetime, max_fact_age: dt.timedelta) -> Move:
    """Held until its facts are younger than that again, or until `not_after`."""
    return replace(hold(was, Reason.STALE_FACTS, now, was.not_after), max_fact_age=max_fact_age)


def merge(was: Situation, now: dt.datetime) -> Move:
    """Another's message tells of it: held until that has told somebody, or ends without a contact."""
    return hold(was, Reason.MERGED_INTO, now, was.not_after)


def merged(was: Situation, now: dt.datetime) -> Move:
    """The message that tells of it has reached somebody, or may have."""
    return end(was, ReminderState.SUPPRESSED, Reason.MERGED_INTO, now)


def release(was: Situation, now: dt.datetime, place: dt.datetime | None = None) -> Move:
    """What held it is gone: it goes when it was to go, or at once if that has passed; never before its `place`."""
    at = max(now, was.resume_at or now, place or now)
    return schedule(was, now, Reason.RELEASED, at, was.rung, was.tries)


def wait(was: Situation, lacks: bool, now: dt.datetime) -> Move | None:
    """What it would say is not known to be so, or is so again; None where it stands as it should.

    Also where something holds it that would let it go by itself: that is looked at again when the fact is known.
    """
    if lacks and (was.state is ReminderState.SCHEDULED or was.reason in _LETS_GO):
        return hold(was, Reason.FACT_MISSING, now, was.not_after)
    if not lacks and was.state is ReminderState.HELD and was.reason is Reason.FACT_MISSING:
        return release(was, now)
    return None


def is_out(was: Situation) -> bool:
    """Whether its next contact, if there is to be one, would follow by itself."""
    return was.state in (ReminderState.SENDING, ReminderState.AWAITING) or was.reason is Reason.RECEIPTS_UNHEALTHY


def revise(was: Situation, now: dt.datetime) -> Move | None:
    """What it says has changed while a worker has it in hand: back to its place, so that no intent is made of it."""
    if was.state is not ReminderState.SCHEDULED or was.queue is not Queue.CLAIM:
        return None
    return schedule(was, now, Reason.REVISED, was.at, was.rung, was.tries)


def defer(was: Situation, now: dt.datetime, until: dt.datetime) -> Move:
    """Nothing was tried; try again at `until`."""
    return schedule(was, now, Reason.DEFERRED, until, was.rung, was.tries)


def rescue(was: Situation, now: dt.datetime, rules: Rules) -> Move:
    """A claim without an intent whose worker died or forgot it."""
    if was.rescues + 1 > rules.max_rescues:
        return replace(hold(was, Reason.POISON, now, was.not_after), rescues=was.rescues + 1)
    return replace(schedule(was, now, Reason.RESCUED, was.at, was.rung, was.tries), rescues=was.rescues + 1)


def end(was: Situation, state: ReminderState, reason: Reason | None, now: dt.datetime) -> Move:
    return put(was, now, state, reason, now, None, emit=True)


def schedule(was: Situation, now: dt.datetime, reason: Reason, at: dt.datetime, rung: int, tries: int) -> Move:
    # A retry past not_after wakes up exactly there and expires.
    at = min(at, was.not_after)
    return replace(put(was, now, ReminderState.SCHEDULED, reason, at, Queue.DUE), rung=rung, tries=tries)


def stay(was: Situation) -> Move:
    assert was.queue is not None
    return put(was, was.at, was.state, was.reason, was.at, was.queue)


def put(
    was: Situation,
    now: dt.datetime,
    state: ReminderState,
    reason: Reason | None,
    at: dt.datetime,
    queue: Queue | None,
    *,
    emit: bool = False,
) -> Move:
    return Move(was, now, state, reason, at, queue, was.rung, was.tries, was.rescues, was.closed, emit)
