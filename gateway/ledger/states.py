"""The two tables that say which way a state may move.  SQL enforces the same; a test compares them pair by pair."""

from __future__ import annotations

from typing import Final

from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Disposition
from schemas.vocabulary import ReminderState as R

# An attempt moves only to a higher rank, whoever reports it and in whatever order.
ATTEMPT_RANK: Final[dict[A, int]] = {
    A.INTENDED: 0,
    A.UNKNOWN: 1,
    A.ACCEPTED: 2,
    A.SENT: 3,
    A.UNCONFIRMED: 4,  # the window closed; a late last word still corrects it
    A.UNDELIVERED: 5,
    A.TTL_EXPIRED: 5,
    A.NO_ANSWER: 5,
    A.BUSY: 5,
    A.DECLINED: 5,
    A.ANSWERED: 6,
    A.DELIVERED: 7,
    A.ANSWERED_HUMAN: 7,
    A.ANSWERED_MACHINE: 7,
    # Proof that there was no contact.  Reached only before anyone else spoke, and never left.
    A.NOT_SENT: 9,
    A.REJECTED: 9,
}
NO_CONTACT: Final = frozenset({A.NOT_SENT, A.REJECTED})
_BEFORE_PROOF: Final = frozenset({A.INTENDED, A.UNKNOWN})

REACHED: Final = frozenset({A.DELIVERED, A.ANSWERED, A.ANSWERED_HUMAN, A.ANSWERED_MACHINE})
FAILED: Final = frozenset({A.UNDELIVERED, A.TTL_EXPIRED, A.NO_ANSWER, A.BUSY, A.DECLINED})
OPEN: Final = frozenset({A.INTENDED, A.UNKNOWN, A.ACCEPTED, A.SENT})
# Of what a person has given up nobody waits for a word, and it may have arrived all the same.
MAY_ARRIVE: Final = OPEN | {A.UNCONFIRMED}


def attempt_moves(current: A, new: A) -> bool:
    """Whether an attempt in `current` may become `new`."""
    if new in NO_CONTACT:
        return current in _BEFORE_PROOF
    return ATTEMPT_RANK[new] > ATTEMPT_RANK[current]


def receipt_disposition(current: A, new: A) -> Disposition:
    """What a receipt saying `new` does to an attempt in `current`, leaving aside how late it is."""
    if current == new:
        return Disposition.DUPLICATE
    if attempt_moves(current, new):
        return Disposition.APPLIED
    if current in NO_CONTACT:
        return Disposition.CONFLICT
    settled_both = current in REACHED | FAILED and new in REACHED | FAILED
    return (
        Disposition.CONFLICT if settled_both and (current in REACHED) != (new in REACHED) else Disposition.OUT_OF_ORDER
    )


# A reminder moves along these edges only.  An edge from a state to itself changes its reason, rung or time.
_ENDS: Final = frozenset({R.DELIVERED, R.UNDELIVERED, R.UNCONFIRMED, R.SUPPRESSED, R.CANCELLED, R.EXPIRED})
REMINDER_MOVES: Final[dict[R, frozenset[R]]] = {
    # To awaiting goes a resend that a stop forbids: its first attempt may still have arrived.
    R.SCHEDULED: frozenset({R.SCHEDULED, R.HELD, R.SENDING, R.AWAITING}) | _ENDS,
    R.HELD: frozenset({R.HELD, R.SCHEDULED, R.AWAITING}) | _ENDS,
    # No timer runs while it is being sent, and what may have left does not expire.
    R.SENDING: frozenset({R.SENDING, R.SCHEDULED, R.HELD, R.AWAITING}) | _ENDS - {R.UNCONFIRMED, R.EXPIRED},
    R.AWAITING: frozenset({R.AWAITING, R.SCHEDULED, R.HELD}) | _ENDS - {R.EXPIRED},
    # Corrections only raise.
    R.UNCONFIRMED: frozenset({R.UNDELIVERED, R.DELIVERED}),
    R.UNDELIVERED: frozenset({R.DELIVERED}),
    R.DELIVERED: frozenset(),
    R.SUPPRESSED: frozenset(),
    R.CANCELLED: frozenset(),
    R.EXPIRED: frozenset({R.DELIVERED}),
}


def reminder_moves(current: R, new: R) -> bool:
    """Whether a reminder in `current` may become `new`."""
    return new in REMINDER_MOVES[current]
