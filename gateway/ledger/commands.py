"""What intake hands to the ledger: values made from records, before anything is written.

`traceparent` is the trace that the record came in, clean; what is told of it goes on in that.
"""

from __future__ import annotations

import datetime as dt

from msgspec import Struct

from schemas.repayments import Fact
from schemas.vocabulary import Lane, Reason, Rejection


class Origin(Struct, frozen=True, gc=False):
    """Where a record stood."""

    topic: str
    partition: int
    offset: int


class Request(Struct, frozen=True, gc=False):
    """A valid reminder request; keys and ids are made, personal data is sealed.

    `occasion` is which of a cadence's it stands for, `cadence/version/name`; None for what upstream asked for.
    One that `lacks` waits for a fact without which its words would not be true.
    """

    origin: Origin
    id: int
    request_key: bytes
    hash: bytes
    stage_key: bytes
    subject: bytes
    source: str
    request_id: str
    lender: str
    borrower: str
    debt: str
    instalment: int | None
    product: str | None
    stage: str
    step: str
    template: str
    lane: Lane
    ladder: str
    send_at: dt.datetime
    not_after: dt.datetime
    state_as_of: dt.datetime
    sealed: bytes
    traceparent: str | None = None
    occasion: str | None = None
    lacks: bool = False

    def __repr__(self) -> str:
        return f"Request({self.id}, {self.stage}, {self.ladder})"


class Validation(Struct, frozen=True, gc=False):
    """A valid `validate_only` request: answered, leaves no key."""

    origin: Origin
    id: int
    source: str
    request_id: str
    lender: str
    traceparent: str | None = None


class Cause(Struct, frozen=True):
    """What a borrower is planned for: a fact, or a reminder that has reached nobody.  `id` is the fact's, or its."""

    origin: Origin
    id: int
    source: str
    subject: bytes
    lender: str
    borrower: str
    traceparent: str | None = None


class Told(Cause, frozen=True, kw_only=True):
    """A fact of a lender's core about one of its borrowers."""

    fact: Fact

    def __repr__(self) -> str:
        return f"Told({self.id}, {type(self.fact).__name__})"


class Heartbeat(Struct, frozen=True, gc=False):
    """A source has published, before it in its partition, everything that it knew up to `as_of`."""

    origin: Origin
    id: int
    source: str
    as_of: dt.datetime
    traceparent: str | None = None


class Stop(Struct, frozen=True, gc=False):
    """A readable cancel.  `kind` and `value` name the tombstone: the request key in hex, the debt ref, or nothing."""

    origin: Origin
    id: int
    source: str
    subject: bytes
    lender: str
    borrower: str
    kind: str
    value: str
    as_of: dt.datetime
    request_key: bytes | None = None
    traceparent: str | None = None

    @property
    def reason(self) -> Reason:
        return Reason(f"cancelled_{self.kind}")


class Letter(Struct, frozen=True, gc=False):
    """A dead letter.  An unreadable stop `holds` subjects, as (key, lender, borrower), and that of `stops_request`.

    Any other fact leaves in doubt what is known of `doubts`, as (subject, debt), of all debts where there is none.
    `fingerprint` is equal for equal records.  `known_as` is the key and the data's hash of a request that cannot be
    taken now: if it was taken before, this is the same one read again.
    """

    origin: Origin
    id: int
    reason: Rejection
    at: dt.datetime
    sealed: bytes
    fingerprint: bytes
    field_name: str | None = None
    source: str | None = None
    holds: tuple[tuple[bytes, str, str], ...] = ()
    stops_request: bytes | None = None
    known_as: tuple[bytes, bytes] | None = None
    traceparent: str | None = None
    doubts: tuple[tuple[bytes, str | None], ...] = ()

    def __repr__(self) -> str:
        return f"Letter({self.id}, {self.reason})"


Command = Request | Validation | Stop | Told | Heartbeat | Letter
