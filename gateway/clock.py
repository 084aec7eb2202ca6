"""Business time.  A parameter everywhere, never `now()` in SQL: tests and dry runs turn it by hand.

Leases do not use it; they use the database's clock and monotonic deadlines.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> dt.datetime:
        """Business time, in UTC."""
        ...


class AnchoredClock:
    """The database's time carried on by this process's monotonic clock: steps of the local wall clock do no harm."""

    def __init__(self, anchor: dt.datetime) -> None:
        self.anchor(anchor)

    def anchor(self, database_now: dt.datetime) -> None:
        """Sets the time; called at start and now and then, against drift."""
        self._ahead = database_now.timestamp() - time.monotonic()

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._ahead + time.monotonic(), dt.UTC)

    def milliseconds(self) -> int:
        """The same moment as Unix milliseconds."""
        return int((self._ahead + time.monotonic()) * 1000)


class VirtualClock:
    """Stands still until it is moved."""

    def __init__(self, start: dt.datetime) -> None:
        self._now = start

    def now(self) -> dt.datetime:
        return self._now

    def advance(self, by: dt.timedelta) -> None:
        self._now += by
