"""Business time.  A parameter everywhere, never `now()` in SQL: tests and dry runs turn it by hand.

Leases do not use it; they use the database's clock and monotonic deadlines.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    def now(self) -> dt.datetime:
        """Business time, in UTC."""
        ...


class ProcessClock(Clock, Protocol):
    """What a running gateway asks of its clock."""

    def milliseconds(self) -> int:
        """The same moment as Unix milliseconds."""
        ...

    def anchor(self, database_now: dt.datetime) -> None:
        """Tells it the database's time, against drift."""
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
    """Stands still until it is moved; no database moves it."""

    def __init__(self, start: dt.datetime) -> None:
        self._now = start
        self._wakes: list[Callable[[], None]] = []

    def anchor(self, database_now: dt.datetime) -> None:
        """Heeds nobody."""

    def now(self) -> dt.datetime:
        return self._now

    def milliseconds(self) -> int:
        """The same moment as Unix milliseconds."""
        return int(self._now.timestamp() * 1000)

    def advance(self, by: dt.timedelta) -> None:
        """Moves on, and wakes those who would else wait for a moment that has come at once."""
        self._now += by
        for wake in self._wakes:
            wake()

    def on_move(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)
