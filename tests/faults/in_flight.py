"""A kill that hits something."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from tests.faults.harness import Stand
from tests.faults.load import Load


async def kill_in_flight(here: Stand, load: Load, within: float = 30) -> Counter[str]:
    """Kills the gateway at the first moment, from now, at which it has work in its hands; the states it hit.

    It is stopped for the look, so what is seen is what is killed.  AssertionError, and no kill, when it has had nothing
    to do for `within` seconds.
    """
    end = time.monotonic() + within
    more_at = time.monotonic() + 3
    while time.monotonic() < end:
        if time.monotonic() > more_at:  # what there was is done already, here or by another process
            await here.world.publish(load.burst(10))
            more_at += 2
        here.gateway.child.pause()
        in_hand = await here.in_hand()
        if in_hand:
            states = await here.states()
            await here.gateway.child.kill()
            return states + Counter({"in hand": in_hand})
        here.gateway.child.resume()
        await asyncio.sleep(0.02)
    raise AssertionError(f"nothing was in flight\n{here.gateway.child.tail()}")
