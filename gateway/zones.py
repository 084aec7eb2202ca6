"""Moments as a person in their own zone reads them."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo

zone_of = lru_cache(maxsize=1024)(ZoneInfo)


def in_zone(moment: dt.datetime, zone: str) -> dt.datetime:
    """`moment` by the clock and calendar of an IANA zone."""
    return moment.astimezone(zone_of(zone))
