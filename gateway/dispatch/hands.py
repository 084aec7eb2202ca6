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
        self._next: dict[int, Job] = {}
        self._free = slots
        self._free_for_bulk = slots - int(slots * urgent_share)
        self._empty = asyncio.Event()
        self._empty.set()
        self._waiting: tuple[int, asyncio.Future[None]] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def reminders(self) -> frozenset[int]:
        return frozenset(self._jobs)

    @property
    def free(self) -> int:
        return max(self._free, 0)

    @property
    def free_for_bulk(self) -> int:
        return max(min(self._free, self._free_for_bulk), 0)

    def take(self, job: Job) -> bool:
        """False when the reminder is in hand already: then it is kept until that is released.

        A reminder comes again while its older attempt is still in hand: it was recorded a moment ago, or an early
        receipt has moved it before the provider's answer came.
        """
        reminder = job.claimed.id
        if reminder in self._jobs:
            self._next[reminder] = job
            return False
        self._jobs[reminder] = job
        self._count(job, -1)
        self._empty.clear()
        return True

    def release(self, jobs: Iterable[Job]) -> list[Job]:
        """What is recorded, or given up; returns what was kept back for it.  Repeatable."""
        again = []
        for job in jobs:
            reminder = job.claimed.id
            if self._jobs.get(reminder) is job:
                del self._jobs[reminder]
                self._count(job, 1)
                if (kept := self._next.pop(reminder, None)) is not None:
                    again.append(kept)
        if not self._jobs:
            self._empty.set()
        return again

    async def emptied(self, seconds: float) -> bool:
        """Waits until nothing is in hand; False when that took too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def roomy(self, enough: int, seconds: float) -> bool:
        """Waits until `enough` slots are free for bulk; False when that took too long.  For one who waits at a time."""
        if self.free_for_bulk >= enough:
            return True
        waiting = asyncio.get_running_loop().create_future()
        self._waiting = (enough, waiting)
        done, _ = await asyncio.wait([waiting], timeout=seconds)
        self._waiting = None
        return bool(done)

    def _count(self, job: Job, n: int) -> None:
        self._free += n
        if job.claimed.lane is Lane.BULK:
            self._free_for_bulk += n
        if self._waiting is not None and self.free_for_bulk >= self._waiting[0] and not self._waiting[1].done():
            self._waiting[1].set_result(None)
