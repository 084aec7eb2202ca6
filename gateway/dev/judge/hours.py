"""Hours of a borrower's day, by his clock."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

DAY = dt.timedelta(days=1)
_UNITS = {"m": dt.timedelta(minutes=1), "h": dt.timedelta(hours=1), "d": DAY}

Hours = list[tuple[dt.time, dt.time]]


def hours_of(window: dict[str, str], preference: Any) -> Hours:
    opens, closes = dt.time.fromisoformat(window["opens"]), dt.time.fromisoformat(window["closes"])
    if preference is None or preference[0] is None:
        return [(opens, closes)]
    wanted = [(dt.time.fromisoformat(each["start"]), dt.time.fromisoformat(each["end"])) for each in preference[0]]
    over = [(start, end) if start < end else (start, dt.time.max) for start, end in wanted]
    over += [(dt.time.min, end) for start, end in wanted if start >= end]
    cut = sorted((max(opens, start), min(closes, end)) for start, end in over)
    return [each for each in cut if each[0] < each[1]]


def opening_after(moment: dt.datetime, hours: Hours, zone: str) -> dt.datetime:
    """The first moment from `moment` on that is within the hours."""
    date = moment.astimezone(ZoneInfo(zone)).date()
    for day in (date, date + DAY):
        for opens, closes in hours:
            if moment < resolve(day, closes, zone):
                return max(moment, resolve(day, opens, zone))
    return moment


def resolve(date: dt.date, time: dt.time, zone: str) -> dt.datetime:
    return dt.datetime.combine(date, time, ZoneInfo(zone)).astimezone(dt.UTC)


def span(text: str) -> dt.timedelta:
    return int(text[:-1]) * _UNITS[text[-1]]
