"""Start in order, stop in reverse, each stop bounded.  Teardown is registered where a thing is built."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.observability.logs import get_logger

log = get_logger(__name__)

_LEAST_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    stop: Callable[[], Awaitable[object]]
    seconds: float


class Lifecycle:
    """What was started, in order.  `stop` undoes it within `budget` seconds, whatever hangs."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._steps: list[_Step] = []

    def on_stop(self, name: str, stop: Callable[[], Awaitable[object]], seconds: float) -> None:
        self._steps.append(_Step(name, stop, seconds))

    async def stop(self) -> list[str]:
        """Stops everything, last started first; returns the names of what did not stop in its time.

        A step that is cut off or fails does not keep the others from stopping.  Being killed here is safe.
        """
        ends = time.monotonic() + self._budget
        late = []
        while self._steps:
            step = self._steps.pop()
            seconds = max(min(step.seconds, ends - time.monotonic()), _LEAST_SECONDS)
            error = await _bounded(step.stop(), seconds)
            if error is not None:
                late.append(step.name)
                log.error("stop_failed", component=step.name, exc_info=error)
        return late


async def _bounded(stopping: Awaitable[object], seconds: float) -> BaseException | None:
    """What kept it from stopping within `seconds`.  `wait_for` would wait on for what ignores its cancellation."""
    task = asyncio.ensure_future(stopping)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        task.cancel()
        await asyncio.wait([task], timeout=_LEAST_SECONDS)
        return TimeoutError()
    return asyncio.CancelledError() if task.cancelled() else task.exception()
