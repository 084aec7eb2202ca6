"""Dead letters, and whom they hold.  Losing a stop is worse than losing a reminder."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Container
from typing import Any, Final

from gateway.ids import subject_key
from gateway.intake import references
from gateway.intake.cloudevents import Record, Unread
from gateway.ledger.commands import Letter, Origin
from gateway.sealing import Sealer
from schemas.vocabulary import Rejection

LETTER_FIELD: Final = "deadletter"  # the field a dead letter's bytes are bound to, beside its id

_REQUEST_TYPE: Final = "reminder.requested"
# What stops a contact, also under names that are not ours yet.
_STOP_TYPES: Final = ("reminder.cancelled", "repayment.paid", "debt.stopped", "borrower.opted_out")

_REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,63}", re.ASCII)
_SOURCE_LENGTH: Final = 256


def letter(
    record: Record, unread: Unread, identifier: int, now: dt.datetime, sealer: Sealer, lenders: Container[str]
) -> Letter:
    """The reason, the field's place and the sealed bytes; in clear nothing of the content but a sane source.

    A stop holds the borrower it names, under its lender or, when that is no lender of ours, under every one; a stop
    that names nobody holds the borrower of the record's key.  So do bytes that do not tell whose they are, for they
    may have been a stop, unless they call themselves a request.  A null value has no bytes.
    """
    type_ = (unread.type or "").strip().lower()
    reason = unread.fault.reason
    lender = borrower = None
    if type_.startswith(_STOP_TYPES):
        reason = Rejection.UNREADABLE_STOP
        lender, borrower = _named(unread.data, lenders)
        borrower = borrower or _reference_in(record.key)
    elif unread.source is None and record.value is not None and not type_.startswith(_REQUEST_TYPE):
        borrower = _reference_in(record.key)
    return Letter(
        origin=Origin(record.topic, record.partition, record.offset),
        id=identifier,
        reason=reason,
        at=now,
        sealed=sealer.seal(record.value or b"", identifier, LETTER_FIELD),
        field_name=unread.fault.field,
        source=_sane_source(unread.source),
        subject=(subject_key(lender, borrower), lender, borrower) if lender and borrower else None,
        borrower=None if lender else borrower,
    )


def _named(data: Any, lenders: Container[str]) -> tuple[str | None, str | None]:
    """The lender and the borrower's reference in a message of unknown shape, as far as both can be ours."""
    if not isinstance(data, dict):
        return None, None
    whom = data.get("borrower_ref") or data.get("borrower")
    borrower = _reference(whom.get("ref") if isinstance(whom, dict) else whom)
    lender = data.get("lender")
    # A lender we do not know has no borrowers here; it may be a misspelling of one that has.
    known = borrower is not None and isinstance(lender, str) and lender in lenders
    return lender if known else None, borrower


def _reference_in(key: bytes | None) -> str | None:
    try:
        return _reference(key.decode()) if key else None
    except UnicodeDecodeError:
        return None


def _reference(value: Any) -> str | None:
    """A borrower's reference that a request could have come with."""
    sane = isinstance(value, str) and _REFERENCE.fullmatch(value) and not references.is_number(value, person=True)
    return value if sane else None


def _sane_source(source: str | None) -> str | None:
    if source is None or len(source) > _SOURCE_LENGTH or not source.isprintable() or references.is_number(source):
        return None
    return source
