"""What is due for one borrower of one lender on one of his days is one message, not several.

The most urgent stage leads: its channel, its words, its moment; the amounts of the others stand in it.  Of one
instalment only the most urgent is told at all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from gateway.cadence import calendar
from gateway.cadence.planning import Occurrence
from schemas.vocabulary import Stage

# The later, the more urgent.
_URGENCY: Final = {stage: place for place, stage in enumerate(Stage)}


class Merged(Struct, frozen=True):
    """One message.  `along` are told of in it; `superseded` are of an instalment that is told of already."""

    leader: Occurrence
    along: tuple[Occurrence, ...] = ()
    superseded: tuple[Occurrence, ...] = ()


def by_day(planned: Iterable[Occurrence], zone: str) -> dict[dt.date, list[Occurrence]]:
    """What goes out on each of the borrower's days."""
    days: dict[dt.date, list[Occurrence]] = {}
    for each in planned:
        days.setdefault(calendar.local_date(each.at, zone), []).append(each)
    return days


def merge(of_one_day: Sequence[Occurrence]) -> Merged:
    """The message of a day; `of_one_day` is not empty."""
    ranked = sorted(of_one_day, key=_rank)
    leader = ranked[0]
    told = {(leader.key.debt, leader.key.instalment)}
    along: list[Occurrence] = []
    superseded: list[Occurrence] = []
    for each in ranked[1:]:
        instalment = (each.key.debt, each.key.instalment)
        (superseded if instalment in told else along).append(each)
        told.add(instalment)
    return Merged(leader, tuple(along), tuple(superseded))


def _rank(each: Occurrence) -> tuple[int, dt.date, str, int, str]:
    return (-_URGENCY[each.key.stage], each.due, each.key.debt, each.key.instalment, each.key.step)
