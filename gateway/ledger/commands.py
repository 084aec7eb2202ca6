"""What intake hands to the ledger: values made from records, before anything is written."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from schemas.vocabulary import Lane, Reason, Rejection


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record stood."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Request:
    """A valid reminder request; keys and ids are made, personal data is sealed."""

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
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Validation:
    """A valid `validate_only` request: answered, leaves no key."""

    origin: Origin
    id: int
    source: str
    request_id: str
    lender: str


@dataclass(frozen=True, slots=True)
class Stop:
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

    @property
    def reason(self) -> Reason:
        return Reason(f"cancelled_{self.kind}")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.  An unreadable stop also holds `subject`, or every one of `borrower` when no lender is known."""

    origin: Origin
    id: int
    reason: Rejection
    at: dt.datetime
    sealed: bytes = field(repr=False)
    field_name: str | None = None
    source: str | None = None
    subject: tuple[bytes, str, str] | None = None
    borrower: str | None = None


Command = Request | Validation | Stop | Letter
