"""The ledger's disk is full: what cannot be written is not done, what cannot be stored is not acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.harness import Stand, eventually, fresh_topics, stand
from tests.faults.load import Load, heal, script
from tests.stack.small_disk import SmallDisk, can_mount
from tests.stack.tools import required

SEED = 20261201
WHY = "only the superuser can mount a disk of its own: nothing is tried on a full one"


@pytest_asyncio.fixture
async def disk() -> AsyncIterator[SmallDisk]:
    async with SmallDisk(settings={"max_wal_size": "64MB", "min_wal_size": "32MB"}) as server:
        yield server


@pytest.mark.skipif(not can_mount() and not required("mount"), reason=WHY)
@pytest.mark.timeout(300)
async def test_a_full_disk_loses_nothing_and_sends_nothing_twice(
    disk: SmallDisk, kafka: Any, tmp_path: Path, summary: Any
) -> None:
    """Under load; Postgres refuses what needs room, or ends itself when not even its log has any."""
    dsn = disk.dsn(await disk.fresh_database())
    topics = await fresh_topics(kafka)
    load = Load(SEED)
    options: dict[str, Any] = {"script": script(SEED), "receipts": {"retry_scale": 0.05}}
    async with stand(dsn, kafka.bootstrap, topics, tmp_path, **options) as here:
        await here.up()
        await here.world.publish(load.burst(40))
        await eventually(lambda: attempts(here, 20))
        disk.fill()
        try:
            await here.world.publish(load.burst(300))
            await eventually(lambda: refused(here), 60, here.gateway.child.tail)
            await asyncio.sleep(3)
            assert here.gateway.child.alive, here.gateway.child.tail()
            crashed = not disk.process.alive
        finally:
            disk.make_room()
        await disk.heal()
        await here.gateway.ready(60)
        await here.world.publish(load.burst(20))
        await heal(here, load)
        report = await here.check()
        what = "a full disk"
        summary(what, f"Postgres {'ended itself' if crashed else 'stayed'}; {log_of_full(here)} errors in our log")
        summary(what, report)
        assert not report.violations, report


async def attempts(here: Stand, n: int) -> bool:
    return bool(await here.value("select count(*) from attempt") >= n)


def log_of_full(here: Stand) -> int:
    return here.gateway.log.read_text().count('"53100"')


async def refused(here: Stand) -> bool:
    """Whether the gateway has met the full disk: by the code of its errors, or because there is no server any more."""
    return log_of_full(here) > 0 or "CannotConnectNow" in here.gateway.log.read_text()
