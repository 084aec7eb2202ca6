"""One process from its start to its exit code: what makes it stop, and in which order it goes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from gateway import unreachable
from gateway.internal import Health
from gateway.lifecycle import Lifecycle
from gateway.observability.logs import get_logger

log = get_logger(__name__)


class Life:
    """Ends by SIGTERM or SIGINT, by `stop`, or because a component is at its end and says `fatal`."""

    def __init__(self, lifecycle: Lifecycle, health: Health, not_ready_seconds: float) -> None:
        """`not_ready_seconds` pass between not being ready and the first stop: whoever routes callbacks here needs a
        moment to see it.
        """
        self._lifecycle = lifecycle
        self._health = health
        self._not_ready_seconds = not_ready_seconds
        self._stop = asyncio.Event()
        self._failed: str | None = None

    async def run(
        self, start: Callable[[], Awaitable[None]], on_hangup: Callable[[], None], announce: Callable[[], None]
    ) -> int:
        """Starts, waits for the end and stops whatever was started; 0 after a clean stop, 1 after a failure.

        Nobody is told that it is ready before it has announced it.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        # Always: a SIGHUP that nobody handles ends the process.
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
        started = await self._started(start)
        if started:
            announce()
            self._health.started()
            await self._stop.wait()
        log.info("stopping", reason=self._failed or "asked")
        self._health.stop()
        if started:
            await asyncio.sleep(self._not_ready_seconds)
        late = await self._lifecycle.stop()
        log.info("stopped", reason=self._failed or "asked", late=late)
        return 1 if self._failed else 0

    def stop(self) -> None:
        """Asks for a clean stop; safe to call again."""
        self._stop.set()

    def fatal(self, reason: str) -> None:
        """A component cannot go on: stop, and say so with the exit code."""
        self._failed = self._failed or reason
        log.error("fatal", reason=reason)
        self._stop.set()

    async def _started(self, start: Callable[[], Awaitable[None]]) -> bool:
        """False when it failed, or a stop was asked for meanwhile: what has started then waits for its stop."""
        starting = asyncio.ensure_future(start())
        asked = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
        for each in (starting, asked):
            each.cancel()
        error = (await asyncio.gather(starting, asked, return_exceptions=True))[0]
        if isinstance(error, Exception):
            self._failed = "start_failed"
            log.error("start_failed", why=unreachable.why(error), exc_info=error)
        return error is None and not self._stop.is_set()
