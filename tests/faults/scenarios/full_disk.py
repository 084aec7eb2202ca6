"""The ledger's disk is full: what cannot be written is not done, what cannot be stored is not acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from tests.faults.harness import Stand, eventually, fresh_topics, stand
from tests.faults.load import Load, heal, script
from tests.faults.scenarios.ground import Ground, judged
from tests.stack.small_disk import SmallDisk, can_mount

SEED: Final = 20261201


def missing() -> str | None:
    return None if can_mount() else "only the superuser can mount a disk of its own: nothing is tried on a full one"


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """Under load; Postgres refuses what needs room, or ends itself when not even its log has any."""
    load = Load(SEED)
    options: dict[str, Any] = {"script": script(SEED), "receipts": {"retry_scale": 0.05}}
    async with SmallDisk(settings={"max_wal_size": "64MB", "min_wal_size": "32MB"}) as disk:
        dsn = disk.dsn(await disk.fresh_database())
        topics = await fresh_topics(ground.kafka)
        async with stand(dsn, ground.kafka.bootstrap, topics, ground.home, **options) as here:
            await here.up()
            await here.world.publish(load.burst(40))
            await eventually(lambda: attempts(here, 20))
            disk.fill()
            try:
                await here.world.publish(load.burst(200))
                await eventually(lambda: met(here), 60, here.gateway.child.tail)
                await asyncio.sleep(seconds)
                assert here.gateway.child.alive, here.gateway.child.tail()
                ended_itself = not disk.process.alive
            finally:
                disk.make_room()
            await disk.heal()
            await here.gateway.ready(60)
            await here.world.publish(load.burst(20))
            healed = await heal(here, load)
            return {
                "full_seconds": seconds, "postgres_ended_itself": ended_itself, "errors": refused(here),
                "healed_seconds": round(healed, 1), **judged(await here.check()),
            }  # fmt: skip


async def attempts(here: Stand, n: int) -> bool:
    return bool(await here.value("select count(*) from attempt") >= n)


def refused(here: Stand) -> int:
    """How often Postgres told the gateway that its disk is full."""
    return here.gateway.log.read_text().count('"53100"')


async def met(here: Stand) -> bool:
    """Whether the gateway has met the full disk: by the code of its errors, or because there is no server any more."""
    return refused(here) > 0 or "CannotConnectNow" in here.gateway.log.read_text()
