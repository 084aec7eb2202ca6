"""This process as a worker: its lease in the ledger, its ids, its monotonic deadline.

A lease that ended is not revived.  The process registers anew and goes on; what it had only claimed is lost to it,
what it had sent it still records.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from dataclasses import dataclass
from typing import Protocol

from gateway import unreachable
from gateway.clock import ProcessClock
from gateway.ids import IdSource
from gateway.ledger import workers
from gateway.ledger.database import Database
from gateway.observability.logs import get_logger

log = get_logger(__name__)


class LeaseObserver(Protocol):
    def lease_lost(self) -> None: ...


@dataclass(slots=True)
class Lease:
    """One incarnation.  `deadline` is monotonic and errs on the early side; it moves with each heartbeat."""

    id: int
    deadline: float

    def stands(self, for_seconds: float = 0.0) -> bool:
        """Whether the lease still stands for so long, by our own clock."""
        return time.monotonic() + for_seconds < self.deadline

    @property
    def left(self) -> float:
        """Seconds it still stands, by our own clock."""
        return max(self.deadline - time.monotonic(), 0.0)


class Worker:
    """Registers, beats and registers again.  `lease` and `ids` are those of the current incarnation."""

    def __init__(
        self,
        database: Database,
        clock: ProcessClock,
        lease_seconds: float,
        heartbeat_seconds: float,
        metrics: LeaseObserver,
        *,
        relays: bool = True,
    ) -> None:
        """`relays` says whether this process publishes."""
        self._relays = relays
        self._clock = clock
        self._database = database
        self._length = dt.timedelta(seconds=lease_seconds)
        self._heartbeat = heartbeat_seconds
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None
        self.lease = Lease(0, 0.0)
        self.ids = IdSource(0)

    async def start(self) -> None:
        await self._register()
        self._task = asyncio.create_task(self._beat(), name="heartbeat")

    async def stop(self) -> None:
        """Gives the lease up; the claims that are left are rescued by others at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.lease.deadline = 0.0
        async with self._database.connection() as connection:
            await workers.retire(connection, self.lease.id)

    def trouble(self) -> str | None:
        """What keeps this process from starting a send: its lease has run out, as it does without the database."""
        return None if self.lease.stands() else "lease_lapsed"

    async def _register(self) -> None:
        asked = time.monotonic()
        async with self._database.connection() as connection:
            worker = await workers.register(connection, self._length, relays=self._relays)
        self.lease.deadline = 0.0  # whoever still holds the old incarnation must not start anything under it
        self.lease = Lease(worker.id, asked + self._length.total_seconds())
        # By the database's time: two processes that lease a number one after the other agree about it.
        self.ids = IdSource(worker.number, self._clock.milliseconds, after=self.ids)
        log.info("worker_registered", worker=worker.id, number=worker.number)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            try:
                await self._renew()
            except Exception as error:
                # The deadline stays where it is: when it passes, nothing is sent any more.
                log.warning("heartbeat_failed", worker=self.lease.id, why=unreachable.why(error), exc_info=error)

    async def _renew(self) -> None:
        asked = time.monotonic()
        async with self._database.connection() as connection:
            renewed = await workers.renew(connection, self.lease.id, self._length)
        if renewed:
            self.lease.deadline = asked + self._length.total_seconds()
            return
        self._metrics.lease_lost()
        log.error("lease_lost", worker=self.lease.id)
        await self._register()
