"""A blocked event loop shows, while it is blocked and after."""

import asyncio
import time

from prometheus_client import CollectorRegistry

from gateway.observability.loop_lag import LoopLag


def value(registry: CollectorRegistry, name: str) -> float:
    found = registry.get_sample_value(f"reminder_gateway_{name}")
    assert found is not None
    return found


async def test_a_blocked_loop_is_late() -> None:
    registry = CollectorRegistry()
    lag = LoopLag(registry, interval=0.01)
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0.05)
    time.sleep(0.3)
    # Before the monitor had its turn: what asks on the loop's first breath must hear of it.
    assert lag.current() > 0.25
    assert value(registry, "loop_lag_current_seconds") > 0.25
    await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert value(registry, "loop_lag_seconds_sum") > 0.25
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_monitor_that_does_not_run_accuses_nobody() -> None:
    registry = CollectorRegistry()
    lag = LoopLag(registry, interval=0.01)
    assert lag.current() == 0
    assert value(registry, "loop_lag_seconds_count") == 0
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0.03)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert lag.current() == 0
    assert value(registry, "loop_lag_seconds_count") > 0
