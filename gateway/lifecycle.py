"""Start in order, stop in reverse, each stop bounded.  Teardown is registered where a thing is started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.observability.logs import get_logger

log = get_logger(__name__)

_LEAST_SECONDS: Final = 0.1


class Phase(StrEnum):
    """Whose seconds a component's stop spends: those of one phase are shared by its components."""

    DRAIN = "drain"
    FLUSH = "flush"
    LEAVE = "leave"


Stop = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    stop: Stop
    phase: Phase


class Lifecycle:
    """What was started, in order.  `stop` undoes it within the seconds of its phases, whatever hangs."""

    def __init__(self, seconds: Mapping[Phase, float]) -> None:
        self._left = dict(seconds)
        self._steps: list[_Step] = []

    def on_stop(self, name: str, stop: Stop, phase: Phase = Phase.LEAVE) -> None:
        """`stop` is given the seconds it has."""
        self._steps.append(_Step(name, stop, phase))

    def background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A loop that runs until the stop."""
        task = asyncio.create_task(work, name=name)

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.on_stop(name, whenever(stop))

    async def stop(self) -> list[str]:
        """Stops everything, last started first; returns the names of what did not stop in its time.

        A step that is cut off or fails does not keep the others from stopping, and each has a moment, however late it
        is.  Being killed here is safe.
        """
        late = []
        while self._steps:
            step = self._steps.pop()
            seconds = max(self._left.get(step.phase, 0.0), _LEAST_SECONDS)
            began = time.monotonic()
            error = await _bounded(step.stop(seconds), seconds)
            self._left[step.phase] = self._left.get(step.phase, 0.0) - (time.monotonic() - began)
            if error is not None:
                late.append(step.name)
                log.error("stop_failed", component=step.name, exc_info=error)
        return late


def whenever(stop: Callable[[], Awaitable[object]]) -> Stop:
    """A stop that takes what it takes, and is cut off when that is too long."""
    return lambda seconds: stop()


def at_once(stop: Callable[[], None]) -> Stop:
    async def stopped(seconds: float) -> None:
        stop()

    return stopped


async def _bounded(stopping: Awaitable[object], seconds: float) -> BaseException | None:
    """What kept it from stopping within `seconds`.  `wait_for` would wait on for what ignores its cancellation."""
    task = asyncio.ensure_future(stopping)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        task.cancel()
        await asyncio.wait([task], timeout=_LEAST_SECONDS)
        return TimeoutError()
    return asyncio.CancelledError() if task.cancelled() else task.exception()
