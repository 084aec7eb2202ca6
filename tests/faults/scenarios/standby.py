"""More replicas than partitions: one that has had nothing to do for longer than it may must still take over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.faults.harness import Stand, eventually
from tests.faults.scenarios.ground import Ground, asked, judged, members
from tests.stack.gateway import GatewayProcess, requested

TAKEN_OVER_SECONDS: Final = 60.0
# aiokafka's client does not come back to the group when it was idle for so long.
SHORT_INTERVAL: Final = 3.0
FULL: Final = 300.0


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """Partitions + 2 replicas; the active one is killed, then the next: a standby goes on each time.

    In full with the intervals of production: 300 s between two polls, 30 s for a member to be missed.
    """
    production = seconds > FULL
    group = (
        {"session_timeout_seconds": 30, "rebalance_timeout_seconds": 60, "max_poll_interval_seconds": FULL}
        if production
        else {"session_timeout_seconds": 2, "rebalance_timeout_seconds": 4, "max_poll_interval_seconds": SHORT_INTERVAL}
    )
    partitions = 2 if production else 1
    async with ground.stand({"kafka": group}, partitions) as here:
        replicas = [here.gateway, *(here.twin(f"standby-{n}") for n in range(partitions + 1))]
        for each in replicas:
            each.spawn()
        for each in replicas:
            await each.ready(60)
        number, taken_over = 0, []
        await sends(here, number, TAKEN_OVER_SECONDS)
        for _ in range(2):
            await asyncio.sleep(seconds)
            ready = [await asked(each, "/readyz", 10) for each in replicas]
            assert all(answer is not None and answer[0] == 200 for answer in ready), ready
            await eventually(
                lambda: complete(here, replicas, partitions), 60, lambda: "one has left the group for good"
            )
            active = await active_of(replicas)
            await active[0].child.kill()
            replicas.remove(active[0])
            number += 1
            began = time.monotonic()
            # One for each partition, so that the orphan's is among them.
            await sends(here, number * 100, TAKEN_OVER_SECONDS, 8)
            taken_over.append(round(time.monotonic() - began, 1))
        await here.quiet(120)
        for each in replicas:
            assert each.child.alive, each.child.tail()
        return {"taken_over_seconds": taken_over, "idle_seconds": seconds, **judged(await here.check())}


async def complete(here: Stand, replicas: Sequence[GatewayProcess], partitions: int) -> bool:
    """Everybody is in the group, and as many read as can.  On a busy machine one may be missed for a moment."""
    return len((await members(here))[1]) == len(replicas) and len(await active_of(replicas)) == partitions


async def sends(here: Stand, first: int, within: float, n: int = 1) -> None:
    """Requests whose reminders are made in time."""
    numbers = range(first, first + n)
    await here.world.publish([requested(each) for each in numbers])
    names = [f"request-{each}" for each in numbers]

    async def made() -> bool:
        found = await here.value("select count(*) from reminder where request_id = any($1::text[])", names)
        return bool(found == n)

    await eventually(made, within, lambda: f"nobody took over within {within:g} s")


async def active_of(replicas: Sequence[GatewayProcess]) -> list[GatewayProcess]:
    """Those that read a partition, by their own metrics."""
    name = "reminder_gateway_consumer_lag_records{"
    return [each for each in replicas if name in await each.metrics()]
