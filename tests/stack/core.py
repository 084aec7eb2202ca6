"""A lender's core: what it tells on its own topic, and a gateway that reads it."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from tests.stack.gateway import address
from tests.stack.scene import Scene, empty_world, until

TODAY: Final = dt.datetime.now(dt.UTC)
# Where it is noon now, so that what is due may be sent: the hours of the cadence are nine to eight.
ZONE: Final = f"Etc/GMT{TODAY.hour - 12:+d}" if TODAY.hour != 12 else "Etc/GMT"
DAY: Final = dt.timedelta(days=1)


class Core:
    """It tells facts, in their order, keyed by borrower."""

    def __init__(self, bootstrap: str, topic: str, source: str = "/core") -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._source = source
        self._told = 0

    async def tell(self, *facts: tuple[str, dict[str, Any]] | bytes, key: bytes | None = None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        await producer.start()
        try:
            for each in facts:
                if isinstance(each, bytes):
                    await producer.send(self._topic, each, key=key)
                    continue
                kind, data = each
                self._told += 1
                event = {
                    "specversion": "1.0", "id": f"fact-{self._told}", "source": self._source, "type": kind,
                    "data": data,
                }  # fmt: skip
                borrower = data["borrower"]["ref"] if "borrower" in data else data["borrower_ref"]
                await producer.send(self._topic, json.dumps(event).encode(), key=borrower.encode())
            await producer.flush()
        finally:
            await producer.stop()

    def another(self, source: str) -> Core:
        return Core(self._bootstrap, self._topic, source)

    async def beat(self, *partitions: int) -> None:
        """Heartbeats of now into these partitions, and how far they were read."""
        event = {
            "specversion": "1.0", "id": "beat", "source": self._source, "type": "repayment.watermark.v1",
            "data": {"as_of": moment(0)},
        }  # fmt: skip
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        await producer.start()
        try:
            for partition in partitions:
                await producer.send_and_wait(self._topic, json.dumps(event).encode(), partition=partition)
        finally:
            await producer.stop()


def moment(back: float = 60) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=back)).isoformat(timespec="milliseconds")


def there() -> dt.date:
    """Today where it is noon."""
    return (TODAY + dt.timedelta(hours=12 - TODAY.hour)).date()


def planned(number: int, due: dt.date, back: float = 60, **changes: Any) -> tuple[str, dict[str, Any]]:
    return "repayment.planned.v1", {
        "lender": "acme",
        "borrower": {"ref": f"borrower-{number}", "locale": "en", "timezone": ZONE, "jurisdiction": "US"},
        "contacts": [{"channel": "sms", "address": address("sms", number)}],
        "debt": f"debt-{number}", "currency": "USD", "as_of": moment(back),
        "instalments": [{"number": 1, "due_date": due.isoformat(), "amount": "100.00"}],
        "params": {"pay_url": f"https://pay.example.com/{number}"},
        **changes,
    }  # fmt: skip


def fact(kind: str, number: int, back: float = 30, **more: Any) -> tuple[str, dict[str, Any]]:
    return kind, {
        "lender": "acme", "borrower_ref": f"borrower-{number}", "debt": f"debt-{number}", "as_of": moment(back), **more,
    }  # fmt: skip


async def standing(scene: Scene, number: int) -> dict[str, str]:
    rows = await scene.sql(
        "select r.stage, coalesce(l.state::text, e.state::text) as state, coalesce(l.reason, e.reason) as reason"
        " from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id"
        " where r.debt = $1 order by r.id",
        f"debt-{number}",
    )
    return {row["stage"]: row["state"] if row["reason"] is None else f"{row['state']} {row['reason']}" for row in rows}


async def stands(scene: Scene, number: int, **expected: str) -> dict[str, str]:
    """Once it is so."""

    async def so() -> dict[str, str] | None:
        found = await standing(scene, number)
        return found if expected.items() <= found.items() else None

    return await until(so, f"{expected} of {number}", 30)


@asynccontextmanager
async def told_facts(
    postgres: Any, kafka: Any, home: Path, overrides: dict[str, Any]
) -> AsyncIterator[tuple[Scene, Core]]:
    """A world and one gateway that is ready and reads facts, and who tells them."""
    topic = f"repayments-{secrets.token_hex(4)}"
    async with empty_world(postgres, kafka, home) as world:
        await kafka.create_topics({topic: 4})
        gateway = world.gateway({**overrides, "kafka": {"repayments_topic": topic}})
        gateway.spawn()
        try:
            await gateway.ready(60)
            yield Scene(world, gateway), Core(world.bootstrap, topic)
        finally:
            await gateway.child.kill()
