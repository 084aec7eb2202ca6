"""The relay: events leave the outbox for Kafka in order, and leave the outbox when Kafka has them.

Each shard of buckets has one leased owner.  A crash between Kafka's acknowledgement and the delete repeats events:
at least once, each with a stable id and a per-reminder `seq`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gateway.brokers import Brokers
from gateway.crashpoints import CrashPoint, reached
from gateway.ids import to_reference
from gateway.ledger import outbox
from gateway.ledger.database import Database
from gateway.ledger.outbox import Event
from gateway.observability.logs import get_logger
from gateway.relay.kafka import Message
from gateway.tracing import Field, Kind, SpanName, Tracer
from gateway.worker import Worker
from schemas.messages import CONTACTS, DEADLETTER, DEADLETTERS_TOPIC, EVENTS_TOPIC, STATUS

log = get_logger(__name__)

_SOURCE: Final = "reminder-gateway"
_TYPES: Final = {EVENTS_TOPIC: STATUS, DEADLETTERS_TOPIC: DEADLETTER}
_BATCH: Final = 500
_FAILING_SECONDS: Final = 10.0


class RelayObserver(Protocol):
    def published(self, topic: str, n: int) -> None: ...


class Publisher(Protocol):
    """What publishes.  `publish` returns when every message is acknowledged, in order per bucket, or raises."""

    async def publish(self, messages: Sequence[Message]) -> None: ...


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
        alive_for: dt.timedelta = dt.timedelta(0),
        lease_seconds: float = 15.0,
        publish_seconds: float = 6.0,
        poll_seconds: float = 0.25,
        tracer: Tracer | None = None,
        brokers: Brokers | None = None,
    ) -> None:
        """`publish_seconds` bounds one publish: none is begun that might outlive the lease."""
        self._database = database
        self._worker = worker
        self._publisher = publisher
        self._topics = topics
        self._metrics = metrics
        self._now = now
        self._lease = dt.timedelta(seconds=lease_seconds)
        self._publish_seconds = publish_seconds
        self._alive_for = alive_for
        self._poll_seconds = poll_seconds
        self._tracer = tracer
        self._brokers = brokers
        self._wake = asyncio.Event()
        self._shards: list[int] = []
        self._owned_until = 0.0
        self._stopping = False
        self._failed = False
        self._failing_since: float | None = None
        self._refused: set[str] = set()  # topics that took nothing in this round
        self._slow: set[str] = set()  # and in the one before: they are tried last
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="relay")

    def wake(self) -> None:
        self._wake.set()

    def trouble(self) -> str | None:
        """What keeps events from Kafka, once it has for a while."""
        since = self._failing_since
        if since is None or time.monotonic() - since < _FAILING_SECONDS:
            return None
        return (None if self._brokers is None else self._brokers.why) or "not_publishing"

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
            self._failed = False
            self._slow, self._refused = self._refused, set()
            try:
                sent = await self._round()
            except Exception as error:
                log.warning("relay_failed", exc_info=error)
                sent, self._failed = 0, True
            self._failing_since = (self._failing_since or time.monotonic()) if self._failed else None
            if self._failed:
                # Events wait in the outbox; sending reminders does not wait for Kafka.
                if self._stopping:
                    return
                await asyncio.sleep(min(self._poll_seconds * 4, 1.0))
            if sent:
                continue
            if self._stopping:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()
            self._wake.clear()

    async def _round(self) -> int:
        await self._own()
        sent = 0
        for low, high in outbox.bucket_ranges(self._shards):
            sent += await self._drain(low, high)
        return sent

    async def _own(self, *, renew: bool = False) -> None:
        """Renews the leases in time to use them: nothing is published by an owner whose lease may have ended."""
        if not renew and time.monotonic() < self._owned_until - self._lease.total_seconds() * 0.7:
            return
        asked = time.monotonic()
        worker = self._worker.lease.id
        self._shards = await self._database.transaction(
            lambda c: outbox.acquire(c, worker, self._lease, self._alive_for)
        )
        self._owned_until = asked + self._lease.total_seconds()

    async def _drain(self, low: int, high: int) -> int:
        """One pass over a range of buckets, so that no bucket starves another."""
        sent = 0
        while low <= high:
            async with self._database.connection() as connection:
                events = await outbox.fetch(connection, low, high, _BATCH, self._refused)
            if not events:
                break
            published, refused = 0, len(self._refused)
            # What one topic refuses must not keep the others waiting, however much of it lies before them.
            for topic in sorted({each.topic for each in events}, key=lambda each: (each in self._slow, each)):
                published += await self._publish(topic, [each for each in events if each.topic == topic])
            sent += published
            if len(events) < _BATCH:
                break
            progress = published or len(self._refused) > refused
            low = max(events[-1].bucket, low if progress else low + 1)
        return sent

    async def _publish(self, topic: str, events: Sequence[Event]) -> int:
        """Publishes events of one topic and removes them; 0 when they stay where they are."""
        if time.monotonic() > self._owned_until - self._publish_seconds - 1.0:
            await self._own(renew=True)
            events = [each for each in events if outbox.shard_of(each.bucket) in self._shards]
        began = 0 if self._tracer is None else self._tracer.now()
        try:
            async with asyncio.timeout(self._publish_seconds):
                await self._publisher.publish(self._messages(events))
        except Exception as error:
            log.warning("publish_failed", topic=topic, n=len(events), exc_info=error)
            self._failed = True
            self._refused.add(topic)
            if self._brokers is not None:
                self._brokers.trouble()
            return 0
        reached(CrashPoint.AFTER_PUBLISH)
        async with self._database.connection() as connection:
            await outbox.delete(connection, events)
        self._metrics.published(EVENTS_TOPIC if topic == CONTACTS else topic, len(events))
        if self._tracer is not None:
            for each in events:
                if each.traceparent is not None:
                    self._trace(self._tracer, each, began)
        return len(events)

    def _trace(self, tracer: Tracer, event: Event, began: int) -> None:
        tracer.tell_below(
            SpanName.PUBLISH,
            Kind.PRODUCER,
            event.traceparent,
            began,
            {
                Field.SYSTEM: "kafka",
                Field.TOPIC: self._topics[event.topic],
                Field.EVENT: _id(event),
                Field.EVENT_TYPE: _type(event),
            },
        )

    def _messages(self, events: Sequence[Event]) -> list[Message]:
        time_ = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return [self._message(each, time_) for each in events]

    def _message(self, event: Event, time_: str) -> Message:
        """The CloudEvent around a payload.  The row's own column is the only source of `seq`."""
        key = to_reference(event.reminder)
        trace = "" if event.traceparent is None else f'"traceparent":"{event.traceparent}",'
        envelope = (
            f'{{"specversion":"1.0","id":"{_id(event)}","source":"{_SOURCE}","type":"{_type(event)}",'
            f'"time":"{time_}","datacontenttype":"application/json","subject":"{key}",{trace}"data":'
        ).encode()
        data = event.payload  # an object, so it starts with a brace
        value = b'%b{"seq":%d,%b}' % (envelope, event.seq, data[1:]) if event.seq else b"%b%b}" % (envelope, data)
        return Message(self._topics[event.topic], key.encode(), event.bucket, value, event.traceparent)


def _id(event: Event) -> str:
    """Of the answers to one cancel each reminder has its own."""
    key = to_reference(event.reminder)
    return f"{key}.{event.seq or to_reference(event.id)}" if event.id != event.reminder else key


def _type(event: Event) -> str:
    return event.type or _TYPES[event.topic]
