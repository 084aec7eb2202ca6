"""Local dates and times as moments, and windows of the day as spans of moments.

A local time that a change of the clocks leaves out is the first moment after the gap; one that comes twice is the first
of the two.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from gateway.zones import zone_of

DAY: Final = dt.timedelta(days=1)
_SECOND: Final = dt.timedelta(seconds=1)


class Hours(Struct, frozen=True):
    """From `opens` until before `closes`, on one local date; `opens` < `closes`."""

    opens: dt.time
    closes: dt.time


class Span(Struct, frozen=True):
    """From `start` until before `end`, in UTC."""

    start: dt.datetime
    end: dt.datetime

    @property
    def length(self) -> dt.timedelta:
        return self.end - self.start


@lru_cache(maxsize=4096)
def resolve(date: dt.date, time: dt.time, zone: str) -> dt.datetime:
    """The moment of a local date and time in an IANA zone, in UTC."""
    there = zone_of(zone)
    naive = dt.datetime.combine(date, time.replace(tzinfo=None, fold=0))
    first = naive.replace(tzinfo=there).astimezone(dt.UTC)
    if first.astimezone(there).replace(tzinfo=None, fold=0) == naive:
        return first
    # In a gap the two folds are before and after the change.
    return _change(naive.replace(tzinfo=there, fold=1).astimezone(dt.UTC), first, there)


def _change(before: dt.datetime, after: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """The first moment between the two that has the later one's offset; a change falls on a whole second."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + dt.timedelta(seconds=(after - before) // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


def spans(date: dt.date, hours: Sequence[Hours], zone: str) -> list[Span]:
    """Those of a local date, in their order; what a change of the clocks leaves out whole is left out."""
    found = [Span(resolve(date, each.opens, zone), resolve(date, each.closes, zone)) for each in hours]
    return [each for each in found if each.start < each.end]


def local_date(moment: dt.datetime, zone: str) -> dt.date:
    return moment.astimezone(zone_of(zone)).date()


def dates(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    """Both included."""
    while first <= last:
        yield first
        first += DAY


def within(hours: Hours, times: Sequence[tuple[str, str]] | None) -> list[Hours]:
    """The part of `hours` in the times that somebody prefers (`HH:MM`, past midnight where `end` is not later)."""
    if times is None:
        return [hours]
    preferred: list[tuple[dt.time, dt.time]] = []
    for start, end in ((dt.time.fromisoformat(start), dt.time.fromisoformat(end)) for start, end in times):
        preferred += [(start, end)] if start < end else [(start, dt.time.max), (dt.time.min, end)]
    cut = [Hours(max(hours.opens, start), min(hours.closes, end)) for start, end in sorted(preferred)]
    joined: list[Hours] = []
    for each in (each for each in cut if each.opens < each.closes):
        if joined and each.opens <= joined[-1].closes:
            joined[-1] = Hours(joined[-1].opens, max(joined[-1].closes, each.closes))
        else:
            joined.append(each)
    return joined
