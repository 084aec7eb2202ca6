"""A gateway of the test's own: the real process, the real command line, pointed at the simulator."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gateway.dev.process import Child
from gateway.dev.settings import Development, before, merge
from gateway.dev.simulator import Simulator, SimulatorConfig
from tests.stack import contracts
from tests.stack.pgbouncer import routed

_PROBE = aiohttp.ClientTimeout(total=5)


class GatewayProcess:
    """`reminder-gateway run` as a child process; its log is kept for the PII sweep and for failures."""

    def __init__(self, settings: Development, home: Path, name: str = "gateway") -> None:
        self.settings = settings
        self.log = home / f"{name}.log"
        self.config = settings.write(home / f"{name}.yaml")
        self.environ = {**os.environ, **settings.environ}
        self._child = Child(name, self.log)
        self.url = f"http://127.0.0.1:{settings.tree['http']['internal_port']}"

    def spawn(self, **environ: str) -> None:
        """Starts it; `environ` may arm a crash point."""
        command = [sys.executable, "-m", "gateway", "run", "--config", str(self.config)]
        self._child.spawn(command, env={**self.environ, **environ})

    @property
    def child(self) -> Child:
        return self._child

    async def command(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """A command with its configuration: the exit code, and what it writes, to the standard output first."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, "--config", str(self.config), env={**self.environ, **environ},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, (out + err).decode()

    async def ready(self, within: float = 30) -> None:
        await self._child.ready(self._is_ready, within=within)

    async def metrics(self) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as response:
            return await response.text()

    async def _is_ready(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=_PROBE) as session,
                session.get(f"{self.url}/readyz") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):  # it may be stopped
            return False


@dataclass(frozen=True)
class World:
    """Everything around one gateway: its database, topics, simulator and settings."""

    dsn: str
    bootstrap: str
    topics: Any
    simulator: Simulator
    home: Path

    def settings(self, overrides: Mapping[str, Any] | None = None) -> Development:
        """Settings of one more gateway process; the simulator's receipts go to the last one made."""
        pooled = routed(self.dsn)
        tree: dict[str, Any] = {
            "kafka": {
                "requests_topic": self.topics.requests,
                "events_topic": self.topics.events,
                "deadletters_topic": self.topics.deadletters,
                "group": self.topics.group,
            },
            **({"database": {"statement_cache": 0}} if pooled else {}),
        }
        merge(tree, overrides or {})
        return before(self.simulator, dsn=pooled or self.dsn, bootstrap=self.bootstrap, overrides=tree)

    def gateway(self, overrides: Mapping[str, Any] | None = None, name: str = "gateway") -> GatewayProcess:
        return GatewayProcess(self.settings(overrides), self.home, name)

    async def publish(self, events: Sequence[Mapping[str, Any] | bytes], keys: Sequence[bytes | None] = ()) -> None:
        """Puts events (or raw bytes) on the requests topic, keyed by borrower ref unless `keys` says otherwise."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        await producer.start()
        try:
            for position, event in enumerate(events):
                value = event if isinstance(event, bytes) else json.dumps(event).encode()
                key = keys[position] if keys else key_of(event)
                await producer.send(self.topics.requests, value, key=key)
            await producer.flush()
        finally:
            await producer.stop()

    async def read(self, topic: str) -> list[dict[str, Any]]:
        """Everything on a topic by now, in offset order per partition."""
        return [json.loads(record.value) for record in await self.records(topic)]

    async def records(self, topic: str) -> list[Any]:
        """Everything on a topic by now.  What the gateway has told is held to the published contracts on the way."""
        found = await self._records(topic)
        kinds = {self.topics.events: contracts.EVENTS, self.topics.deadletters: contracts.DEADLETTERS}
        if topic in kinds:
            for record in found:
                contracts.hold_any(kinds[topic], record.key, record.value)
        return found

    async def _records(self, topic: str) -> list[Any]:
        async with reader(self.bootstrap) as consumer:
            partitions = [TopicPartition(topic, each) for each in await partitions_of(self.bootstrap, topic)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            found: list[Any] = []
            while any([await consumer.position(each) < ends[each] for each in partitions]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(records)
            return found

    async def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record, by partition."""
        async with reader(self.bootstrap) as consumer:
            partitions = [TopicPartition(topic, each) for each in await partitions_of(self.bootstrap, topic)]
            return {each.partition: end for each, end in (await consumer.end_offsets(partitions)).items()}


@asynccontextmanager
async def reader(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def partitions_of(bootstrap: str, topic: str) -> set[int]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        return set(await producer.partitions_for(topic))
    finally:
        await producer.stop()


def key_of(event: Mapping[str, Any] | bytes) -> bytes | None:
    if isinstance(event, bytes):
        return None
    data = event.get("data") or {}
    ref = data.get("borrower_ref") or (data.get("borrower") or {}).get("ref")
    return None if ref is None else str(ref).encode()


def requested(number: int, channels: Sequence[str] = ("sms",), **changes: Any) -> dict[str, Any]:
    """One valid reminder request; `number` makes it and its recipient unique, and is the marker `M-<number>`."""
    now = dt.datetime.now(dt.UTC)
    data: dict[str, Any] = {
        "lender": "acme",
        "borrower": {
            "ref": f"borrower-{number}",
            "name": "Li Lei",
            "locale": "zh-CN" if number % 2 else "en",
            "timezone": "Asia/Shanghai",
            "jurisdiction": "CN",
            "role": "debtor",
        },
        "debt": {
            "ref": f"debt-{number}",
            "amount": "1234.50",
            "currency": "CNY",
            "due_date": now.date().isoformat(),
            "state_as_of": now.isoformat(),
        },
        "stage": "due",
        "contacts": [{"channel": channel, "address": address(channel, number)} for channel in channels],
        "template": "repayment",
        "params": {"pay_url": "https://pay.example.com/a", "reference": f"M-{number}"},
        "not_after": (now + dt.timedelta(hours=6)).isoformat(),
        "priority": "urgent" if number % 5 == 0 else "bulk",
    }
    merge(data, changes)
    return {
        "specversion": "1.0",
        "id": f"request-{number}",
        "source": "loan-core",
        "type": "reminder.requested.v1",
        "data": data,
    }


def cancelled(number: int, scope: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A cancel for the borrower of `requested(number)`."""
    now = dt.datetime.now(dt.UTC)
    data = {"lender": "acme", "borrower_ref": f"borrower-{number}", "scope": dict(scope), "as_of": now.isoformat()}
    data |= changes
    return {
        "specversion": "1.0",
        "id": f"cancel-{number}-{now.timestamp()}",
        "source": "loan-core",
        "type": "reminder.cancelled.v1",
        "data": data,
    }


def address(channel: str, number: int) -> str:
    """A recipient of this number's own: a valid mobile number, or a device token."""
    if channel == "push":
        return f"token-{number:08d}-abcdefghijklmnopqrstuvwxyz"
    return f"+86139{number:08d}" if channel == "sms" else f"+86138{number:08d}"


@asynccontextmanager
async def world(dsn: str, bootstrap: str, topics: Any, home: Path, **simulator: Any) -> AsyncIterator[World]:
    """The world around a gateway; the simulator runs in this process and outlives any kill of the gateway.

    At the end of what went well every event and dead letter is read once and held to the published contracts.
    """
    config = SimulatorConfig(log=home / "simulator.jsonl", **simulator)
    async with Simulator(config) as running:
        here = World(dsn, bootstrap, topics, running, home)
        yield here
        for topic in (topics.events, topics.deadletters):
            await here.records(topic)
