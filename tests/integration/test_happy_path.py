"""A request on Kafka becomes exactly one message at its provider and a confirmed row in Postgres."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.stack.gateway import requested, world


async def ended(dsn: str, n: int, within: float = 60) -> list[asyncpg.Record]:
    """The endings of `n` reminders, waiting for them."""
    connection = await asyncpg.connect(dsn)
    try:
        for _ in range(int(within / 0.2)):
            rows = await connection.fetch("select r.request_id, e.* from ending e join reminder r on r.id = e.reminder")
            if len(rows) >= n:
                return list(rows)
            await asyncio.sleep(0.2)
        raise AssertionError(f"{len(rows)} of {n} ended")
    finally:
        await connection.close()


@pytest.mark.parametrize("channel", ["sms", "push", "voice"])
async def test_a_request_is_delivered_once_and_told(
    channel: str, database: str, kafka: Any, topics: Any, tmp_path: Path
) -> None:
    async with world(database, kafka.bootstrap, topics, tmp_path) as here:
        gateway = here.gateway()
        gateway.spawn()
        await gateway.ready()
        await here.publish([requested(n, [channel]) for n in range(5)])
        rows = await ended(database, 5)
        assert {row["state"] for row in rows} == {"delivered"}
        await asyncio.sleep(1)
        assert await gateway.child.stop() == 0
        events = await here.read(topics.events)
        for row in rows:
            mine = [each["data"] for each in events if each["data"]["request_id"] == row["request_id"]]
            assert [each["seq"] for each in mine] == [1, 2, 3]
            assert [each["state"] for each in mine] == ["scheduled", "awaiting", "delivered"]
