"""The link between the gateway and its ledger breaks in ways that no kill shows, or is slow; then the judge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.dev.topics import administrator
from tests.faults.harness import Stand, eventually, stand
from tests.faults.load import Load, heal, script
from tests.faults.topics import size
from tests.stack.proxy import Link, Proxy, proxy

SEED = 20261126
BURST = 60
# A hung ledger costs a statement its timeout and the client's own beside it.
OVERRIDES = {"database": {"statement_timeout_seconds": 2}}
ANSWERED_SECONDS = 12.0  # its patience, behind a group that has used up its own
RECOVERED_SECONDS = 30.0  # from the moment the link is whole again
# Each way: a ledger in another city, over a line that is full.
SLOW_SECONDS = 0.02
SLOW_BYTES_PER_SECOND = 200_000


@asynccontextmanager
async def linked(dsn: str, kafka: Any, topics: Any, home: Path) -> AsyncIterator[tuple[Stand, Proxy, Load]]:
    """A gateway that reaches its ledger over a link of ours, up and with some work behind it."""
    parts = urlsplit(dsn)
    options: dict[str, Any] = {"script": script(SEED), "receipts": {"retry_scale": 0.05}}
    async with (
        proxy(parts.hostname or "", parts.port or 0) as link,
        stand(dsn, kafka.bootstrap, topics, home, OVERRIDES, **options) as here,
    ):
        over = dsn.replace(f":{parts.port}/", f":{link.port}/")
        assert over != dsn
        await here.up(GATEWAY_DATABASE_DSN=over)
        load = Load(SEED)
        await here.world.publish(load.burst(20))
        await eventually(lambda: some(here, "select count(*) from attempt", 5))
        yield here, link, load


async def some(here: Stand, sql: str, least: int) -> bool:
    return bool(await here.value(sql) >= least)


async def recovered(here: Stand) -> float:
    """Seconds until it says again that it is ready."""
    healed = time.monotonic()

    async def works() -> bool:
        return (await ready(here))[0] == 200

    await eventually(works, RECOVERED_SECONDS, here.gateway.child.tail)
    return time.monotonic() - healed


async def judged(here: Stand, load: Load, summary: Any, what: str) -> None:
    """Everything ends, and nothing was lost or sent twice meanwhile."""
    await heal(here, load)
    report = await here.check()
    summary(what, report)
    assert not report.violations, report


async def ready(here: Stand) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{here.gateway.url}/readyz") as answer:
        return answer.status, await answer.json()


@pytest.mark.timeout(240)
async def test_a_ledger_that_hangs_wedges_nothing(
    database: str, kafka: Any, topics: Any, tmp_path: Path, summary: Any
) -> None:
    """First silent, then deaf, which is worse: what is asked is done, and nobody hears of it.  Then the other side is
    gone without a word, and what stood is dead for good."""
    async with linked(database, kafka, topics, tmp_path) as (here, link, load):
        for how in (Link.HANGS, Link.DEAF, Link.VANISHES):
            await here.world.publish(load.burst(BURST))
            before = await here.value("select count(*) from attempt")
            await eventually(lambda before=before: some(here, "select count(*) from attempt", before + 15))  # type: ignore[misc]
            link.set(how)
            await eventually(lambda: no_ledger(here), 10, here.gateway.child.tail)
            await here.world.publish(load.burst(20))
            # A provider that calls meanwhile is not kept waiting: it is told to come again.
            started = time.monotonic()
            assert await called(here) == 503
            assert time.monotonic() - started < ANSWERED_SECONDS
            assert await group_is_behind(here), "Kafka was told of what was never committed"
            link.set(Link.PASSES)
            summary("the link to the ledger hangs", f"{how}: ready again after {await recovered(here):.1f} s")
        link.slow(SLOW_SECONDS, SLOW_BYTES_PER_SECOND)
        await here.world.publish(load.burst(BURST // 2))
        await eventually(lambda: read_everything(here), 60, here.gateway.child.tail)
        assert (await ready(here))[0] == 200
        link.slow()
        await judged(here, load, summary, "the link to the ledger hangs")


@pytest.mark.timeout(240)
async def test_commits_whose_answers_are_lost_are_neither_lost_nor_made_twice(
    database: str, kafka: Any, topics: Any, tmp_path: Path, summary: Any
) -> None:
    """The server has committed, and the connection is gone before it could say so: intake, intend, record, receipts,
    timers and the relay's leases alike.  Then every connection is cut, again and again."""
    async with linked(database, kafka, topics, tmp_path) as (here, link, load):
        for _ in range(6):
            link.lose_commits(8)
            await here.world.publish(load.burst(BURST // 3))
            await asyncio.sleep(1.0)

        async def lost() -> bool:
            return link.lost >= 40

        await eventually(lost, 30, lambda: f"only {link.lost} commits lost")
        link.lose_commits(0)
        cuts = link.connections
        for _ in range(8):
            await here.world.publish(load.burst(6))
            link.reset()
            await asyncio.sleep(0.25)
        link.set(Link.RESETS)
        await asyncio.sleep(1.5)
        link.set(Link.PASSES)
        what = "commits without an answer"
        summary(what, f"{link.lost} lost, {link.connections - cuts} connections made again")
        summary(what, f"ready again after {await recovered(here):.1f} s")
        await judged(here, load, summary, what)


async def group_is_behind(here: Stand) -> bool:
    """Whether what the group was told of is in the ledger: nobody else can have committed it."""
    async with administrator(here.world.bootstrap) as admin:
        told = await admin.list_consumer_group_offsets(here.world.topics.group)
    stored = dict(await here.fetch("select partition, next from intake_offset"))
    return all(each.offset <= stored[partition.partition] for partition, each in told.items())


async def read_everything(here: Stand) -> bool:
    records = await size(here.world.bootstrap, here.world.topics.requests)
    return bool(await here.value("select coalesce(sum(n), 0) from intake_count") >= records)


async def no_ledger(here: Stand) -> bool:
    status, body = await ready(here)
    return status == 503 and "ledger" in body["reasons"]


async def called(here: Stand) -> int:
    """What a provider is answered that reports a call."""
    url = f"{here.gateway.settings.tree['http']['public_url']}/callbacks/aliyun/"
    token = here.gateway.settings.environ["GATEWAY_CALLBACK_TOKEN"]
    report = b'[{"call_id":"x","status_code":"200000"}]'
    async with aiohttp.ClientSession() as session, session.post(url + token, data=report) as answer:
        return answer.status
