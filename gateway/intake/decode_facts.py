"""One record of `repayments.events` to one command of the ledger: pure and total, as `decode` is for requests."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Final

from gateway.cadence.model import Cadence
from gateway.content import Catalogue
from gateway.ids import IdSource, subject_bucket, subject_key
from gateway.intake import checks, facts, fields, references
from gateway.intake.cloudevents import Record, Unread, read_event
from gateway.intake.decode import Decoded, LenderFacts
from gateway.intake.faults import Fault
from gateway.intake.letters import letter, seal
from gateway.ledger.commands import Heartbeat, Origin, Told
from gateway.sealing import Sealer
from schemas.messages import CloudEvent
from schemas.repayments import (
    WATERMARK,
    BorrowerOptedOut,
    DebtStopped,
    Fact,
    RepaymentPaid,
    RepaymentPlanned,
    Watermark,
)
from schemas.vocabulary import Channel, Rejection

_OUR_TYPE: Final = re.compile(r"(?:repayment|debt|credit|legal|borrower)\.[a-z_]+\.v[0-9]+")
# What stops is let through where its clock is merely in another zone: it only stops more.
_STOPS: Final = (RepaymentPaid, DebtStopped, BorrowerOptedOut)

# The cadence that a plan of this lender and product would be made with now; None where none is in force.
CadenceOf = Callable[[str, str | None, dt.datetime], Cadence | None]


class FactDecoder:
    """Decodes records.  Immutable after construction."""

    def __init__(
        self, *, lenders: Mapping[str, LenderFacts], catalogue: Catalogue, sealer: Sealer, cadence_of: CadenceOf
    ) -> None:
        self._lenders = dict(lenders)
        self._catalogue = catalogue
        self._sealer = sealer
        self._cadence_of = cadence_of

    def decode(self, record: Record, ids: IdSource, now: dt.datetime) -> Decoded:
        """The command the record stands for; a Letter when it stands for none.  No record makes it raise."""
        event = read_event(record)
        if isinstance(event, Unread):
            unread = event
        else:
            found = self._said(event, now)
            if isinstance(found, Watermark):
                return Decoded(_heartbeat(record, event, found, ids))
            if not isinstance(found, Fault):
                return Decoded(_told(record, event, found, ids))
            unread = Unread(found, event.type, event.source, event.data, event.traceparent or None)
        identifier = ids.next(record.offset & 0xFF)
        return Decoded(letter(record, unread, identifier, now, self._sealer, self._lenders, of_facts=True))

    def seal(self, record: Record, identifier: int) -> tuple[bytes, bytes]:
        """The record as a dead letter with this id keeps it, and its fingerprint."""
        return seal(record, identifier, self._sealer)

    def _said(self, event: CloudEvent, now: dt.datetime) -> Fact | Watermark | Fault:
        if references.is_number(event.source):
            return Fault(Rejection.BAD_REFERENCE, "source")
        return _watermark(event, now) if event.type == WATERMARK else self._fact(event, now)

    def _fact(self, event: CloudEvent, now: dt.datetime) -> Fact | Fault:
        found = facts.read(event, now, self._lenders)
        if isinstance(found, Fault):
            if found == Fault(Rejection.UNKNOWN_TYPE, "type") and _OUR_TYPE.fullmatch(event.type):
                return Fault(Rejection.UNKNOWN_VERSION, "type")
            return found
        ahead = checks.CANCEL_AHEAD if isinstance(found, _STOPS) else checks.STATE_AHEAD
        if found.as_of > now + ahead:
            return Fault(Rejection.BAD_DATE, "data.as_of")
        return (self._words(found, now) if isinstance(found, RepaymentPlanned) else None) or found

    def _words(self, plan: RepaymentPlanned, now: dt.datetime) -> Fault | None:
        """Whether every reminder that could follow can be put into words: later nobody would be there to be told."""
        cadence = self._cadence_of(plan.lender, plan.product, now)
        if cadence is None:
            return Fault(Rejection.NO_CADENCE, "data.product")
        has: set[Channel] = {each.channel for each in plan.contacts}
        known = frozenset().union(*(self._catalogue.slots(each.template) for each in cadence.occasions))
        if not plan.params.keys() <= known:
            return Fault(Rejection.BAD_PARAMS, "data.params")  # an unknown name may be anything: it is not repeated
        for occasion in cadence.occasions:
            channels = [rung.channel for rung in occasion.ladder if rung.channel in has]
            mine = self._catalogue.slots(occasion.template)
            problem = self._catalogue.check(
                occasion.template,
                occasion.stage,
                plan.borrower.locale,
                channels,
                {name: value for name, value in plan.params.items() if name in mine},
                self._lenders[plan.lender].default_locale,
            )
            if problem is not None:
                return Fault(problem.rejection, f"data.{problem.field}")
        return None


def _watermark(event: CloudEvent, now: dt.datetime) -> Watermark | Fault:
    found = fields.convert(event.data, Watermark)
    if isinstance(found, Watermark) and (
        not checks.is_sane(found.as_of, now) or found.as_of > now + checks.STATE_AHEAD
    ):
        return Fault(Rejection.BAD_DATE, "data.as_of")
    return found


def _heartbeat(record: Record, event: CloudEvent, said: Watermark, ids: IdSource) -> Heartbeat:
    return Heartbeat(
        origin=Origin(record.topic, record.partition, record.offset),
        id=ids.next(record.offset & 0xFF),
        source=event.source,
        as_of=said.as_of,
        traceparent=event.traceparent or None,
    )


def _told(record: Record, event: CloudEvent, fact: Fact, ids: IdSource) -> Told:
    borrower = fact.borrower.ref if isinstance(fact, RepaymentPlanned) else fact.borrower_ref
    subject = subject_key(fact.lender, borrower)
    return Told(
        origin=Origin(record.topic, record.partition, record.offset),
        id=ids.next(subject_bucket(subject)),
        source=event.source,
        subject=subject,
        lender=fact.lender,
        borrower=borrower,
        fact=fact,
        traceparent=event.traceparent or None,
    )
