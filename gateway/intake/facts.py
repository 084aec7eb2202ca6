"""What must be true of a fact of `repayments.events`.  Pure; the first fault is the answer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Final, cast

from gateway.intake import checks, fields, references
from gateway.intake.currencies import MINOR_UNITS
from gateway.intake.faults import Fault
from gateway.intake.zones import zones
from schemas.messages import CloudEvent
from schemas.repayments import (
    FACT_TYPES,
    ContactChanged,
    Fact,
    Instalment,
    PreferenceChanged,
    RepaymentPaid,
    RepaymentPlanned,
    RepaymentRescheduled,
)
from schemas.vocabulary import Rejection

_MOST_DECIMALS: Final = max(MINOR_UNITS.values())  # of a payment: its currency is the plan's


def read(event: CloudEvent, now: dt.datetime, lenders: Collection[str] | None = None) -> Fact | Fault:
    """The fact of an event, or why it is none.  Without `lenders` any may speak.

    `now` bounds what can be meant by a date; whether a fact is known before it can be is not looked at.
    """
    type_ = FACT_TYPES.get(event.type)
    if type_ is None:
        return Fault(Rejection.UNKNOWN_TYPE, "type")
    found = fields.convert(event.data, type_)
    if isinstance(found, Fault):
        return found
    fact = cast("Fact", found)
    return _names(fact, lenders) or _as_of(fact, now) or _content(fact, now) or fact


def _names(fact: Fact, lenders: Collection[str] | None) -> Fault | None:
    if lenders is not None and fact.lender not in lenders:
        number = references.is_number(fact.lender)
        return Fault(Rejection.BAD_REFERENCE if number else Rejection.UNKNOWN_LENDER, "data.lender")
    addresses = [each.address for each in getattr(fact, "contacts", ())]
    person, place = (
        (fact.borrower.ref, "data.borrower.ref")
        if isinstance(fact, RepaymentPlanned)
        else (fact.borrower_ref, "data.borrower_ref")
    )
    if references.is_number(person, person=True, contacts=addresses):
        return Fault(Rejection.BAD_REFERENCE, place)
    for name in ("debt", "product"):
        reference: str | None = getattr(fact, name, None)
        if reference is not None and references.is_number(reference, contacts=addresses):
            return Fault(Rejection.BAD_REFERENCE, f"data.{name}")
    return None


def _as_of(fact: Fact, now: dt.datetime) -> Fault | None:
    return None if checks.is_sane(fact.as_of, now) else Fault(Rejection.BAD_DATE, "data.as_of")


def _content(fact: Fact, now: dt.datetime) -> Fault | None:
    if isinstance(fact, RepaymentPlanned):
        decimals = MINOR_UNITS.get(fact.currency)
        if decimals is None:
            return Fault(Rejection.UNKNOWN_CURRENCY, "data.currency")
        return (
            _zone(fact.borrower.timezone, "data.borrower.timezone")
            or _locale(fact.borrower.locale, "data.borrower.locale")
            or checks.contacts(fact.contacts)
            or _instalments(fact.instalments, decimals, now)
        )
    if isinstance(fact, RepaymentRescheduled):
        return _instalments(fact.instalments, _MOST_DECIMALS, now)
    if isinstance(fact, ContactChanged):
        zone = None if fact.timezone is None else _zone(fact.timezone, "data.timezone")
        return zone or checks.contacts(fact.contacts)
    if isinstance(fact, PreferenceChanged):
        return None if fact.locale is None else _locale(fact.locale, "data.locale")
    if isinstance(fact, RepaymentPaid):
        return _payment(fact)
    return None


def _payment(fact: RepaymentPaid) -> Fault | None:
    if not checks.is_amount(fact.outstanding, _MOST_DECIMALS):
        return Fault(Rejection.BAD_AMOUNT, "data.outstanding")
    if fact.instalment is None and fact.outstanding.strip("0."):
        # Of which instalment, nobody could say.
        return Fault(Rejection.MISSING_FIELD, "data.instalment")
    return None


def _instalments(instalments: tuple[Instalment, ...], decimals: int, now: dt.datetime) -> Fault | None:
    numbers: set[int] = set()
    for index, each in enumerate(instalments):
        place = f"data.instalments[{index}]"
        if each.number in numbers:
            return Fault(Rejection.WRONG_FIELD, f"{place}.number")
        numbers.add(each.number)
        if not checks.is_amount(each.amount, decimals):
            return Fault(Rejection.BAD_AMOUNT, f"{place}.amount")
        if not checks.is_sane(each.due_date, now):
            return Fault(Rejection.BAD_DATE, f"{place}.due_date")
    return None


def _zone(zone: str, place: str) -> Fault | None:
    return None if zone in zones() else Fault(Rejection.UNKNOWN_ZONE, place)


def _locale(locale: str, place: str) -> Fault | None:
    return None if checks.is_locale(locale) else Fault(Rejection.UNKNOWN_LOCALE, place)
