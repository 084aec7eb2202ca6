"""Label values that exist only here, and which combinations can happen: the series that stand at zero at first."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from gateway.ledger.states import FAILED, NO_CONTACT, REACHED
from schemas.vocabulary import AttemptState, Failure, Reason, ReminderState

NONE: Final = "none"  # no reason, no failure
OTHER: Final = "other"  # a provider not configured (any more) or not known, as of an app's event refused; another topic


class Door(StrEnum):
    """What intake reads: the requests of others, and what a lender's core tells."""

    REQUESTS = "requests"
    REPAYMENTS = "repayments"


class CallbackResult(StrEnum):
    """How a provider's call was answered."""

    STORED = "stored"
    REPLAYED = "replayed"  # seen before; answered like the first
    UNAUTHENTICATED = "unauthenticated"
    MALFORMED = "malformed"  # the body was broken or did not come in time
    TOO_LARGE = "too_large"
    UNMATCHED = "unmatched"  # an app's event about no push of ours
    FAILED = "failed"  # our storage failed: it will be sent again


class Matured(StrEnum):
    """How an attempt ended, once it has: by its last word, or because its receipt window closed.

    What did not leave (`not_sent`) has no end of its own: it is tried again.
    """

    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"  # the provider took it, and it did not arrive
    REFUSED = "refused"  # the provider did not take it
    UNCONFIRMED = "unconfirmed"  # nobody said in time


# Last words after an end; they only raise.
RIPENED: Final = (
    (Matured.UNCONFIRMED, Matured.UNDELIVERED),
    (Matured.UNCONFIRMED, Matured.DELIVERED),
    (Matured.UNDELIVERED, Matured.DELIVERED),
)


def matured(state: AttemptState | None) -> Matured | None:
    """Whether an attempt in this state has ended, and how."""
    if state is None:
        return None
    if state in REACHED:
        return Matured.DELIVERED
    if state in FAILED:
        return Matured.UNDELIVERED
    return _ENDS.get(state)


_ENDS: Final = {AttemptState.REJECTED: Matured.REFUSED, AttemptState.UNCONFIRMED: Matured.UNCONFIRMED}


class TokenResult(StrEnum):
    """What came of asking a provider for an access token."""

    GOOD = "good"
    REFUSED = "refused"  # our credentials
    FAILED = "failed"  # it could not be reached, or said nothing we can read


class Rescue(StrEnum):
    """What was taken back from a worker."""

    UNINTENDED = "unintended"  # claimed by a dead worker: due again
    INTENDED = "intended"  # intended by a dead worker: unknown
    FORGOTTEN = "forgotten"  # claimed by a living worker that does not know of it: due again


# Every state a reminder can be moved to, with its reasons.
REASONS: Final[dict[ReminderState, tuple[Reason | None, ...]]] = {
    ReminderState.SCHEDULED: (
        None,
        Reason.RETRY,
        Reason.NEXT_CONTACT,
        Reason.DEFERRED,
        Reason.RESCUED,
        Reason.RELEASED,
        Reason.REVISED,
    ),
    ReminderState.HELD: (
        Reason.FROZEN,
        Reason.POISON,
        Reason.BUG,
        Reason.STOP_UNREADABLE,
        Reason.STALE_FACTS,
        Reason.FACT_MISSING,
        Reason.MERGED_INTO,
        Reason.RECEIPTS_UNHEALTHY,
    ),
    ReminderState.SENDING: (None,),
    ReminderState.AWAITING: (None, Reason.OUTCOME_UNKNOWN),
    ReminderState.DELIVERED: (None,),
    ReminderState.UNDELIVERED: (Reason.CONTACTS_EXHAUSTED, Reason.LADDER_CLOSED),
    ReminderState.UNCONFIRMED: (Reason.OUTCOME_UNKNOWN, Reason.NO_RECEIPT),
    ReminderState.SUPPRESSED: (
        Reason.DUPLICATE_STAGE,
        Reason.OPTED_OUT,
        Reason.NOT_ALLOWLISTED,
        Reason.MERGED_INTO,
    ),
    ReminderState.CANCELLED: (
        Reason.CANCELLED_REQUEST,
        Reason.CANCELLED_DEBT,
        Reason.CANCELLED_BORROWER,
        Reason.PAID,
        Reason.STOPPED,
        Reason.REPLANNED,
    ),
    ReminderState.EXPIRED: (Reason.NOT_AFTER, Reason.OUT_OF_DATE),
}

# Why a reminder is held until somebody has looked; a freeze ends by itself or by who made it.
FOR_PEOPLE: Final = frozenset({Reason.POISON, Reason.BUG, Reason.STOP_UNREADABLE})

# What intake makes.
BIRTHS: Final = (
    (ReminderState.SCHEDULED, None),
    (ReminderState.HELD, Reason.FROZEN),
    (ReminderState.HELD, Reason.STOP_UNREADABLE),
    (ReminderState.HELD, Reason.FACT_MISSING),
    (ReminderState.SUPPRESSED, Reason.DUPLICATE_STAGE),
    (ReminderState.SUPPRESSED, Reason.OPTED_OUT),
    (ReminderState.CANCELLED, Reason.PAID),
    (ReminderState.CANCELLED, Reason.STOPPED),
    (ReminderState.CANCELLED, Reason.CANCELLED_REQUEST),
    (ReminderState.CANCELLED, Reason.CANCELLED_DEBT),
    (ReminderState.CANCELLED, Reason.CANCELLED_BORROWER),
)

# Last words after the end, from which ending to which.  The last two stay as they are: we only tell that it arrived.
CORRECTIONS: Final = (
    (ReminderState.UNCONFIRMED, ReminderState.UNDELIVERED),
    (ReminderState.UNCONFIRMED, ReminderState.DELIVERED),
    (ReminderState.UNDELIVERED, ReminderState.DELIVERED),
    (ReminderState.EXPIRED, ReminderState.DELIVERED),
    (ReminderState.CANCELLED, ReminderState.CANCELLED),
    (ReminderState.SUPPRESSED, ReminderState.SUPPRESSED),
)


def failures_of(state: AttemptState) -> tuple[Failure | None, ...]:
    """The failures an attempt in this state can carry."""
    if state in NO_CONTACT or state in FAILED:
        return (None, *Failure)
    if state in (AttemptState.UNKNOWN, AttemptState.UNCONFIRMED):
        return (None, Failure.AMBIGUOUS)
    return (None,)
