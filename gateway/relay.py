"""The relay: events leave the outbox for Kafka in order, and leave the outbox when Kafka has them.

Each shard of buckets has one leased owner.  A crash between Kafka's acknowledgement and the delete repeats events:
at least once, each with a stable id and a per-reminder `seq`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from gateway.crashpoints import CrashPoint, reached
from gateway.ids import to_reference
from gateway.ledger import outbox
from gateway.ledger.database import Database
from gateway.ledger.outbox import Event
from gateway.observability.logs import get_logger
from gateway.worker import Worker
from schemas.messages import DEADLETTER, DEADLETTERS_TOPIC, EVENTS_TOPIC, STATUS

log = get_logger(__name__)

_SOURCE: Final = "reminder-gateway"
_TYPES: Final = {EVENTS_TOPIC: STATUS, DEADLETTERS_TOPIC: DEADLETTER}
_BATCH: Final = 500


class RelayObserver(Protocol):
    def published(self, topic: str, n: int) -> None: ...


class Publisher(Protocol):
    """What publishes.  `publish` returns when every message is acknowledged, in order per key, or raises."""

    async def publish(self, messages: Sequence[tuple[str, bytes, int, bytes]]) -> None:
        """Messages of (topic, key, bucket, value)."""
        ...


class Relay:
    """Publishes what the outbox holds for this process's shards."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        publisher: Publisher,
        topics: dict[str, str],
        metrics: RelayObserver,
        now: Callable[[], dt.datetime],
        lease_seconds: float = 10.0,
        poll_seconds: float = 0.25,
    ) -> None:
        self._database = database
        self._worker = worker
        self._publisher = publisher
        self._topics = topics
        self._metrics = metrics
        self._now = now
        self._lease = dt.timedelta(seconds=lease_seconds)
        self._poll_seconds = poll_seconds
        self._wake = asyncio.Event()
        self._shards: list[int] = []
        self._owned_until = 0.0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="relay")

    def wake(self) -> None:
        self._wake.set()

    async def stop(self, seconds: float) -> None:
        """Publishes what is left if it can in time, then lets the shards go."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(Exception):
            async with self._database.connection() as connection:
                await outbox.release(connection, self._worker.lease.id)

    async def _run(self) -> None:
        while True:
            try:
                sent = await self._round()
            except Exception as error:
                # Events wait in the outbox; sending reminders does not wait for Kafka.
                log.warning("relay_failed", exc_info=error)
                sent = 0
                await asyncio.sleep(min(self._poll_seconds * 4, 1.0))
                if self._stopping:
                    return
            if sent:
                continue
            if self._stopping:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._poll_seconds)
            self._wake.clear()

    async def _round(self) -> int:
        await self._own()
        sent = 0
        for low, high in outbox.bucket_ranges(self._shards):
            sent += await self._drain(low, high)
        return sent

    async def _own(self) -> None:
        """Renews the leases in time to use them: nothing is published by an owner whose lease may have ended."""
        if time.monotonic() < self._owned_until - self._lease.total_seconds() / 2:
            return
        asked = time.monotonic()
        worker = self._worker.lease.id
        self._shards = await self._database.transaction(lambda c: outbox.acquire(c, worker, self._lease))
        self._owned_until = asked + self._lease.total_seconds()

    async def _drain(self, low: int, high: int) -> int:
        """One pass over a range of buckets, so that no bucket starves another."""
        sent = 0
        while low <= high and time.monotonic() < self._owned_until - 1.0:
            async with self._database.connection() as connection:
                events = await outbox.fetch(connection, low, high, _BATCH)
            if not events:
                break
            await self._publisher.publish([self._message(each) for each in events])
            reached(CrashPoint.AFTER_PUBLISH)
            async with self._database.connection() as connection:
                await outbox.delete(connection, events)
            for topic in {each.topic for each in events}:
                self._metrics.published(topic, sum(1 for each in events if each.topic == topic))
            sent += len(events)
            if len(events) < _BATCH:
                break
            low = events[-1].bucket
        return sent

    def _message(self, event: Event) -> tuple[str, bytes, int, bytes]:
        key = to_reference(event.reminder)
        unique = f"{key}.{event.seq}" if event.seq else to_reference(event.id)
        data = event.payload
        if event.seq:
            # The row's own column is the only source of `seq`; the payload is an object, so it starts with a brace.
            data = b'{"seq":%d,' % event.seq + data[1:]
        time_ = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        envelope = (
            f'{{"specversion":"1.0","id":"{unique}","source":"{_SOURCE}","type":"{_TYPES[event.topic]}",'
            f'"time":"{time_}","datacontenttype":"application/json","subject":"{key}","data":'
        )
        return self._topics[event.topic], key.encode(), event.bucket, envelope.encode() + data + b"}"


class KafkaPublisher:
    """Publishes through aiokafka; a reminder's messages go to one partition, chosen by its bucket.

    A producer that failed is replaced: once a batch of an idempotent one is given up, every later one is out of
    sequence for ever.  `make` starts a producer or raises.
    """

    def __init__(self, make: Callable[[], Awaitable[Any]]) -> None:
        self._make = make
        self._producer: Any = None

    async def start(self) -> None:
        self._producer = await self._make()

    async def stop(self, seconds: float = 5.0) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(producer.stop(), seconds)

    async def publish(self, messages: Sequence[tuple[str, bytes, int, bytes]]) -> None:
        if self._producer is None:
            await self.start()
        try:
            await self._publish(self._producer, messages)
        except Exception:
            await self.stop()
            raise

    async def _publish(self, producer: Any, messages: Sequence[tuple[str, bytes, int, bytes]]) -> None:
        topics = {message[0] for message in messages}
        partitions = {topic: sorted(await producer.partitions_for(topic)) for topic in topics}
        pending = [
            await producer.send(topic, value, key=key, partition=partitions[topic][bucket % len(partitions[topic])])
            for topic, key, bucket, value in messages
        ]
        # All of them, so that nothing of this producer is under way when it is replaced.
        for done in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
