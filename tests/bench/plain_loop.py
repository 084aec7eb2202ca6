"""Contestant a, the plain loop: read, POST with IN_FLIGHT at a time, one insert, commit.

A crash half way sends a batch again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer
from yarl import URL

from tests.bench.task import IN_FLIGHT, Request, Task, assert_durable, decode_created, decode_request, form

_TABLE = "create table result (request_id text primary key, sid text not null, at timestamptz not null)"
_INSERT = "insert into result select *, clock_timestamp() from unnest($1::text[], $2::text[])"


async def main(task: Task) -> None:
    consumer = AIOKafkaConsumer(
        task.requests_topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with (
        asyncpg.create_pool(task.dsn, min_size=1, max_size=1, init=assert_durable) as pool,
        aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
        consumer,
    ):
        await pool.execute(_TABLE)
        url, headers = URL(task.messages_url), task.headers

        async def post(requests: Iterator[Request], done: list[tuple[str, str]]) -> None:
            for request in requests:
                async with session.post(url, data=form(request), headers=headers) as response:
                    response.raise_for_status()
                    done.append((request.id, decode_created(await response.read()).sid))

        while True:
            records = await consumer.getmany(timeout_ms=100, max_records=500)
            requests = iter([decode_request(each.value) for part in records.values() for each in part])
            done: list[tuple[str, str]] = []
            await asyncio.gather(*(post(requests, done) for _ in range(IN_FLIGHT)))
            if done:
                await pool.execute(_INSERT, *zip(*done, strict=True))
                await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main(Task.read()))
