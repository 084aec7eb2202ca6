"""The simulator's time: what it stamps, and how long it lets receipts wait.  Real unless somebody else keeps it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Pace(Protocol):
    """Time as the vendors and their phones see it."""

    def now(self) -> datetime:
        """In UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class RealPace:
    """This machine's."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
