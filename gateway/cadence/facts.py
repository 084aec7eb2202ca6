"""What is known of a borrower and his debts, made of facts in whatever order they arrive.

Guarantees: `told` is a pure function; any order and any repetition of the same facts gives the same `Case`.  Each thing
that can be known stands by itself with the `as_of` it was last told with; the later one counts, and where two facts of
one moment differ, the one that leads to less contact.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.messages import Contact
from schemas.repayments import (
    BorrowerOptedIn,
    BorrowerOptedOut,
    ContactChanged,
    CreditReported,
    DebitFailed,
    DebtResumed,
    DebtStopped,
    Fact,
    Instalment,
    LegalFiled,
    PreferenceChanged,
    Program,
    RepaymentPaid,
    RepaymentPlanned,
    RepaymentRescheduled,
    Stop,
)
from schemas.vocabulary import Channel, Role

T = TypeVar("T")

NOTHING: Final = Decimal(0)
_QUARTER: Final = 900  # seconds


class Said(Struct, Generic[T], frozen=True):
    """Something, as the lender knew it at `as_of`."""

    what: T
    as_of: dt.datetime


class Person(Struct, frozen=True):
    """What only a plan says of its borrower."""

    locale: str
    jurisdiction: str
    name: str | None


class Terms(Struct, frozen=True):
    """What only a plan says of its debt."""

    currency: str
    product: str | None
    role: Role
    params: Mapping[str, str]


class Preference(Struct, frozen=True):
    """Local times as (start, end), `HH:MM`; None is no preference."""

    times: tuple[tuple[str, str], ...] | None = None
    channels: tuple[Channel, ...] | None = None
    locale: str | None = None


class BorrowerFacts(Struct, frozen=True):
    person: Said[Person] | None = None
    timezone: Said[str] | None = None
    contacts: Said[tuple[Contact, ...]] | None = None
    preference: Said[Preference] | None = None
    stops: Mapping[Stop, Said[bool]] = {}
    out: Mapping[tuple[Program, Channel | None], Said[bool]] = {}

    def stopped(self) -> Stop | None:
        return _first(self.stops)

    def agreed(self, program: Program) -> bool:
        """Nobody agrees by saying nothing."""
        said = self.out.get((program, None))
        return said is not None and not said.what

    def opted_out(self, program: Program, channel: Channel | None = None) -> bool:
        said = self.out.get((program, channel))
        return said is not None and said.what


class DebtFacts(Struct, frozen=True):
    terms: Said[Terms] | None = None
    instalments: Said[tuple[Instalment, ...]] | None = None
    settled: dt.datetime | None = None  # as of when nothing of the whole debt was owed
    outstanding: Mapping[int, Said[Decimal]] = {}
    failed: Mapping[int, tuple[dt.datetime, ...]] = {}  # by instalment: when a debit failed, the first of each quarter
    stops: Mapping[Stop, Said[bool]] = {}
    credit_reported: Said[bool] | None = None
    legal_filed: Said[bool] | None = None

    def stopped(self) -> Stop | None:
        return _first(self.stops)

    def owed(self, instalment: Instalment) -> Decimal:
        """What is still owed of an instalment of the plan.

        A payment outlasts later plans: a plan that is told again with its first amounts must not remind who has paid.
        What a plan can do is reopen a debt that was paid as a whole, by instalments that are planned later.
        """
        assert self.instalments is not None
        if self.settled is not None and self.settled >= self.instalments.as_of:
            return NOTHING
        planned = Decimal(instalment.amount)
        said = self.outstanding.get(instalment.number)
        return planned if said is None else min(planned, said.what)

    def owed_as_of(self, instalment: Instalment) -> dt.datetime:
        """As of when `owed` is so."""
        assert self.instalments is not None
        moments = [self.instalments.as_of]
        if self.settled is not None:
            moments.append(self.settled)
        if (said := self.outstanding.get(instalment.number)) is not None:
            moments.append(said.as_of)
        return max(moments)


class Case(Struct, frozen=True):
    """One borrower of one lender."""

    borrower: BorrowerFacts = BorrowerFacts()
    debts: Mapping[str, DebtFacts] = {}


def told(case: Case, fact: Fact) -> Case:
    """The case with one more fact."""
    if isinstance(fact, RepaymentPlanned):
        case = _of_borrower(case, _introduced(case.borrower, fact))
        return _of_debt(case, fact.debt, _planned(case.debts.get(fact.debt, _NO_DEBT), fact))
    if isinstance(fact, ContactChanged | PreferenceChanged | BorrowerOptedOut | BorrowerOptedIn):
        return _of_borrower(case, _borrower_told(case.borrower, fact))
    if isinstance(fact, DebtStopped | DebtResumed) and fact.debt is None:
        return _of_borrower(case, replace(case.borrower, stops=_stops(case.borrower.stops, fact)))
    assert fact.debt is not None
    return _of_debt(case, fact.debt, _debt_told(case.debts.get(fact.debt, _NO_DEBT), fact))


def _introduced(borrower: BorrowerFacts, fact: RepaymentPlanned) -> BorrowerFacts:
    who = fact.borrower
    return replace(
        borrower,
        person=_later(borrower.person, Said(Person(who.locale, who.jurisdiction, who.name), fact.as_of)),
        timezone=_later(borrower.timezone, Said(who.timezone, fact.as_of)),
        contacts=_later(borrower.contacts, Said(fact.contacts, fact.as_of)),
    )


def _planned(debt: DebtFacts, fact: RepaymentPlanned) -> DebtFacts:
    return replace(
        debt,
        terms=_later(debt.terms, Said(Terms(fact.currency, fact.product, fact.borrower.role, fact.params), fact.as_of)),
        instalments=_later(debt.instalments, Said(fact.instalments, fact.as_of)),
    )


def _borrower_told(
    borrower: BorrowerFacts, fact: ContactChanged | PreferenceChanged | BorrowerOptedOut | BorrowerOptedIn
) -> BorrowerFacts:
    if isinstance(fact, ContactChanged):
        borrower = replace(borrower, contacts=_later(borrower.contacts, Said(fact.contacts, fact.as_of)))
        if fact.timezone is None:
            return borrower
        return replace(borrower, timezone=_later(borrower.timezone, Said(fact.timezone, fact.as_of)))
    if isinstance(fact, PreferenceChanged):
        times = None if fact.times is None else tuple((each.start, each.end) for each in fact.times)
        said = Said(Preference(times, fact.channels, fact.locale), fact.as_of)
        return replace(borrower, preference=_later(borrower.preference, said))
    key = (fact.program, fact.channel)
    out = _or(borrower.out.get(key), Said(isinstance(fact, BorrowerOptedOut), fact.as_of))
    return replace(borrower, out={**borrower.out, key: out})


def _debt_told(debt: DebtFacts, fact: Fact) -> DebtFacts:
    if isinstance(fact, RepaymentRescheduled):
        return replace(debt, instalments=_later(debt.instalments, Said(fact.instalments, fact.as_of)))
    if isinstance(fact, RepaymentPaid):
        if fact.instalment is None:
            return replace(debt, settled=max(debt.settled or fact.as_of, fact.as_of))
        said = _less(debt.outstanding.get(fact.instalment), Said(Decimal(fact.outstanding), fact.as_of))
        return replace(debt, outstanding={**debt.outstanding, fact.instalment: said})
    if isinstance(fact, DebitFailed):
        known = _firsts(debt.failed.get(fact.instalment, ()), fact.as_of)
        return replace(debt, failed={**debt.failed, fact.instalment: known})
    if isinstance(fact, DebtStopped | DebtResumed):
        return replace(debt, stops=_stops(debt.stops, fact))
    if isinstance(fact, CreditReported):
        return replace(debt, credit_reported=_and(debt.credit_reported, Said(not fact.withdrawn, fact.as_of)))
    assert isinstance(fact, LegalFiled)
    return replace(debt, legal_filed=_and(debt.legal_filed, Said(not fact.withdrawn, fact.as_of)))


def _firsts(known: tuple[dt.datetime, ...], moment: dt.datetime) -> tuple[dt.datetime, ...]:
    """The first of each quarter of an hour.  Only the first of a day ever counts, and in every zone days begin with a
    quarter: so however often a core tells of its debits, what is known of them stays small.
    """
    firsts = {_quarter(each): each for each in known}
    quarter = _quarter(moment)
    firsts[quarter] = min(firsts.get(quarter, moment), moment)
    return tuple(sorted(firsts.values()))


def _quarter(moment: dt.datetime) -> int:
    return int(moment.timestamp()) // _QUARTER


def _stops(stops: Mapping[Stop, Said[bool]], fact: DebtStopped | DebtResumed) -> dict[Stop, Said[bool]]:
    return {**stops, fact.reason: _or(stops.get(fact.reason), Said(isinstance(fact, DebtStopped), fact.as_of))}


def _first(stops: Mapping[Stop, Said[bool]]) -> Stop | None:
    """The stop that is in force, the first of the vocabulary where there are several."""
    return next((each for each in Stop if each in stops and stops[each].what), None)


# --- of two things said, the one that counts --------------------------------------------------------------------------


def _later(was: Said[T] | None, said: Said[T]) -> Said[T]:
    """Of two that differ at one moment always the same one, whichever came first."""
    if was is None or said.as_of > was.as_of:
        return said
    return said if said.as_of == was.as_of and _bytes(said.what) > _bytes(was.what) else was


def _or(was: Said[bool] | None, said: Said[bool]) -> Said[bool]:
    return said if was is None or (said.as_of, said.what) > (was.as_of, was.what) else was


def _and(was: Said[bool] | None, said: Said[bool]) -> Said[bool]:
    return said if was is None or (said.as_of, not said.what) > (was.as_of, not was.what) else was


def _less(was: Said[Decimal] | None, said: Said[Decimal]) -> Said[Decimal]:
    return said if was is None or (said.as_of, -said.what) > (was.as_of, -was.what) else was


def _bytes(value: Any) -> bytes:
    return msgspec.msgpack.encode(value, order="deterministic")


def _of_borrower(case: Case, borrower: BorrowerFacts) -> Case:
    return replace(case, borrower=borrower)


def _of_debt(case: Case, debt: str, facts: DebtFacts) -> Case:
    return replace(case, debts={**case.debts, debt: facts})


_NO_DEBT: Final = DebtFacts()
