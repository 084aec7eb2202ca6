"""The time zones a borrower may live in."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from functools import cache

# Names that are in the files and are no zone of anybody: this machine's own, and "not set yet".
_NOBODY_LIVES_IN = frozenset({"localtime", "Factory"})


@cache
def zones() -> Mapping[str, zoneinfo.ZoneInfo]:
    """Every IANA zone by name.  Read from disk once (0.1 s, 1 MB), so that decoding reads nothing."""
    return {name: zoneinfo.ZoneInfo(name) for name in zoneinfo.available_timezones() - _NOBODY_LIVES_IN}
