"""Kafka does not let us write our events, and takes everything else."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tests.faults.harness import Stand, eventually
from tests.faults.scenarios.ground import Ground, asked, judged, measured
from tests.stack.gateway import requested
from tests.stack.linked_kafka import LinkedKafka


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """Events wait in the outbox and it shows; nobody is sent to later for that, and dead letters go their way."""
    kafka = ground.kafka
    assert isinstance(kafka, LinkedKafka)
    async with ground.stand() as here:
        topics = here.world.topics
        await here.up()
        await here.world.publish([requested(each) for each in range(6)])
        await here.quiet()
        told = len(await here.told())
        await kafka.deny_writing(topics.events)
        began = time.monotonic()
        # The last of them knows what it was told before: its events go on with the same order.
        await here.world.publish([*(requested(each) for each in range(10, 22)), b"{cut off"])
        await eventually(lambda: delivered(here, 18), 30, here.gateway.child.tail)
        sent = time.monotonic() - began
        await eventually(lambda: buried(here), 30, here.gateway.child.tail)
        await eventually(lambda: degraded(here), 60, here.gateway.child.tail)
        await asyncio.sleep(max(began + seconds - time.monotonic(), 0))
        assert len(await here.told()) == told
        waiting = int(await here.value("select count(*) from outbox"))
        assert waiting >= 12 * 3
        await eventually(lambda: shown(here, waiting), 30)
        assert await measured(here.gateway, "outbox_oldest_age_seconds") > 5

        await kafka.allow_writing(topics.events)
        back = time.monotonic()
        await here.quiet()
        drained = time.monotonic() - back
        seqs: dict[str, list[int]] = defaultdict(list)
        for request, seq, _ in await here.told():
            seqs[request].append(seq)
        assert all(found == list(range(1, len(found) + 1)) for found in seqs.values()), seqs
        assert len(seqs) == 18
        return {
            "sent_seconds": round(sent, 1), "events_waited": waiting, "drained_seconds": round(drained, 1),
            **judged(await here.check()),
        }  # fmt: skip


async def delivered(here: Stand, n: int) -> bool:
    return bool(await here.value("select count(*) from ending where state = 'delivered'") == n)


async def buried(here: Stand) -> bool:
    return len(await here.world.read(here.world.topics.deadletters)) == 1


async def degraded(here: Stand) -> bool:
    """It says so, and stays ready."""
    answer = await asked(here.gateway, "/readyz", 10)
    assert answer is not None and answer[0] == 200, answer
    return bool(answer[1]["degraded"] == {"relay": "not_publishing"})


async def shown(here: Stand, waiting: int) -> bool:
    return await measured(here.gateway, "outbox_rows") == waiting
