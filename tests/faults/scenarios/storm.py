"""Members of the group join and leave all the time: nothing is lost, nothing counts twice, and the lag drains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from tests.faults.harness import Stand
from tests.faults.load import Load, heal, script
from tests.faults.scenarios.ground import Ground, judged, measured

SEED: Final = 20261127
EVERY: Final = 5.0
DRAINED_SECONDS: Final = 120.0


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """Every five seconds a member joins, or leaves: by SIGTERM and by SIGKILL in turn.  One stays through it all."""
    load = Load(SEED)
    async with ground.stand(script=script(SEED), receipts={"retry_scale": 0.05}) as here:
        await here.up()
        others = [here.twin("first"), here.twin("second")]
        joined = left = killed = 0
        began = next_at = time.monotonic()
        turn = 0
        while time.monotonic() < began + seconds:
            await here.world.publish(load.burst(4))
            await asyncio.sleep(0.4)
            if time.monotonic() < next_at:
                continue
            next_at += EVERY
            other = others[turn % 2]
            turn += 1
            if not other.child.alive:
                other.spawn()
                joined += 1
            elif turn % 4 == 0:
                await other.child.kill()
                killed += 1
            else:
                await other.child.stop(within=25)
                left += 1
        healed = await heal(here, load, DRAINED_SECONDS)
        assert here.gateway.child.alive, here.gateway.child.tail()
        report = await here.check()
        assert joined >= 2
        return {
            "requests": load.reminders, "joined": joined, "left": left, "killed": killed,
            "rebuilt": await measured(here.gateway, "consumer_rebuilds_total"),
            "drained_seconds": round(healed, 1), **judged(report), "intents_of_one_record": await twice(here),
        }  # fmt: skip


async def twice(here: Stand) -> int:
    """Records that became more than one reminder."""
    sql = 'select count(*) from (select from reminder group by partition, "offset" having count(*) > 1) as twice'
    n = int(await here.value(sql))
    assert n == 0
    return n
