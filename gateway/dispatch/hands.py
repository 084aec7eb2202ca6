"""What this process has in hand, and how much more it can take.

Two lanes: a share of the slots is kept for urgent, so bulk never delays it.  A slot is taken when a reminder is
claimed and free again when its outcome is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway.dispatch.pipeline import Job
from schemas.vocabulary import Lane


class Hands:
    """Jobs by reminder.  `slots` in all, of which bulk may take all but `urgent_share`."""

    def __init__(self, slots: int, urgent_share: float) -> None:
        self._jobs: dict[int, Job] = {}
        self._free = slots
        self._free_for_bulk = slots - int(slots * urgent_share)
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def reminders(self) -> frozenset[int]:
        return frozenset(self._jobs)

    @property
    def jobs(self) -> list[Job]:
        return list(self._jobs.values())

    @property
    def free(self) -> int:
        return max(self._free, 0)

    @property
    def free_for_bulk(self) -> int:
        return max(min(self._free, self._free_for_bulk), 0)

    def take(self, job: Job) -> bool:
        """False when the reminder is in hand already: it was handed over twice, and the first still has it."""
        reminder = job.claimed.id
        if reminder in self._jobs:
            return False
        self._jobs[reminder] = job
        self._count(job, -1)
        self._empty.clear()
        return True

    def release(self, jobs: Iterable[Job]) -> None:
        """What is recorded, or given up.  Repeatable."""
        for job in jobs:
            if self._jobs.get(job.claimed.id) is job:
                del self._jobs[job.claimed.id]
                self._count(job, 1)
        if not self._jobs:
            self._empty.set()

    async def emptied(self, seconds: float) -> bool:
        """Waits until nothing is in hand; False when that took too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _count(self, job: Job, n: int) -> None:
        self._free += n
        if job.claimed.lane is Lane.BULK:
            self._free_for_bulk += n
