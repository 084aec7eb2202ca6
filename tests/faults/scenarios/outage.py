"""The providers are away for long, and there is more to do than may be taken on: reading pauses, and all is kept."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from typing import Any, Final

from tests.faults.harness import Stand, eventually
from tests.faults.scenarios.ground import Ground, asked, judged, measured, members, memory, over
from tests.stack.gateway import requested

LIMIT: Final = 20
# One at a time: then even to put off what cannot be sent takes so long that what is due stays above the limit.
SLOW: Final[Mapping[str, Any]] = {
    "kafka": {"session_timeout_seconds": 2, "rebalance_timeout_seconds": 4, "max_poll_interval_seconds": 3},
    "intake": {"backlog_limit": LIMIT},
    "dispatch": {
        "slots": 1, "claim_batch": 1, "fast_path": False, "max_tries": 1000,
    },
}  # fmt: skip
FLAT_MIB: Final = 12.0


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """Some may wait until after the outage, some only until its middle: those end `expired`, and nobody is late."""
    n = 300 if seconds < 60 else 3000
    async with ground.stand(SLOW) as here:
        await here.up()
        await eventually(lambda: alone(here))
        _, at_first = await members(here)
        began, now = time.monotonic(), dt.datetime.now(dt.UTC)
        here.world.simulator.refuse(seconds)
        middle = (now + dt.timedelta(seconds=max(seconds / 2, 10))).isoformat()
        long = (now + dt.timedelta(seconds=seconds + 600)).isoformat()
        events = [requested(each, not_after=middle if each % 10 == 0 else long) for each in range(n)]
        await here.world.publish(events)
        await eventually(lambda: is_paused(here), 30, here.gateway.child.tail)
        sizes: list[float] = []
        paused = looks = 0
        async for gone in over(seconds - (time.monotonic() - began), 1.0):
            answer = await asked(here.gateway, "/readyz", 10)
            assert answer is not None and answer[0] == 200, answer
            assert (await members(here))[1] == at_first, "it was missed"
            looks += 1
            paused += await is_paused(here)
            if gone > seconds * 0.2:
                sizes.append(memory(here.gateway))
        back = (now + dt.timedelta(seconds=seconds)).isoformat(timespec="microseconds")
        assert [each for each in here.accepted() if each["at"] < back] == []
        assert paused >= (2 if seconds < 60 else 0.8 * looks), (paused, looks)
        assert max(sizes) - sizes[0] < FLAT_MIB, sizes
        await here.quiet(90 + n / 4)
        late = [each for each in here.accepted() if int(each["marker"].partition("-")[2]) % 10 == 0]
        assert late == [], "sent after its time"
        assert len(here.accepted()) == n - n // 10
        assert (await members(here))[1] == at_first
        assert await measured(here.gateway, "consumer_rebuilds_total") == 0
        report = await here.check()
        assert report.endings == {"delivered": n - n // 10, "expired": n // 10}, report
        return {
            "away_seconds": seconds, "paused_share": round(paused / looks, 2), "mib_at_first": round(sizes[0], 1),
            "most_mib": round(max(sizes), 1), **judged(report),
        }  # fmt: skip


async def alone(here: Stand) -> bool:
    state, found = await members(here)
    return state == "Stable" and len(found) == 1


async def is_paused(here: Stand) -> bool:
    return await measured(here.gateway, "intake_paused") == 1
