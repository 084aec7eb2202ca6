"""What must be true of a request beyond the types of its fields.  Pure; the first fault is the answer."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from gateway.content import Catalogue
from gateway.intake import phones, references
from gateway.intake.currencies import MINOR_UNITS
from gateway.intake.faults import Fault
from gateway.intake.zones import zones
from schemas.messages import Contact, ReminderCancelled, ReminderRequested
from schemas.vocabulary import Channel, Rejection

# Dates outside are mistakes, such as year 9999 for "never".
FIRST_YEAR: Final = 1990
YEARS_AHEAD: Final = 50

# A debt's state cannot be known before it is: one from the future would outlive the cancels that come until then.
STATE_AHEAD: Final = dt.timedelta(minutes=5)
# A cancel is let through where its clock is merely in another zone: it only stops more.
CANCEL_AHEAD: Final = dt.timedelta(days=1)

_AMOUNT: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)
_LOCALE: Final = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*", re.ASCII)
_TOKEN: Final = re.compile(r"[!-~]{1,512}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LenderFacts:
    """What intake knows of a configured lender.  Requests in a locale no template speaks get `default_locale`."""

    name: str
    default_locale: str | None = None


class Checks:
    """Everything that is known when the process starts; immutable."""

    def __init__(self, lenders: Mapping[str, LenderFacts], catalogue: Catalogue) -> None:
        self._lenders = dict(lenders)
        self._catalogue = catalogue
        self._zones = zones()
        phones.load()

    def request(self, event: ReminderRequested, now: dt.datetime) -> Fault | None:
        return (
            self._names(event)
            or _debt(event, now)
            or self._place(event)
            or contacts(event.contacts)
            or _times(event, now)
            or self._words(event)
        )

    def cancel(self, event: ReminderCancelled, now: dt.datetime) -> Fault | None:
        if event.lender not in self._lenders:
            return _unknown(event.lender, Rejection.UNKNOWN_LENDER, "data.lender")
        if references.is_number(event.borrower_ref, person=True):
            return Fault(Rejection.BAD_REFERENCE, "data.borrower_ref")
        if not is_sane(event.as_of, now) or event.as_of > now + CANCEL_AHEAD:
            return Fault(Rejection.BAD_DATE, "data.as_of")
        return None

    def step(self, event: ReminderRequested, now: dt.datetime) -> str:
        """The step of a request that passed: its own, or the planned local date; nothing where a stage is met once."""
        if not event.stage.repeats:
            return ""
        zone: ZoneInfo = self._zones[event.borrower.timezone]
        return event.step or (event.send_at or now).astimezone(zone).date().isoformat()

    def _names(self, event: ReminderRequested) -> Fault | None:
        if event.lender not in self._lenders:
            return _unknown(event.lender, Rejection.UNKNOWN_LENDER, "data.lender")
        addresses = [each.address for each in event.contacts]
        if references.is_number(event.borrower.ref, person=True, contacts=addresses):
            return Fault(Rejection.BAD_REFERENCE, "data.borrower.ref")
        if references.is_number(event.debt.ref, contacts=addresses):
            return Fault(Rejection.BAD_REFERENCE, "data.debt.ref")
        if event.debt.product is not None and references.is_number(event.debt.product, contacts=addresses):
            return Fault(Rejection.BAD_REFERENCE, "data.debt.product")
        return None

    def _place(self, event: ReminderRequested) -> Fault | None:
        if event.borrower.timezone not in self._zones:
            return Fault(Rejection.UNKNOWN_ZONE, "data.borrower.timezone")
        if not is_locale(event.borrower.locale):
            return Fault(Rejection.UNKNOWN_LOCALE, "data.borrower.locale")
        return None

    def _words(self, event: ReminderRequested) -> Fault | None:
        problem = self._catalogue.check(
            event.template,
            event.stage,
            event.borrower.locale,
            [each.channel for each in event.contacts],
            event.params,
            self._lenders[event.lender].default_locale,
        )
        if problem is None:
            return None
        if problem.field == "template":
            return _unknown(event.template, problem.rejection, "data.template")
        return Fault(problem.rejection, f"data.{problem.field}")


def _unknown(reference: str, reason: Rejection, field: str) -> Fault:
    """A configured name may be any; an unknown one that is a number says more about the sender's mistake."""
    return Fault(Rejection.BAD_REFERENCE if references.is_number(reference) else reason, field)


def is_amount(text: str, decimals: int) -> bool:
    """Whether it is a decimal with at most so many places."""
    amount = _AMOUNT.fullmatch(text)
    return amount is not None and len(amount[1] or "") <= decimals


def is_locale(text: str) -> bool:
    return _LOCALE.fullmatch(text) is not None


def _debt(event: ReminderRequested, now: dt.datetime) -> Fault | None:
    debt = event.debt
    decimals = MINOR_UNITS.get(debt.currency)
    if decimals is None:
        return Fault(Rejection.UNKNOWN_CURRENCY, "data.debt.currency")
    if not is_amount(debt.amount, decimals) or not debt.amount.strip("0."):
        return Fault(Rejection.BAD_AMOUNT, "data.debt.amount")
    if not is_sane(debt.due_date, now):
        return Fault(Rejection.BAD_DATE, "data.debt.due_date")
    if not is_sane(debt.state_as_of, now) or debt.state_as_of > now + STATE_AHEAD:
        return Fault(Rejection.BAD_DATE, "data.debt.state_as_of")
    return None


def is_token(address: str) -> bool:
    """Whether it may be a device token."""
    return _TOKEN.fullmatch(address) is not None


def contacts(given: Sequence[Contact]) -> Fault | None:
    """The first address that is none."""
    for index, contact in enumerate(given):
        if contact.channel is Channel.PUSH:
            if not is_token(contact.address):
                return Fault(Rejection.BAD_ADDRESS, f"data.contacts[{index}].address")
        elif not phones.is_phone(contact.address):
            return Fault(Rejection.BAD_PHONE, f"data.contacts[{index}].address")
    return None


def _times(event: ReminderRequested, now: dt.datetime) -> Fault | None:
    if event.step and (fault := _step(event, event.step, now)):
        return fault
    if event.send_at is not None and not is_sane(event.send_at, now):
        return Fault(Rejection.BAD_DATE, "data.send_at")
    if not is_sane(event.not_after, now):
        return Fault(Rejection.BAD_DATE, "data.not_after")
    if event.not_after <= now:
        return Fault(Rejection.PAST_NOT_AFTER, "data.not_after")
    if event.send_at is not None and event.not_after <= event.send_at:
        return Fault(Rejection.WRONG_FIELD, "data.not_after")
    return None


def _step(event: ReminderRequested, step: str, now: dt.datetime) -> Fault | None:
    if not event.stage.repeats:
        return Fault(Rejection.WRONG_FIELD, "data.step")
    try:
        day = dt.date.fromisoformat(step)
    except ValueError:
        return Fault(Rejection.BAD_DATE, "data.step")
    # Python also reads 20261118 and 2026-W47-3; one date must have one name.
    if day.isoformat() != step or not is_sane(day, now):
        return Fault(Rejection.BAD_DATE, "data.step")
    return None


def is_sane(moment: dt.date, now: dt.datetime) -> bool:
    """Whether it can be meant."""
    return FIRST_YEAR <= moment.year <= now.year + YEARS_AHEAD
