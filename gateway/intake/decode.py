"""One Kafka record to one command of the ledger: pure, total, and the only place that knows what a record means."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway import personal
from gateway.content import Catalogue
from gateway.ids import IdSource, request_key, stage_key, subject_bucket, subject_key
from gateway.intake import fields, references
from gateway.intake.checks import Checks, LenderFacts
from gateway.intake.cloudevents import Record, Unread, read_event
from gateway.intake.faults import Fault
from gateway.intake.letters import letter, seal
from gateway.ledger.commands import Command, Origin, Request, Stop, Validation
from gateway.ledger.standing import LADDER_LETTER
from gateway.personal import Sealed
from gateway.sealing import Sealer
from schemas.messages import (
    CANCELLED,
    REQUESTED,
    CloudEvent,
    DebtScope,
    ReminderCancelled,
    ReminderRequested,
    RequestScope,
)
from schemas.vocabulary import Rejection, Stage

__all__ = ["Decoded", "Decoder", "LenderFacts", "Record"]

_OUR_TYPE: Final = re.compile(r"reminder\.(?:requested|cancelled)(?:\..*)?", re.DOTALL)

_canonical = msgspec.json.Encoder(order="sorted").encode


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A command, and for a request its personal part: the fast path need not open the seal again.

    `begun` is there when its trace is recorded: the trace it came in, and when.
    """

    command: Command
    personal: Sealed | None = None
    begun: tuple[str | None, int] | None = None


class Decoder:
    """Decodes records.  Immutable after construction, which reads zones and numbering plans once (0.3 s)."""

    def __init__(self, *, lenders: Mapping[str, LenderFacts], catalogue: Catalogue, sealer: Sealer) -> None:
        self._lenders = frozenset(lenders)
        self._checks = Checks(lenders, catalogue)
        self._sealer = sealer

    def decode(self, record: Record, ids: IdSource, now: dt.datetime) -> Decoded:
        """The command the record stands for; a Letter when it stands for none.  No record makes it raise."""
        event = read_event(record)
        known_as = None
        if isinstance(event, Unread):
            unread = event
        else:
            made = self._command(record, event, ids, now)
            if isinstance(made, Decoded):
                return made
            unread = Unread(made, event.type, event.source, event.data, event.traceparent or None)
            if event.type == REQUESTED:
                # Times pass, templates and lenders go: what was taken once is still a duplicate when it is read again.
                known_as = (request_key(event.source, event.id), self._hash(event.data))
        identifier = ids.next(record.offset & 0xFF)  # letters are independent of each other: any bucket will do
        return Decoded(letter(record, unread, identifier, now, self._sealer, self._lenders, known_as))

    def seal(self, record: Record, identifier: int) -> tuple[bytes, bytes]:
        """The record as a dead letter with this id keeps it, and its fingerprint."""
        return seal(record, identifier, self._sealer)

    def _hash(self, data: object) -> bytes:
        """Of the value as it was sent, not of the message made from it: a field with a default, added by a later
        version of ours, must not turn a repeat into a conflict."""
        return self._sealer.fingerprint(_canonical(data), "request")

    def _command(self, record: Record, event: CloudEvent, ids: IdSource, now: dt.datetime) -> Decoded | Fault:
        if references.is_number(event.source):
            return Fault(Rejection.BAD_REFERENCE, "source")
        if event.type == REQUESTED:
            return self._request(record, event, ids, now)
        if event.type == CANCELLED:
            return self._stop(record, event, ids, now)
        return Fault(Rejection.UNKNOWN_VERSION if _OUR_TYPE.fullmatch(event.type) else Rejection.UNKNOWN_TYPE, "type")

    def _request(self, record: Record, event: CloudEvent, ids: IdSource, now: dt.datetime) -> Decoded | Fault:
        asked = fields.convert(event.data, ReminderRequested)
        if isinstance(asked, Fault):
            return asked
        if references.is_number(event.id, contacts=[each.address for each in asked.contacts]):
            return Fault(Rejection.BAD_REFERENCE, "id")
        if asked.stage is Stage.EDUCATION:
            return Fault(Rejection.UNKNOWN_STAGE, "data.stage")  # who has agreed to it, plans alone know
        fault = self._checks.request(asked, now)
        if fault is not None:
            return fault
        debt, borrower = asked.debt, asked.borrower.ref
        subject = subject_key(asked.lender, borrower)
        identifier = ids.next(subject_bucket(subject))
        origin = Origin(record.topic, record.partition, record.offset)
        if asked.validate_only:
            return Decoded(
                Validation(origin, identifier, event.source, event.id, asked.lender, event.traceparent or None)
            )
        step = self._checks.step(asked, now)
        part = personal.personal_part(asked)
        request = Request(
            origin=origin,
            id=identifier,
            request_key=request_key(event.source, event.id),
            hash=self._hash(event.data),
            stage_key=stage_key(asked.lender, borrower, debt.ref, debt.instalment, asked.stage, step),
            subject=subject,
            source=event.source,
            request_id=event.id,
            lender=asked.lender,
            borrower=borrower,
            debt=debt.ref,
            instalment=debt.instalment,
            product=debt.product,
            stage=asked.stage,
            step=step,
            template=asked.template,
            lane=asked.priority,
            ladder="".join([LADDER_LETTER[each.channel] for each in asked.contacts]),
            send_at=asked.send_at or now,
            not_after=asked.not_after,
            state_as_of=debt.state_as_of,
            sealed=self._sealer.seal(personal.encode(part), identifier, personal.SEALED_FIELD),
            traceparent=event.traceparent or None,
        )
        return Decoded(request, part)

    def _stop(self, record: Record, event: CloudEvent, ids: IdSource, now: dt.datetime) -> Decoded | Fault:
        asked = fields.convert(event.data, ReminderCancelled)
        if isinstance(asked, Fault):
            return asked
        fault = self._checks.cancel(asked, now)
        if fault is not None:
            return fault
        key = None
        match asked.scope:
            case RequestScope(source=of, id=request_id):
                key = request_key(of, request_id)
                kind, value = "request", key.hex()
            case DebtScope(ref=debt):
                if references.is_number(debt):
                    return Fault(Rejection.BAD_REFERENCE, "data.scope.ref")
                kind, value = "debt", debt
            case _:
                kind, value = "borrower", ""
        subject = subject_key(asked.lender, asked.borrower_ref)
        return Decoded(
            Stop(
                origin=Origin(record.topic, record.partition, record.offset),
                id=ids.next(subject_bucket(subject)),
                source=event.source,
                subject=subject,
                lender=asked.lender,
                borrower=asked.borrower_ref,
                kind=kind,
                value=value,
                as_of=asked.as_of,
                request_key=key,
                traceparent=event.traceparent or None,
            )
        )
