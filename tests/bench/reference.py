"""Contestant b, the durable reference: what a careful friend of "just write a loop" would put into production.

Intent before the POST, result after it, a signed receipt over HTTP, one event per message; every write and publish in
groups.  What it has no notion of: lanes, leases, fences, stops, retries, templates, sealing, recovery.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar
from urllib.parse import parse_qsl

import aiohttp
import asyncpg
import msgspec
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from yarl import URL

from tests.bench.task import IN_FLIGHT, Request, Task, assert_durable, decode_created, decode_request, form

_TABLES = """
create table intent (
    id bigint primary key, source text not null, request_id text not null, request bytea not null,
    at timestamptz not null default clock_timestamp(), unique (source, request_id));
create table result (id bigint primary key, sid text not null, at timestamptz not null default clock_timestamp());
create table receipt (
    id bigint, status text, sid text not null, at timestamptz not null default clock_timestamp(),
    primary key (id, status));
"""
_INTEND = """
insert into intent (id, source, request_id, request)
select * from unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[])
on conflict (source, request_id) do nothing returning id
"""
_RECORD = "insert into result (id, sid) select * from unnest($1::bigint[], $2::text[])"
_RECEIVE = """
insert into receipt (id, status, sid) select * from unnest($1::bigint[], $2::text[], $3::text[])
on conflict do nothing
"""

Row = TypeVar("Row")


class Group(Generic[Row]):
    """Rows written together: what arrives while one write runs goes with the next."""

    def __init__(self, write: Callable[[Sequence[Row]], Awaitable[None]]) -> None:
        self._write = write
        self._rows: list[Row] = []
        self._next: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()

    def add(self, row: Row) -> Awaitable[None]:
        """Done when the row is written."""
        self._rows.append(row)
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        return self._next

    async def _run(self) -> None:
        async with self._one:
            rows, self._rows, self._next = self._rows, [], None
            await self._write(rows)


class Reference:
    def __init__(
        self, task: Task, pool: asyncpg.Pool, session: aiohttp.ClientSession, producer: AIOKafkaProducer
    ) -> None:
        self._task = task
        self._pool = pool
        self._session = session
        self._producer = producer
        self._public_url = f"http://127.0.0.1:{task.port}"
        self._ids = itertools.count(time.time_ns() // 1000)
        self._to_send: asyncio.Queue[tuple[int, Request]] = asyncio.Queue(500)
        self._results: Group[tuple[int, str]] = Group(self._record)
        self._receipts: Group[tuple[int, str, str]] = Group(self._receive)

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """Intents are durable before the offsets are, and before a byte leaves."""
        while True:
            records = await consumer.getmany(timeout_ms=100, max_records=500)
            values = [each.value for part in records.values() for each in part]
            if not values:
                continue
            read = {next(self._ids): (decode_request(value), value) for value in values}
            rows = [(id_, request.source, request.id, value) for id_, (request, value) in read.items()]
            new = await self._pool.fetch(_INTEND, *zip(*rows, strict=True))
            await consumer.commit()
            for row in new:
                await self._to_send.put((row["id"], read[row["id"]][0]))

    async def send(self) -> None:
        url, headers = URL(self._task.messages_url), self._task.headers
        while True:
            id_, request = await self._to_send.get()
            body = form(request, f"{self._public_url}/callbacks/{id_}")
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                response.raise_for_status()
                self._results.add((id_, decode_created(await response.read()).sid))

    async def callback(self, request: web.Request) -> web.Response:
        """2xx when the receipt is stored and its event published, perhaps twice; else Twilio calls again."""
        params = parse_qsl((await request.read()).decode())
        text = self._public_url + request.raw_path + "".join(name + value for name, value in sorted(params))
        digest = base64.b64encode(hmac.digest(self._task.auth_token.encode(), text.encode(), "sha1")).decode()
        if not hmac.compare_digest(digest, request.headers.get("X-Twilio-Signature", "")):
            return web.Response(status=403)
        fields = dict(params)
        await self._receipts.add((int(request.match_info["id"]), fields["MessageStatus"], fields["MessageSid"]))
        return web.Response(status=204)

    async def _record(self, rows: Sequence[tuple[int, str]]) -> None:
        await self._pool.execute(_RECORD, *zip(*rows, strict=True))

    async def _receive(self, rows: Sequence[tuple[int, str, str]]) -> None:
        await self._pool.execute(_RECEIVE, *zip(*rows, strict=True))
        # Known ones too: a receipt comes again when its event was perhaps not published.
        sent = [
            await self._producer.send(
                self._task.events_topic,
                msgspec.json.encode({"id": id_, "state": status}),
                key=str(id_).encode(),
            )
            for id_, status, _ in rows
        ]
        await asyncio.gather(*sent)


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
        asyncpg.create_pool(task.dsn, min_size=1, max_size=4, init=assert_durable) as pool,
        aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
        AIOKafkaProducer(
            bootstrap_servers=task.bootstrap, acks="all", enable_idempotence=True, linger_ms=2
        ) as producer,
        consumer,
    ):
        await pool.execute(_TABLES)
        reference = Reference(task, pool, session, producer)
        app = web.Application()
        app.router.add_post("/callbacks/{id}", reference.callback)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", task.port).start()
        await asyncio.gather(reference.read(consumer), *(reference.send() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    uvloop.run(main(Task.read()))
