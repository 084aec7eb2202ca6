"""How late the event loop is: a blocked loop loses leases, heartbeats and its place in the consumer group."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram

from gateway.observability.metrics import NAMESPACE

_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0)


class LoopLag:
    """Sleeps `interval` seconds over and over and measures how much longer it took.  Run it as a task and cancel it."""

    def __init__(self, registry: CollectorRegistry, interval: float = 0.25) -> None:
        self._interval = interval
        self._due: float | None = None
        self._last = 0.0
        self._histogram = Histogram(
            "loop_lag_seconds", "Lateness of the event loop.", namespace=NAMESPACE, registry=registry, buckets=_BUCKETS
        )
        now = Gauge(
            "loop_lag_current_seconds", "Lateness of the event loop now.", namespace=NAMESPACE, registry=registry
        )
        now.set_function(self.current)

    def current(self) -> float:
        """Seconds: the last lateness measured, or how overdue the next measurement is.  0 while it does not run."""
        if self._due is None:
            return 0.0
        return max(self._last, time.monotonic() - self._due)

    async def run(self) -> None:
        """Measures until it is cancelled."""
        try:
            while True:
                self._due = time.monotonic() + self._interval
                await asyncio.sleep(self._interval)
                self._last = max(time.monotonic() - self._due, 0.0)
                self._histogram.observe(self._last)
        finally:
            self._due = None
