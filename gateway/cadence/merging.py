"""What is due for one borrower of one lender on one of his days is one message, not several.

The most urgent stage leads: its channel, its words, its moment; the amounts of the others stand in it.  Of one
instalment only the most urgent is told at all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

from msgspec import Struct

from gateway.cadence import calendar
from gateway.cadence.planning import Key, Occurrence
from schemas.vocabulary import Stage

# The later, the more urgent.  Education yields to everything before it comes to this.
_URGENCY: Final = {stage: place for place, stage in enumerate(Stage)}


T = TypeVar("T")


class Merged(Struct, Generic[T], frozen=True):
    """One message.  `along` are told of in it; `superseded` are of an instalment that is told of already."""

    leader: T
    along: tuple[T, ...] = ()
    superseded: tuple[T, ...] = ()


def by_day(planned: Iterable[Occurrence], zone: str) -> dict[dt.date, list[Occurrence]]:
    """What goes out on each of the borrower's days."""
    days: dict[dt.date, list[Occurrence]] = {}
    for each in planned:
        days.setdefault(calendar.local_date(each.at, zone), []).append(each)
    return days


def put_off(of_one_day: Sequence[T], what: Callable[[T], tuple[Key, dt.date]]) -> list[T]:
    """The lessons that yield to something else of the day, be it another lesson: they are good on the next, too."""
    ranked = sorted(of_one_day, key=lambda each: _rank(*what(each)))
    return [each for each in ranked[1:] if what(each)[0].is_lesson]


def merge(of_one_day: Sequence[T], what: Callable[[T], tuple[Key, dt.date]]) -> Merged[T]:
    """The message of a day; `of_one_day` is not empty.  `what` gives the key of each and when it is due."""
    ranked = sorted(of_one_day, key=lambda each: _rank(*what(each)))
    leader = ranked[0]
    told = {_instalment(what(leader)[0])}
    along: list[T] = []
    superseded: list[T] = []
    for each in ranked[1:]:
        instalment = _instalment(what(each)[0])
        (superseded if instalment in told else along).append(each)
        told.add(instalment)
    return Merged(leader, tuple(along), tuple(superseded))


def _instalment(key: Key) -> tuple[str, int]:
    return key.debt, key.instalment


def _rank(key: Key, due: dt.date) -> tuple[int, dt.date, str, int, str]:
    return (-_URGENCY[key.stage], due, key.debt, key.instalment, key.step)
