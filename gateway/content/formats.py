"""How amounts and dates are written in a locale.  Amounts are decimal strings and stay exact: no float, no rounding."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.vocabulary import Channel

# ISO 4217: the currencies without a minor unit, and those whose minor unit is a thousandth.
_WHOLE: Final = frozenset(
    {
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    }
)
_THOUSANDTHS: Final = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
_AMOUNT: Final = re.compile(r"[0-9]{1,24}(?:\.[0-9]{1,24})?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

Phrase = Annotated[str, Meta(min_length=1)]


class CallLines(Struct, frozen=True, forbid_unknown_fields=True):
    """What every call says around its own texts.

    `identity` uses {lender} and {name} and names the keys 1 (yes) and 2 (no); `menu` names 1 (ways to pay), 2 (be
    called back by a person) and 9 (no more reminders).
    """

    identity: Phrase
    menu: Phrase
    not_me: Phrase
    call_back: Phrase
    stopped: Phrase
    goodbye: Phrase

    def ask(self, lender: str, name: str) -> str:
        return self.identity.format(lender=lender, name=name)


class Others(Struct, frozen=True, forbid_unknown_fields=True):
    """How other payments are listed: each an `item` with {amount} and {date}, then {count} that are more."""

    item: Phrase
    between: Phrase
    more: Phrase

    def list(self, payments: Sequence[tuple[str, str]], length: int) -> str:
        """As many of (amount, date), as shown, as fit into `length` together with how many more there are."""
        items = [self.item.format(amount=amount, date=date) for amount, date in payments]
        for n in range(len(items), -1, -1):
            left = len(items) - n
            shown = self.between.join([*items[:n], *([self.more.format(count=left)] if left else [])])
            if len(shown) <= length:
                return shown
        return ""


class Locale(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of locales.yaml.  Patterns use {year} {month} {day} {hour} {minute}, {number} {currency}, {name}."""

    date: Phrase
    moment: Phrase
    amount: Phrase
    greeting: Phrase
    greeting_without_name: Phrase
    opt_out: dict[Channel, Phrase]
    also: tuple[str, ...] = ()  # other names of exactly this locale
    amounts: dict[str, Phrase] = {}  # by currency, instead of `amount`
    months: Annotated[tuple[str, ...], Meta(min_length=12, max_length=12)] | None = None  # instead of numbers
    call: CallLines | None = None  # for templates with a dialogue
    others: Others | None = None  # for templates that plans may use
    group: str = ","
    decimal: str = "."

    def show_date(self, day: dt.date) -> str:
        return self.date.format(year=day.year, month=self._month(day), day=day.day)

    def show_moment(self, moment: dt.datetime) -> str:
        return self.moment.format(
            year=moment.year,
            month=self._month(moment),
            day=moment.day,
            hour=f"{moment.hour:02}",
            minute=f"{moment.minute:02}",
        )

    def show_amount(self, amount: str, currency: str) -> str | None:
        """The exact amount with the currency, or None when `amount` is not a decimal string such as 1234.50."""
        if not is_amount(amount):
            return None
        whole, _, fraction = amount.partition(".")
        digits = 0 if currency in _WHOLE else 3 if currency in _THOUSANDTHS else 2
        # Zeros beyond the minor unit say nothing; other digits there are kept, for a debt is never rounded.
        fraction = fraction.rstrip("0").ljust(digits, "0")
        number = f"{int(whole):,}"
        if self.group != ",":
            number = number.replace(",", self.group)
        if fraction:
            number = f"{number}{self.decimal}{fraction}"
        return self.amounts.get(currency, self.amount).format(number=number, currency=currency)

    def greet(self, name: str | None) -> str:
        return self.greeting.format(name=name) if name else self.greeting_without_name

    def _month(self, day: dt.date) -> str | int:
        return self.months[day.month - 1] if self.months else day.month


def is_amount(value: str) -> bool:
    return _AMOUNT.fullmatch(value) is not None


def as_date(value: str) -> dt.date | None:
    """A date written YYYY-MM-DD, or None."""
    if _DATE.fullmatch(value) is None:
        return None  # `fromisoformat` also reads other forms
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        return None
