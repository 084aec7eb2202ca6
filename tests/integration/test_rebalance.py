"""Members come and go under load: nothing is lost, nothing happens twice, and every record is accounted for."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from gateway.dev.topics import administrator
from tests.stack.gateway import World, requested
from tests.stack.load import Load, another, events_in
from tests.stack.scene import QUICK, Scene, empty_world, until, value_in

pytestmark = pytest.mark.real_kafka


@pytest.fixture
async def here(postgres: Any, kafka: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with empty_world(postgres, kafka, tmp_path) as world:
        yield world


async def test_members_join_and_leave_under_load(here: World, tmp_path: Path) -> None:
    first = here.gateway(QUICK, "first")
    second, third = another(first, tmp_path, "second"), another(first, tmp_path, "third")
    members = (first, second, third)
    load = Load(here)
    first.spawn()
    second.spawn()
    try:
        await first.ready(60)
        pouring = asyncio.create_task(load.pour(300, pause=0.25))
        await second.ready(60)
        third.spawn()
        await third.ready(60)
        await asyncio.sleep(0.5)
        assert await second.child.stop(within=25) == 0
        await pouring
        await load.pour(60)
        assert await third.child.stop(within=25) == 0
        await load.pour(30)
        assert await load.all_ended() == {"delivered": len(load.numbers)}
        assert sorted(load.sent()) == sorted(f"M-{number}" for number in load.numbers)
        load.assert_nothing_twice()
        await load.assert_conserved()
        assert await first.child.stop(within=25) == 0
    finally:
        for each in members:
            await each.child.kill()


async def test_a_stored_offset_outside_the_log(here: World, tmp_path: Path) -> None:
    """Above the end: read from the start again, as duplicates.  Below the start: records are gone, and that pages."""
    gateway = here.gateway(QUICK)
    scene = Scene(here, gateway)
    topic = here.topics.requests
    gateway.spawn()
    try:
        await gateway.ready(60)
        await here.publish([requested(number) for number in range(8)], [b"one key"] * 8)
        for number in range(8):
            assert await scene.ended(number) == ("delivered", None)
        assert await gateway.child.stop(within=25) == 0
        (partition,) = (partition for partition, end in (await here.ends(topic)).items() if end == 8)
        await scene.sql("update intake_offset set next = 1000, first = 992 where partition = $1", partition)

        gateway.spawn()
        await gateway.ready(60)

        async def again() -> list[Any]:
            return await scene.sql("select 1 from intake_count where outcome = 'duplicate' and n = 8")

        await until(again, "second reading")
        assert await scene.value("select next from intake_offset where partition = $1", partition) == 8
        assert "offset_reset" in [line["event"] for line in events_in(gateway)]
        metrics = await gateway.metrics()
        assert value_in(metrics, "offset_resets_total") == 1
        assert value_in(metrics, "records_lost_total") == 0
        assert await gateway.child.stop(within=25) == 0

        # Three more come, and retention takes them before anybody has read them.
        await here.publish([requested(number) for number in range(10, 14)], [b"one key"] * 4)
        async with administrator(here.bootstrap) as admin:
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=11)})
        gateway.spawn()
        await gateway.ready(60)
        assert await scene.ended(13) == ("delivered", None)
        assert [await scene.state(number) for number in (10, 11, 12)] == [None] * 3
        assert "records_lost" in [line["event"] for line in events_in(gateway)]
        assert value_in(await gateway.metrics(), "records_lost_total") == 1
        assert [scene.sent(number) for number in (*range(8), 13)] == [["twilio"]] * 9
    finally:
        await gateway.child.kill()
