"""How a planned reminder climbs its ladder: what makes a contact enough, and when silence leads to the next.  Pure.

Only what an occasion of a cadence says is in force here.  What upstream asks for itself climbs after definite failures
only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.cadence.model import Cadence, Confirm, Occasion, OnUnknown, duration
from gateway.ledger.states import OPEN, REACHED
from schemas.vocabulary import AttemptState, Channel

if TYPE_CHECKING:
    from gateway.ledger.standing import Attempt, Rules, Situation

# What shows that somebody, or his machine, took the call.
_PICKED_UP: Final = frozenset({AttemptState.ANSWERED, AttemptState.ANSWERED_HUMAN, AttemptState.ANSWERED_MACHINE})
_HANDED_OVER: Final = frozenset({AttemptState.ACCEPTED, AttemptState.SENT}) | REACHED
# Nobody knows whether it left: nothing else may leave.
_UNSETTLED: Final = frozenset({AttemptState.INTENDED, AttemptState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Step:
    """What follows a contact by one channel; without `advance_after` the next one after a definite failure only."""

    confirm: Confirm = Confirm.DELIVERED
    advance_after: dt.timedelta | None = None

    def is_met_by(self, state: AttemptState) -> bool:
        """Whether an attempt that has arrived is enough by that.  That a message was opened is told apart."""
        match self.confirm:
            case Confirm.OPENED:
                return False
            case Confirm.ANSWERED:
                return state in _PICKED_UP
            case Confirm.DELIVERED | Confirm.ACCEPTED:
                return True


@dataclass(frozen=True, slots=True)
class Climb:
    """What an occasion says of its ladder, by channel: each is in it once.

    `known` is False of an occasion of which this process has not heard: nothing follows by time, and nothing is ended
    that another process may still go on with.
    """

    steps: Mapping[Channel, Step] = field(default_factory=dict)
    resends: bool = False
    invites_calls: bool = False
    known: bool = True

    def step(self, channel: Channel) -> Step:
        return self.steps.get(channel, _PLAIN)

    def paced(self, channel: Channel) -> bool:
        """Whether a contact by this channel may keep the lender's call centre busy."""
        return self.invites_calls or channel is Channel.VOICE


_PLAIN: Final = Step()
UNHEARD_OF: Final = Climb(known=False)


def climbs(cadence: Cadence) -> dict[str, Climb]:
    """By the path of its occasions, as a reminder names its own."""
    return {f"{cadence}/{each.name}": _climb(each) for each in cadence.occasions}


def _climb(occasion: Occasion) -> Climb:
    steps = {
        rung.channel: Step(rung.confirm, None if rung.advance_after is None else duration(rung.advance_after))
        for rung in occasion.ladder
    }
    return Climb(steps, occasion.on_unknown is OnUnknown.RESEND, occasion.invites_calls)


def blocks(other: Attempt, rung: int) -> bool:
    """Whether nothing may leave on this rung while `other` stands as it does: of an earlier rung that was passed by
    time somebody knows that it was handed over, and it may still arrive.  What has arrived is not repeated, and what a
    person has given up may have arrived.
    """
    given_up = other.state is AttemptState.UNCONFIRMED and other.rung == rung
    return other.state in _UNSETTLED or (other.state in OPEN | REACHED and other.rung == rung) or given_up


def is_enough(was: Situation, attempt: Attempt, climb: Climb) -> bool:
    """Whether an attempt that has arrived ends the reminder: by its rule, or because nothing could follow by time."""
    step = climb.step(attempt.channel)
    return step.is_met_by(attempt.state) or _due_after(was, attempt, step) is None


def advances_at(was: Situation, now: dt.datetime, climb: Climb) -> dt.datetime | None:
    """When the next rung is tried without a failure; None where it is not, or not as things stand."""
    contact = silent(was)
    if contact is None or now >= was.not_after:
        return None
    return _due_after(was, contact, climb.step(contact.channel))


def silent(was: Situation) -> Attempt | None:
    """The contact after which silence counts: the last of its rung that was handed over, where nothing is unknown."""
    if any(each.state in _UNSETTLED for each in was.attempts):
        return None
    mine = [each for each in was.attempts if each.rung == was.rung and each.state in _HANDED_OVER]
    return mine[-1] if mine else None


def _due_after(was: Situation, attempt: Attempt, step: Step) -> dt.datetime | None:
    if step.advance_after is None or step.confirm is Confirm.ACCEPTED or was.closed is not None:
        return None
    at = attempt.intended_at + step.advance_after
    return at if at < was.not_after and was.next_rung(attempt.rung) is not None else None


def closes_at(was: Situation, now: dt.datetime, rules: Rules) -> dt.datetime:
    """When the last of the receipt windows closes, each counted from its hand-over."""
    waits = (each for each in was.attempts if each.state in OPEN | REACHED)
    return max((each.intended_at + rules.window(each.provider) for each in waits), default=now)
