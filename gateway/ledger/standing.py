"""Where a reminder stands, where it goes, and by which numbers: the values that moves are made of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.ledger.climbing import UNHEARD_OF, Climb
from gateway.ledger.quotas import Quotas
from gateway.ledger.states import OPEN
from schemas.vocabulary import AttemptState, Channel, Failure, Lane, Reason, ReminderState

# One letter per rung, so that the narrow `live` row carries the whole ladder.
LADDER_LETTER: Final[dict[Channel, str]] = {Channel.SMS: "s", Channel.PUSH: "p", Channel.VOICE: "v"}
LADDER_CHANNEL: Final = {letter: channel for channel, letter in LADDER_LETTER.items()}


# Why what is planned ends before its time; a later fact may take it back.
LIFTED: Final = frozenset({Reason.PAID, Reason.STOPPED, Reason.REPLANNED, Reason.OPTED_OUT})


class Queue(StrEnum):
    """Where a live reminder's one queue row stands."""

    DUE = "due"
    CLAIM = "claim"
    TIMER = "timer"


class Attempt(Struct, gc=False):
    """One attempt as the ledger has it.  `code` is only known of a change."""

    id: int
    rung: int
    channel: Channel
    provider: str
    state: AttemptState
    intended_at: dt.datetime
    failure: Failure | None = None
    final_at: dt.datetime | None = None
    code: str | None = None

    def become(self, state: AttemptState, failure: Failure | None, code: str | None, now: dt.datetime) -> None:
        """Notes the new state for the move and its event; the ledger's row is moved beside it."""
        self.state, self.failure, self.code = state, failure, code
        if state not in OPEN:
            self.final_at = now


class Situation(Struct, gc=False):
    """One reminder with everything a move depends on.  `queue` is None once it has ended.

    Read for one transaction and owned by it.  `resume_at` is when a held one was to go; `unsettled` whether the outcome
    of one of its attempts was unknown; `traceparent` the trace its request came in; `occasion` which of a
    cadence's it stands for.
    """

    id: int
    subject: bytes
    lender: str
    source: str
    request_id: str
    stage: str
    lane: Lane
    ladder: str
    not_after: dt.datetime
    state: ReminderState
    reason: Reason | None
    seq: int
    at: dt.datetime
    queue: Queue | None
    rung: int = 0
    tries: int = 0
    rescues: int = 0
    attempt: int | None = None
    closed: Reason | None = None
    worker: int | None = None
    token: int | None = None
    attempts: tuple[Attempt, ...] = ()
    resume_at: dt.datetime | None = None
    unsettled: bool = False
    traceparent: str | None = None
    occasion: str | None = None

    def find(self, attempt: int) -> Attempt | None:
        return next((each for each in self.attempts if each.id == attempt), None)

    def next_rung(self, after: int) -> int | None:
        """The next contact of the ladder that may still be tried."""
        # A person who pressed the call away is not called again, however many contacts lie between.
        declined = any(each.state is AttemptState.DECLINED for each in self.attempts)
        without = Channel.VOICE if declined else None
        rungs = range(after + 1, len(self.ladder))
        return next((rung for rung in rungs if LADDER_CHANNEL[self.ladder[rung]] is not without), None)


class Move(Struct, gc=False):
    """Where a reminder goes.  `queue` None ends it; `emit` tells upstream; `correction` raises an ending."""

    was: Situation
    now: dt.datetime
    state: ReminderState
    reason: Reason | None
    at: dt.datetime
    queue: Queue | None
    rung: int
    tries: int = 0
    rescues: int = 0
    closed: Reason | None = None
    emit: bool = False
    correction: bool = False
    resume_at: dt.datetime | None = None
    freeze: int = 0  # the id of what holds a frozen one; 0 when that is over already
    max_fact_age: dt.timedelta | None = None  # of one that is held for stale facts


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers behind the moves.  `receipt_window` is by provider, `resend` by provider and stage.

    `max_tries` bounds how often something may be sent again that was taken, or may have been.  What certainly was not
    is tried until `not_after`.  `release_per_second` is how fast what freezes have held leaves, by
    all processes together.  `climbs` is what cadences say of ladders, by occasion; `receipts` are the providers that
    tell what became of a message, `replaces` those where a repeat replaces the first; `call_centre` is by lender how
    many contacts an hour may keep its people busy.
    """

    receipt_window: Mapping[str, dt.timedelta] = field(default_factory=dict)
    default_receipt_window: dt.timedelta = dt.timedelta(hours=72)
    resend: frozenset[tuple[str, str]] = frozenset()
    backoff_base: dt.timedelta = dt.timedelta(seconds=30)
    backoff_cap: dt.timedelta = dt.timedelta(hours=1)
    max_tries: int = 8
    max_rescues: int = 5
    freeze_recheck: dt.timedelta = dt.timedelta(seconds=30)
    release_per_second: float = 50.0
    routes: Mapping[str, Mapping[Channel, str]] = field(default_factory=dict)
    quotas: Quotas | None = None
    climbs: Mapping[str, Climb] = field(default_factory=dict)
    receipts: frozenset[str] = frozenset()
    receipts_recheck: dt.timedelta = dt.timedelta(minutes=5)
    replaces: frozenset[str] = frozenset()
    call_centre: Mapping[str, int] = field(default_factory=dict)

    def climb(self, occasion: str | None) -> Climb | None:
        """How what stands for an occasion climbs; None for what upstream asked for itself."""
        return None if occasion is None else self.climbs.get(occasion, UNHEARD_OF)

    def route(self, lender: str, channel: Channel) -> str | None:
        """The provider a lender's contacts of this channel go through."""
        return self.routes.get(lender, {}).get(channel)

    def window(self, provider: str) -> dt.timedelta:
        return self.receipt_window.get(provider, self.default_receipt_window)
