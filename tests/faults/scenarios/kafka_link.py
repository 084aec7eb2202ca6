"""The link to Kafka: it vanishes without a word; then it is slow, hangs, and is cut again and again."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Mapping
from typing import Any, Final

from tests.faults.harness import Stand, eventually
from tests.faults.load import KINDS, Load, heal, script
from tests.faults.scenarios.brokers import accepted, delivered
from tests.faults.scenarios.ground import Ground, asked, judged, measured
from tests.stack.gateway import requested
from tests.stack.linked_kafka import LinkedKafka
from tests.stack.proxy import Link, proxy

SEED: Final = 20261129
BACK_SECONDS: Final = 120.0
# What a continent's width and a bad line come to.
LATENCY: Final = 0.05
BYTES_PER_SECOND: Final = 60_000
HANGS_SECONDS: Final = 3.0
CUTS: Final = 6


async def has_sent(here: Stand, n: int) -> bool:
    return await delivered(here) >= n


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """No FIN and no reset; new connections hang.  What stood is dead for good when the link is whole again."""
    kafka = ground.kafka
    assert isinstance(kafka, LinkedKafka)
    settings: dict[str, Any] = {"kafka": {"bootstrap": f"127.0.0.1:{kafka.door}"}}
    load = Load(SEED)
    options: dict[str, Any] = {"script": script(SEED), "receipts": {"retry_scale": 0.05}}
    async with (
        proxy("127.0.0.1", kafka.behind, kafka.door) as link,
        ground.stand(settings, **options) as here,
    ):
        await here.up()
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=4)
        # Of the kind that behaves: they fall due when there is no Kafka.
        await here.world.publish([requested(KINDS * each, send_at=soon.isoformat()) for each in range(5)])
        await eventually(lambda: accepted(here, 5))
        link.set(Link.VANISHES)
        began = time.monotonic()
        await here.world.publish(load.burst(40))
        before = await here.value("select count(*) from reminder")
        while time.monotonic() < began + seconds:
            answer = await asked(here.gateway, "/readyz", 10)
            assert answer is not None and answer[0] == 200, answer
            await asyncio.sleep(0.5)
        await eventually(lambda: has_sent(here, 5), why=lambda: "what was due did not need Kafka")
        assert await here.value("select count(*) from reminder") == before

        link.set(Link.PASSES)
        back = time.monotonic()
        await eventually(lambda: accepted(here, before + 20), BACK_SECONDS, here.gateway.child.tail)
        resumed = time.monotonic() - back
        link.slow(LATENCY, BYTES_PER_SECOND)
        await here.world.publish(load.burst(40))
        slow = await heal(here, load, BACK_SECONDS)
        link.slow()
        # Silent for less than anybody's patience: what was under way goes on where it stood.
        link.set(Link.HANGS)
        await here.world.publish(load.burst(20))
        await asyncio.sleep(HANGS_SECONDS)
        link.set(Link.PASSES)
        made = link.connections
        for _ in range(CUTS):
            await here.world.publish(load.burst(6))
            link.reset()
            await asyncio.sleep(0.3)
        cut = await heal(here, load, BACK_SECONDS)
        assert link.connections - made >= CUTS
        assert here.gateway.child.alive
        return {
            "vanished_seconds": seconds, "resumed_seconds": round(resumed, 1), "slow_healed_seconds": round(slow, 1),
            "hung_seconds": HANGS_SECONDS, "connections_cut": link.connections - made,
            "cut_healed_seconds": round(cut, 1),
            "rebuilt": await measured(here.gateway, "consumer_rebuilds_total"), **judged(await here.check()),
        }  # fmt: skip
