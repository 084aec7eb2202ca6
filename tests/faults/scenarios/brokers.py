"""Every broker is away: receipts are taken, what is due is sent, and reading goes on when they are back."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Mapping
from typing import Any, Final

from tests.faults.harness import Stand, eventually
from tests.faults.scenarios.ground import Ground, asked, judged, log_of, measured, memory
from tests.stack.gateway import requested

# After ten times this without a word of the broker the client is made anew; in full, that is a minute and ten.
WATCHDOG: Final = 2.0
BACK_SECONDS: Final = 90.0
SAYS_SO_SECONDS: Final = 60.0
STEP: Final = 2.0


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """A reminder falls due every two seconds of the outage, and its receipts come in the same outage."""
    settings: dict[str, Any] = {} if seconds >= 600 else {"intake": {"watchdog_seconds": WATCHDOG}}
    async with ground.stand(settings) as here:
        await here.up()
        n = int(seconds / STEP) - 2
        now = dt.datetime.now(dt.UTC)
        due = [now + dt.timedelta(seconds=6 + STEP * each) for each in range(n)]
        await here.world.publish([requested(each, send_at=due[each].isoformat()) for each in range(n)])
        await eventually(lambda: accepted(here, n))
        await eventually(lambda: told_all(here))
        pid = here.gateway.child.pid
        await ground.kafka.kill()
        away = time.monotonic()
        before = await delivered(here)
        degraded: set[str] = set()
        heaviest = 0.0
        both = {"intake", "relay"}
        # It goes on until both have said so: a busy machine may need longer than the short story.
        while (gone := time.monotonic() - away) < seconds or (degraded < both and gone < seconds + SAYS_SO_SECONDS):
            status, body = await asked(here.gateway, "/readyz", 10) or (0, {})
            assert status == 200, (status, body, here.gateway.child.tail())
            degraded |= set(body["degraded"])
            heaviest = max(heaviest, memory(here.gateway))
            await asyncio.sleep(1.0)
        meanwhile = await delivered(here) - before
        waiting = await here.value("select count(*) from outbox")
        # Those whose time came in the outage, less the last ones, whose receipts may still be on their way.
        came = sum(each.timestamp() < time.time() - 8 for each in due)
        assert meanwhile + before >= came, (meanwhile, before, came)
        assert degraded == both, degraded
        assert waiting > 0

        await ground.kafka.launch()
        back = time.monotonic()
        await here.world.publish([requested(1000 + each) for each in range(10)])
        await eventually(lambda: accepted(here, n + 10), BACK_SECONDS, here.gateway.child.tail)
        resumed = time.monotonic() - back
        await here.quiet(BACK_SECONDS)
        assert (here.gateway.child.alive, here.gateway.child.pid) == (True, pid), "it was not to be restarted"
        late = [each for each in log_of(here.gateway) if each["event"] == "fatal"]
        assert late == []
        return {
            "away_seconds": round(back - away, 1), "delivered_meanwhile": meanwhile, "events_waiting": waiting,
            "resumed_seconds": round(resumed, 1), "degraded": sorted(degraded), "most_mib": round(heaviest, 1),
            "rebuilt": await measured(here.gateway, "consumer_rebuilds_total"), **judged(await here.check()),
        }  # fmt: skip


async def accepted(here: Stand, n: int) -> bool:
    return bool(await here.value("select count(*) from reminder") >= n)


async def delivered(here: Stand) -> int:
    return int(await here.value("select count(*) from ending where state = 'delivered'"))


async def told_all(here: Stand) -> bool:
    return bool(await here.value("select count(*) from outbox") == 0)
