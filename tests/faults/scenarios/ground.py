"""Where a scenario is played: two servers, and for each scenario a world of its own between them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]  # it ships no types

from gateway.dev.topics import administrator
from tests.conftest import Topics
from tests.faults.checker import Report
from tests.faults.harness import Stand, fresh_topics, stand
from tests.stack.gateway import GatewayProcess
from tests.stack.kafka import KafkaServer
from tests.stack.postgres import PostgresServer

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Ground:
    """Servers that a scenario may disturb, and a directory for what it leaves."""

    postgres: PostgresServer
    kafka: KafkaServer
    home: Path

    @asynccontextmanager
    async def stand(
        self, overrides: Mapping[str, Any] | None = None, partitions: int = 4, **simulator: Any
    ) -> AsyncIterator[Stand]:
        await self.postgres.heal()
        await self.kafka.heal()
        database = await self.postgres.fresh_database()
        topics = await fresh_topics(self.kafka)
        if partitions != 4:
            requests = f"{topics.requests}-{partitions}"
            await self.kafka.create_topics({requests: partitions})
            topics = Topics(requests, topics.events, topics.deadletters, topics.group)
        dsn = self.postgres.dsn(database)
        async with stand(dsn, self.kafka.bootstrap, topics, self.home, overrides, **simulator) as here:
            yield here
        await self.postgres.drop_database(database)


async def members(here: Stand) -> tuple[str, list[str]]:
    """The group's state, and its members by the broker's word; one that was missed comes back under another name."""
    async with administrator(here.world.bootstrap) as admin:
        [answer] = await admin.describe_consumer_groups([here.world.topics.group])
        [(_, _, state, _, _, found, *_)] = answer.groups
        return state, sorted(each[0] for each in found)


async def asked(gateway: GatewayProcess, path: str, within: float = 2.0) -> tuple[int, dict[str, Any]] | None:
    """Status and body of `/livez` or `/readyz`; None when nobody answers in time, or at all."""
    timeout = aiohttp.ClientTimeout(total=within)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{gateway.url}{path}") as answer:
            return answer.status, json.loads(await answer.read())
    except (aiohttp.ClientError, TimeoutError):
        return None


async def measured(gateway: GatewayProcess, name: str) -> float:
    """The sum of a metric over all its labels."""
    prefix = f"reminder_gateway_{name}"
    lines = (line for line in (await gateway.metrics()).splitlines() if line.startswith((f"{prefix} ", f"{prefix}{{")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def memory(gateway: GatewayProcess) -> float:
    """MiB."""
    return float(psutil.Process(gateway.child.pid).memory_info().rss / MEBIBYTE)


def log_of(gateway: GatewayProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gateway.log.read_text().splitlines()]


def judged(report: Report) -> dict[str, Any]:
    """What the judge found, for the record; fails on any violation."""
    assert not report.violations, report
    return {
        "violations": 0,
        "records": report.counts["records"],
        "messages": report.counts["messages"],
        "events": report.counts["events"],
        "ended": dict(report.endings),
    }


async def over(seconds: float, every: float) -> AsyncIterator[float]:
    """Seconds gone, again and again until it is over."""
    began = time.monotonic()
    while (gone := time.monotonic() - began) < seconds:
        yield gone
        await asyncio.sleep(every)
