"""From what is known of a borrower, and what is told now, to the reminders there are to be.

What is known is sealed in the ledger; it is opened, told, planned from and sealed again here, while the borrower's lock
is held.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from typing import Final

import msgspec

from gateway import personal
from gateway.cadence import loading
from gateway.cadence.facts import BorrowerFacts, Case, DebtFacts, told
from gateway.cadence.loading import Cadences
from gateway.cadence.model import Cadence, Occasion
from gateway.cadence.planning import Occurrence, Outcome, Skip, Skipped, of_borrower
from gateway.ids import IdSource, stage_key, subject_bucket
from gateway.intake import tombstones
from gateway.intake.decode_facts import CadenceOf
from gateway.intake.running import CadenceGone, kept
from gateway.ledger.commands import Cause, Request, Told
from gateway.ledger.in_use import Used
from gateway.ledger.standing import LADDER_LETTER
from gateway.ledger.wanted import FactsBroken, Key, LenderGone, Planned, SealedBorrower, SealedDebt, Wanted
from gateway.sealing import KeyUnknown, SealBroken, Sealer
from schemas.vocabulary import Channel, Reason

BORROWER_FIELD: Final = "borrower_fact"
DEBT_FIELD: Final = "debt_fact"

# Why a reminder that was planned is none any more; what is past ends by itself.
_REASONS: Final[Mapping[Skipped, Reason | None]] = {
    Skipped.PAID: Reason.PAID,
    Skipped.STOPPED: Reason.STOPPED,
    Skipped.OPTED_OUT: Reason.OPTED_OUT,
    Skipped.PAST: None,
}

_encode = msgspec.msgpack.Encoder().encode
_borrower = msgspec.msgpack.Decoder(BorrowerFacts).decode
_debt = msgspec.msgpack.Decoder(DebtFacts).decode


class Planner:
    """Pure but for ids and seals."""

    def __init__(
        self,
        sealer: Sealer,
        cadences: Cadences,
        cadence_of: CadenceOf,
        reachable: Mapping[str, Collection[Channel]],
        ids: Callable[[], IdSource],
    ) -> None:
        """`cadence_of` is asked for the version of a new plan, `cadences` for that of one that is made already.

        `reachable` are each lender's channels.
        """
        self._sealer = sealer
        self._cadences = cadences
        self._cadence_of = cadence_of
        self._reachable = reachable
        self._ids = ids

    def lacks(self, cadence: str, version: int) -> bool:
        """Whether this version of a cadence is not known here."""
        return self._cadences.version(cadence, version) is None

    def learn(self, used: Sequence[Used]) -> None:
        """What versions say that other processes have brought.  Raises CadenceError."""
        self._cadences = self._cadences.along_with(kept(used, self._cadences))

    def says(self, cadence: str, version: int) -> bytes:
        """What a version says, as the ledger keeps it."""
        return loading.encode(self._made_with(cadence, version))

    def plan(
        self,
        subject: bytes,
        cause: Cause,
        facts: Sequence[Told],
        borrower: SealedBorrower | None,
        debts: Sequence[SealedDebt],
        now: dt.datetime,
    ) -> Wanted:
        """Raises FactsBroken where what is known does not open, KeyUnknown where only the key is missing, LenderGone
        where there are plans by a lender that is none of ours any more.
        """
        try:
            was = self._open(borrower, debts)
        except KeyUnknown:
            raise  # keys come with a reload
        except SealBroken as broken:
            raise FactsBroken(str(broken)) from None
        case = reduce(told, (each.fact for each in facts), was)
        channels = self._reachable.get(cause.lender, ())
        if case.debts and cause.lender not in self._reachable:
            raise LenderGone(cause.lender)  # without channels all that waits would be taken back
        rows = {each.debt: each for each in debts}
        reminders: dict[Key, Planned] = {}
        gone: dict[Key, Reason | None] = {}
        kept: list[SealedDebt] = []
        cadences: dict[str, Cadence] = {}
        for debt, known in case.debts.items():
            row = rows.get(debt) or SealedDebt(subject, debt, self._id(subject), None, None, None)
            cadence = self._cadence(row, known, cause.lender, now)
            if cadence is not None:
                cadences[debt] = cadence
            if known != was.debts.get(debt) or (cadence is not None and row.cadence is None):
                kept.append(self._sealed_debt(row, known, cadence))
        found = of_borrower(cadences, case, now, subject.hex(), channels)
        for debt, outcomes in found.items():
            self._sort(subject, cause, case, case.debts[debt], cadences[debt], outcomes, reminders, gone)
        kept_borrower = self._kept_borrower(subject, borrower, was, case)
        return Wanted(kept_borrower, tuple(kept), reminders, gone, tombstones.changed(was, case))

    def _open(self, borrower: SealedBorrower | None, debts: Sequence[SealedDebt]) -> Case:
        known = BorrowerFacts()
        if borrower is not None and borrower.sealed is not None:
            known = _borrower(self._sealer.open(borrower.sealed, borrower.id, BORROWER_FIELD))
        opened = {
            each.debt: _debt(self._sealer.open(each.sealed, each.id, DEBT_FIELD))
            for each in debts
            if each.sealed is not None
        }
        return Case(known, opened)

    def _cadence(self, row: SealedDebt, known: DebtFacts, lender: str, now: dt.datetime) -> Cadence | None:
        """The version the plan was made with, or for a new one that which is in force; None where there is no plan."""
        if row.cadence is not None and row.version is not None:
            return self._made_with(row.cadence, row.version)
        if known.instalments is None or known.terms is None:
            return None
        return self._cadence_of(lender, known.terms.what.product, now)

    def _made_with(self, cadence: str, version: int) -> Cadence:
        found = self._cadences.version(cadence, version)
        if found is None:
            raise CadenceGone(f"{cadence}/{version}")
        return found

    def _sort(
        self,
        subject: bytes,
        cause: Cause,
        case: Case,
        known: DebtFacts,
        cadence: Cadence,
        found: Sequence[Outcome],
        reminders: dict[Key, Planned],
        gone: dict[Key, Reason | None],
    ) -> None:
        occasions = {each.name: each for each in cadence.occasions}
        for outcome in found:
            of = outcome.key
            key = (subject, of.debt, of.instalment, of.stage.value, of.step)
            if isinstance(outcome, Skip):
                gone[key] = _REASONS.get(outcome.why, Reason.REPLANNED)
            else:
                part = self._part(case, known, outcome)
                occasion = occasions[outcome.occasion]
                reminders[key] = self._planned(subject, cause, known, cadence, occasion, outcome, part)

    def _planned(
        self,
        subject: bytes,
        cause: Cause,
        known: DebtFacts,
        cadence: Cadence,
        occasion: Occasion,
        outcome: Occurrence,
        part: personal.Sealed,
    ) -> Planned:
        assert known.terms is not None
        key, product = outcome.key, known.terms.what.product
        ladder = "".join(LADDER_LETTER[rung.channel] for rung in outcome.ladder)
        business_key = stage_key(cause.lender, cause.borrower, *key.business())

        def sealed(reminder: int) -> bytes:
            return self._sealer.seal(personal.encode(part), reminder, personal.SEALED_FIELD)

        def request() -> Request:
            identifier = self._id(subject)
            return Request(
                origin=cause.origin,
                id=identifier,
                request_key=b"",
                hash=b"",
                stage_key=business_key,
                subject=subject,
                source=cause.source,
                request_id="/".join(
                    each for each in (key.debt, str(key.instalment), key.stage.value, key.step) if each
                ),
                lender=cause.lender,
                borrower=cause.borrower,
                debt=key.debt,
                instalment=key.instalment,
                product=product,
                stage=key.stage,
                step=key.step,
                template=occasion.template,
                lane=occasion.lane,
                ladder=ladder,
                send_at=outcome.at,
                not_after=outcome.until,
                state_as_of=part.state_as_of,
                sealed=sealed(identifier),
                traceparent=cause.traceparent,
                occasion=f"{cadence}/{occasion.name}",
                lacks=outcome.lacks,
            )

        how = (outcome.planned.isoformat(), outcome.until.isoformat(), ladder, occasion.template, occasion.lane.value)
        what = personal.encode(msgspec.structs.replace(part, state_as_of=_ANY))
        return Planned(
            business_key,
            self._sealer.fingerprint("\n".join(how).encode(), "occurrence"),
            self._sealer.fingerprint(what, "occurrence"),
            self._sealer.fingerprint(_encode(part.contacts), "occurrence"),
            outcome.lacks,
            request,
            sealed,
        )

    def _part(self, case: Case, known: DebtFacts, outcome: Occurrence) -> personal.Sealed:
        borrower = case.borrower
        assert known.terms is not None
        assert borrower.person is not None
        assert borrower.timezone is not None
        assert borrower.contacts is not None
        person, terms = borrower.person.what, known.terms.what
        preferred = None if borrower.preference is None else borrower.preference.what.locale
        addresses = {each.channel: each.address for each in reversed(borrower.contacts.what)}
        return personal.Sealed(
            locale=preferred or person.locale,
            timezone=borrower.timezone.what,
            jurisdiction=person.jurisdiction,
            contacts=tuple((rung.channel, addresses[rung.channel]) for rung in outcome.ladder),
            amount=str(outcome.amount),
            currency=terms.currency,
            due_date=outcome.due,
            state_as_of=outcome.as_of,
            stage=outcome.key.stage,
            role=terms.role,
            name=person.name,
            params=dict(terms.params),
            hours=outcome.hours,
            locale_of_plan=person.locale if preferred else None,
        )

    def _sealed_debt(self, row: SealedDebt, known: DebtFacts, cadence: Cadence | None) -> SealedDebt:
        sealed = self._sealer.seal(_encode(known), row.id, DEBT_FIELD)
        name, version = (None, None) if cadence is None else (cadence.name, cadence.version)
        return SealedDebt(row.subject, row.debt, row.id, name, version, sealed)

    def _kept_borrower(
        self, subject: bytes, row: SealedBorrower | None, was: Case, case: Case
    ) -> SealedBorrower | None:
        if case.borrower == was.borrower:
            return None
        identifier = self._id(subject) if row is None else row.id
        return SealedBorrower(
            subject, identifier, self._sealer.seal(_encode(case.borrower), identifier, BORROWER_FIELD)
        )

    def _id(self, subject: bytes) -> int:
        return self._ids().next(subject_bucket(subject))


_ANY: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
