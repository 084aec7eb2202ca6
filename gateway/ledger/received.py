"""What providers tell, as values: an event as it is kept, and what became of it."""

from __future__ import annotations

import datetime as dt

from msgspec import Struct

from schemas.vocabulary import AttemptState, Disposition, Failure, FailureScope


class Stored(Struct, frozen=True, kw_only=True, gc=False):
    """One event of a callback as it is kept.

    `replay` is None where the provider gives nothing to know a copy by; `sealed` holds the raw bytes, with a callback's
    first event.  `disposition` is set from the start where nothing is to be applied.  `parked_at` is where the parked
    row of a receipt stands that is read again.  `address` is the blind index of whom it speaks of, or who wrote;
    `reply` what was written, sealed.
    """

    id: int
    provider: str
    kind: str
    code: str
    received_at: dt.datetime
    replay: bytes | None = None
    attempt: int | None = None
    ref: str | None = None
    state: AttemptState | None = None
    failure: Failure | None = None
    occurred_at: dt.datetime | None = None
    sealed: bytes | None = None
    disposition: Disposition | None = None
    parked_at: dt.datetime | None = None
    address: bytes | None = None
    reply: bytes | None = None
    scope: FailureScope = FailureScope.RECIPIENT  # not kept: it speaks of the provider now

    def __repr__(self) -> str:
        return f"Stored({self.id}, {self.provider}, {self.kind}, {self.code})"


class Disposed(Struct, frozen=True, gc=False):
    """What became of one receipt; `handed_over_at` is when the attempt it settles was intended.

    `template` is that of the reminder where the receipt complains of a template; `traceparent` is its request's trace.
    `was` is where the attempt stood.
    """

    receipt: Stored
    disposition: Disposition
    attempt: int | None = None
    handed_over_at: dt.datetime | None = None
    template: str = ""
    reminder: int | None = None
    traceparent: str | None = None
    was: AttemptState | None = None
