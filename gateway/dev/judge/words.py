"""What an SMS says: of which day and amount, and what else it lists."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from decimal import Decimal

from gateway.dev.judge.told import Borrower, Debt, View

_OVERDUE = re.compile(r"([0-9]+) days? overdue")
_AMOUNT = re.compile(r"\$([0-9,]+\.[0-9]{2})")
_ALSO = re.compile(r"Also to be paid: (.*?)\. Pay: ")
_OTHER = re.compile(r"\$([0-9,]+\.[0-9]{2}) \(([0-9]+ [A-Z][a-z]+ [0-9]{4})\)")

# By what each lesson is known: it names no debt, and two of them may be due on one day.
LESSONS = {
    "spot_fraud": "how to spot a fraud",
    "ask_for_help": "help, early",
    "pay_early": "good to know",
    "complain": "not happy with us?",
}


def teaches(text: str, lesson: str) -> bool:
    return LESSONS.get(lesson, "") in text


def faults_of_words(
    text: str, who: Borrower, debt: Debt, number: int, due: dt.date, today: dt.date, view: View
) -> Iterator[str]:
    if not _is_true(text, due, today):
        yield "says_another_day"
    amount, owed = _AMOUNT.search(text), view.owed(debt, number)
    if owed > 0 and (amount is None or _amount(amount[1]) != owed):
        yield "says_another_amount"
    may_be = [
        (view.owed(each, n), _shown(date))
        for each in who.debts.values()
        if not view.stopped(each.stops)
        for n, date in (view.last(each.plans) or {}).items()
        if (each, n) != (debt, number)
    ]
    for other in others(text):
        if other not in may_be:
            yield "lists_what_is_not_owed"
        else:
            may_be.remove(other)  # twice is once too often


def _is_true(text: str, due: dt.date, today: dt.date) -> bool:
    """Whether the text tells this due date, by its name or by the days since."""
    overdue = _OVERDUE.search(text)
    if overdue is not None:
        return int(overdue[1]) == (today - due).days
    return _shown(due) in text.partition("Also to be paid")[0]


def others(text: str) -> list[tuple[Decimal, str]]:
    """What else it lists: amounts and due dates."""
    also = _ALSO.search(text)
    return [] if also is None else [(_amount(amount), date) for amount, date in _OTHER.findall(also[1])]


def tells(text: str, own: bool, owed: Decimal, due: dt.date, today: dt.date) -> bool:
    """Whether a debt's instalment is told of, in its own message (`own`) or among what else one lists."""
    also = _ALSO.search(text)
    listed = (owed, _shown(due)) in others(text) or (also is not None and also[1].endswith(" more"))
    return listed or (own and _is_true(text, due, today))


def _amount(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def _shown(date: dt.date) -> str:
    return f"{date.day} {date:%B} {date.year}"
