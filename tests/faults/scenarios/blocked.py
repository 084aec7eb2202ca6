"""The event loop of a process blocks for longer than the group and the lease wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from gateway.internal.health import LOOP
from tests.faults.harness import LEASE, Stand, eventually
from tests.faults.load import Load, heal, script
from tests.faults.scenarios.ground import Ground, asked, judged, log_of, members

SEED: Final = 20261128
# With something intended and no byte out: whoever wakes up with that in its hands might send it late.
POINT: Final = "before_first_byte:12"


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """It is evicted and rescued meanwhile, comes back by itself, and sends nothing that another has taken over."""
    assert seconds > LEASE
    load = Load(SEED)
    async with ground.stand(script=script(SEED), receipts={"retry_scale": 0.05}) as here:
        other = here.twin("other")
        other.spawn()
        await other.ready()
        await here.up(REMINDER_GATEWAY_BLOCK_AT=POINT, REMINDER_GATEWAY_BLOCK_SECONDS=str(seconds))
        await eventually(lambda: grouped(here, 2))
        before = set((await members(here))[1])
        blocked_at = await blocks(here, load)
        # It is asked all the while: an answer that comes late, when the loop runs again, is the worst it may give.
        late = asyncio.create_task(asked(here.gateway, "/livez", seconds + 30))
        await eventually(lambda: grouped(here, 1))
        evicted = time.monotonic() - blocked_at
        await here.world.publish(load.burst(20))
        answer = await late
        lasted = time.monotonic() - blocked_at
        assert answer is not None, here.gateway.child.tail()
        if seconds > 10:  # what `/livez` bears
            assert (answer[0], answer[1]["reasons"]) == (503, {LOOP: "stuck"}), answer
        assert evicted < lasted, "it was not missed while it was blocked"
        await eventually(lambda: grouped(here, 2), 60, here.gateway.child.tail)
        after = set((await members(here))[1])
        assert len(before & after) == 1, "the one that stayed keeps its name, the other has a new one"
        await here.world.publish(load.burst(20))
        healed = await heal(here, load)
        assert await late_by_more_than_five_seconds(here) >= 1
        assert "lease_lost" in {line["event"] for line in log_of(here.gateway)}
        assert here.gateway.child.alive
        return {
            "blocked_seconds": round(lasted, 1), "evicted_after": round(evicted, 1), "livez": answer[0],
            "healed_seconds": round(healed, 1), **judged(await here.check()),
        }  # fmt: skip


async def grouped(here: Stand, n: int) -> bool:
    state, found = await members(here)
    return state == "Stable" and len(found) == n


async def blocks(here: Stand, load: Load) -> float:
    """Gives it work until it answers nobody any more; when that was."""
    for _ in range(30):
        await here.world.publish(load.burst(20))
        began = time.monotonic()
        if await asked(here.gateway, "/livez", 1.0) is None:
            return began
        await asyncio.sleep(0.2)
    raise AssertionError(f"it never blocked\n{here.gateway.child.tail()}")


async def late_by_more_than_five_seconds(here: Stand) -> float:
    """How often the loop was; of one reading, since it goes on counting."""
    text = await here.gateway.metrics()
    name = "reminder_gateway_loop_lag_seconds"
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name))
    return float(counted[f"{name}_count"]) - float(counted[f'{name}_bucket{{le="5.0"}}'])
