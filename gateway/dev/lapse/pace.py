"""The simulator's time, kept by the clock that jumps: what sleeps is woken when its moment has come, not before."""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq

from gateway.clock import VirtualClock


class VirtualPace:
    """A `Pace` of the simulator."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._sleepers: list[tuple[dt.datetime, int, asyncio.Future[None]]] = []
        self._n = 0
        clock.on_move(self._wake)

    @property
    def asleep(self) -> int:
        """How many sleep."""
        return len(self._sleepers)

    def next(self) -> dt.datetime | None:
        """When the first of them wakes."""
        return self._sleepers[0][0] if self._sleepers else None

    def now(self) -> dt.datetime:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        self._n += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now() + dt.timedelta(seconds=seconds), self._n, woken))
        await woken

    def _wake(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self.now():
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)
