"""The books: what the ledger, the gateway's counters and the providers say, each asked for itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import asyncpg

from gateway.cli.sums import counted
from gateway.dev.demo.stage import Stage
from gateway.ledger import gauges, receipts, sums
from gateway.ledger.sums import Conservation

_EVER: Final = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Books:
    """Everything at one moment.  `published` is what the broker acknowledged, record by record, of the requests topic.

    `waiting` are events not on Kafka yet, `parked` receipts kept and not applied, `pending` receipts that a provider
    has still to deliver; `log_size` grows with everything a provider does.
    """

    sums: Conservation
    published: int
    waiting: int
    parked: int
    pending: int
    log_size: int

    @property
    def under_way(self) -> list[str]:
        """What is not finished, in words; empty when everything stands still."""
        numbers = {
            "records not read": max(self.published - self.sums.read, 0),
            "reminders live": self.sums.live,
            "events in the outbox": self.waiting,
            "receipts not applied": self.parked,
            "receipts not delivered": self.pending,
        }
        return [f"{what}: {n}" for what, n in numbers.items() if n]

    @property
    def counted(self) -> int:
        """Records read, by the gateway's own counters."""
        return sum(self.sums.counted.read.values()) if self.sums.counted else 0

    @property
    def gaps(self) -> list[str]:
        """What does not add up between the broker, the ledger's offsets, its rows and the counters."""
        gaps = self.sums.gaps
        if self.published != self.sums.read:
            gaps.append(f"{self.published} records published, but {self.sums.read} read by the stored offsets")
        return gaps


async def read(stage: Stage, acknowledged: Mapping[int, int]) -> Books:
    """Reads the books.  `acknowledged` are the records that the broker took of the requests topic, by partition."""
    topic = stage.config.kafka.requests_topic
    by_counters = counted([await _exposition(stage.metrics_url)])
    connection = await asyncpg.connect(stage.config.database.dsn.get_secret_value(), timeout=10)
    try:
        # The topic is of this demo's own making, so that its log begins at 0.
        log = {(topic, partition): (0, n) for partition, n in acknowledged.items()}
        found = await sums.conservation(connection, log, by_counters)
        reading = await gauges.read(connection, _EVER)
        parked = len(await receipts.ripe(connection, _EVER))
    finally:
        await connection.close()
    simulator = stage.simulator
    return Books(
        sums=found,
        published=sum(acknowledged.values()),
        waiting=reading.outbox.rows,
        parked=parked,
        pending=simulator.pending_receipts,
        log_size=simulator.journal.path.stat().st_size,
    )


async def _exposition(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()
