"""Dead letters, and whom they hold.  Losing a stop is worse than losing a reminder."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection
from typing import Any, Final

import msgspec

from gateway.ids import request_key, subject_key
from gateway.intake import references
from gateway.intake.cloudevents import Record, Unread, read_event
from gateway.intake.faults import Fault
from gateway.ledger.commands import Letter, Origin
from gateway.sealing import Sealer
from schemas.repayments import WATERMARK
from schemas.vocabulary import Rejection

LETTER_FIELD: Final = "deadletter"  # the field a dead letter's record is bound to, beside its id

_REQUEST_TYPE: Final = "reminder.requested"
# What stops a contact, also under names that are not ours yet, or nearly ours.
_STOP_TYPES: Final = ("reminder.cancel", "repayment.paid", "debt.stop", "borrower.opted_out", "borrower.opt_out")
# What could only lead to more contact than there is without it.
_ALLOWING_TYPES: Final = ("debt.resumed.", "borrower.opted_in.", "repayment.debit_failed.")

_REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,63}", re.ASCII)
_SOURCE_LENGTH: Final = 256
# What can still be made out in bytes that are no JSON anybody would agree on.
_TYPES: Final = re.compile(rb'"type"\s*+:\s*+"([^"\\]{1,128})"')
_LENDERS: Final = re.compile(rb'"lender"\s*+:\s*+"([^"\\]{1,64})"')
_BORROWERS: Final = re.compile(
    rb'"borrower(?:_ref)?"\s*+:\s*+(?:"([^"\\]{1,64})"|\{[^{}]{0,2000}?"ref"\s*+:\s*+"([^"\\]{1,64})")'
)
_MOST_NAMES: Final = 8


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """A record as it was, sealed with its dead letter: enough to publish it again."""

    value: bytes | None
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int

    def __repr__(self) -> str:
        return "Kept(...)"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


def seal(record: Record, identifier: int, sealer: Sealer) -> tuple[bytes, bytes]:
    """The record sealed under a dead letter's id, and a keyed hash of it: the same record has the same."""
    kept = _encode(Kept(record.value, record.key, tuple(record.headers), record.timestamp_ms))
    return sealer.seal(kept, identifier, LETTER_FIELD), sealer.fingerprint(kept, LETTER_FIELD)


def unseal(sealed: bytes, identifier: int, sealer: Sealer) -> Kept:
    """The record of a dead letter.  Raises SealBroken."""
    return _decode(sealer.open(sealed, identifier, LETTER_FIELD))


def letter(
    record: Record,
    unread: Unread,
    identifier: int,
    now: dt.datetime,
    sealer: Sealer,
    lenders: Collection[str],
    known_as: tuple[bytes, bytes] | None = None,
    *,
    of_facts: bool = False,
) -> Letter:
    """The reason, the field's place and the sealed record; in clear nothing of the content but a sane source.

    A stop holds the borrower it names, under its lender or, when that is no lender of ours, under every one; a stop
    that names nobody holds the borrower of the record's key.  So do bytes that do not tell whose they are, for they
    may have been a stop, unless they call themselves a request.  A null value has no bytes.  Any other fact
    (`of_facts`: the record stands among them) leaves in doubt what is known of the same.
    """
    reason = unread.fault.reason
    said = _said(record, unread)
    borrowers = said.borrowers or _references([record.key])
    under = sorted(each for each in said.lenders if each in lenders) or sorted(lenders)
    whom = tuple((subject_key(lender, each), lender, each) for each in borrowers for lender in under)
    holds: tuple[tuple[bytes, str, str], ...] = ()
    if said.stops:
        reason = Rejection.UNREADABLE_STOP
    if said.stops or (unread.source is None and record.value is not None and not said.requests):
        holds = whom
    type_ = unread.type or ""
    says_nothing = reason is Rejection.UNKNOWN_TYPE or type_ == WATERMARK or type_.startswith(_ALLOWING_TYPES)
    doubted = whom if of_facts and not holds and not says_nothing else ()
    sealed, fingerprint = seal(record, identifier, sealer)
    return Letter(
        origin=Origin(record.topic, record.partition, record.offset),
        id=identifier,
        reason=reason,
        at=now,
        sealed=sealed,
        fingerprint=fingerprint,
        field_name=unread.fault.field,
        source=_sane_source(unread.source),
        holds=holds,
        stops_request=said.request if said.stops else None,
        known_as=known_as,
        traceparent=unread.traceparent,
        doubts=tuple((subject, said.debt) for subject, _, _ in doubted),
    )


def named(record: Record, reason: str) -> tuple[frozenset[str], bytes | None]:
    """Whom a letter of this record may hold, whichever lender's: borrowers' references, and a request by its key.

    Rather too many than too few: also who is named by the record's key.  A request that could not be read holds nobody.
    """
    event = read_event(record)
    unread = (
        event if isinstance(event, Unread) else Unread(Fault(Rejection(reason)), event.type, event.source, event.data)
    )
    said = _said(record, unread)
    if record.value is None or (said.requests and not said.stops and reason != Rejection.UNREADABLE_STOP):
        return frozenset(), None
    return frozenset([*said.borrowers, *_references([record.key])]), said.request


class _Said(msgspec.Struct):
    """What an unreadable record says of itself, as far as it can be made out."""

    stops: bool
    requests: bool
    lenders: list[str]
    borrowers: list[str]
    request: bytes | None = None
    debt: str | None = None


def _said(record: Record, unread: Unread) -> _Said:
    type_ = (unread.type or "").strip().lower()
    if isinstance(unread.data, dict):
        harmless = type_.startswith((_REQUEST_TYPE, *_ALLOWING_TYPES))
        stops = type_.startswith(_STOP_TYPES) or (not harmless and _is_like_a_stop(unread.data))
        whom = unread.data.get("borrower_ref") or unread.data.get("borrower")
        borrowers = _references([whom.get("ref") if isinstance(whom, dict) else whom])
        lender = unread.data.get("lender")
        return _Said(
            stops,
            type_.startswith(_REQUEST_TYPE),
            [lender] if isinstance(lender, str) and borrowers else [],
            borrowers,
            _request_in(unread.data.get("scope")),
            next(iter(_references([unread.data.get("debt")])), None),
        )
    raw = record.value or b""
    types = [type_] if type_ else [each.decode("latin-1").strip().lower() for each in _TYPES.findall(raw)[:_MOST_NAMES]]
    return _Said(
        any(each.startswith(_STOP_TYPES) for each in types),
        any(each.startswith(_REQUEST_TYPE) for each in types),
        [each.decode("latin-1") for each in _LENDERS.findall(raw)[:_MOST_NAMES]],
        _references(one or other for one, other in _BORROWERS.findall(raw)[:_MOST_NAMES]),
    )


def _is_like_a_stop(data: dict[str, Any]) -> bool:
    """Under whatever type: it has the fields of a cancel."""
    return "borrower_ref" in data and ("scope" in data or "as_of" in data)


def _request_in(scope: Any) -> bytes | None:
    """The key of the one request that a scope names."""
    if not isinstance(scope, dict):
        return None
    source, identifier = scope.get("source"), scope.get("id")
    if isinstance(source, str) and isinstance(identifier, str) and source and identifier:
        try:
            return request_key(source, identifier)
        except UnicodeEncodeError:  # a lone surrogate
            return None
    return None


def _references(values: Any) -> list[str]:
    """Those that a request could have come with as its borrower's reference, each once."""
    found: dict[str, None] = {}
    for value in values:
        text = value
        if isinstance(value, bytes):
            try:
                text = value.decode()
            except UnicodeDecodeError:
                continue
        if isinstance(text, str) and _REFERENCE.fullmatch(text) and not references.is_number(text, person=True):
            found[text] = None
    return list(found)


def _sane_source(source: str | None) -> str | None:
    if source is None or len(source) > _SOURCE_LENGTH or not source.isprintable() or references.is_number(source):
        return None
    return source
