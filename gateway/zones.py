"""Moments as a person in their own zone reads them."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

UNKNOWN: Final = "unknown"
_MARK: Final = "# version "

zone_of = lru_cache(maxsize=1024)(ZoneInfo)


def in_zone(moment: dt.datetime, zone: str) -> dt.datetime:
    """`moment` by the clock and calendar of an IANA zone."""
    return moment.astimezone(zone_of(zone))


@lru_cache(maxsize=1)
def zone_data() -> str:
    """The version of the IANA zone data in use, such as `2026a`: the system's where there is one, else the package's.

    As `zoneinfo` looks for it.  `unknown` where the system's does not say.
    """
    for root in map(Path, zoneinfo.TZPATH):
        if (root / "UTC").exists():
            return _version_in(root)
    return str(import_module("tzdata").IANA_VERSION)


def _version_in(root: Path) -> str:
    try:
        with (root / "tzdata.zi").open(encoding="ascii") as lines:
            first = lines.readline().strip()
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    return first.removeprefix(_MARK) if first.startswith(_MARK) else UNKNOWN
