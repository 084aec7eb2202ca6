"""Kafka as the relay uses it: whole batches, acknowledged, in order per bucket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownError, UnsupportedVersionError

from gateway.observability.logs import get_logger

log = get_logger(__name__)

_NO_HEADERS: Final[list[tuple[str, bytes]]] = []


class Message(NamedTuple):
    """One message for Kafka; `bucket` chooses its partition.  `traceparent` is for consumers that look into headers."""

    topic: str
    key: bytes
    bucket: int
    value: bytes
    traceparent: str | None = None


class KafkaPublisher:
    """Publishes through aiokafka; a reminder's messages go to one partition, chosen by its bucket.

    A producer that failed is replaced: once a batch of an idempotent one is given up, every later one is out of
    sequence for ever.  `make` starts a producer or raises; it is not asked before there is something to publish.
    """

    def __init__(self, make: Callable[[], Awaitable[Any]]) -> None:
        self._make = make
        self._producer: Any = None
        self._renewing = False

    def renew(self) -> None:
        """The next batch goes by a producer made anew: a living one logs in with what it was made with."""
        self._renewing = True

    async def stop(self, seconds: float = 5.0) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(producer.stop(), seconds)

    async def publish(self, messages: Sequence[Message]) -> None:
        if self._renewing:
            await self.stop()
            self._renewing = False
        if self._producer is None:
            self._producer = await self._make()
        try:
            await self._publish(self._producer, messages)
        except BaseException:
            await self.stop()
            raise

    async def _publish(self, producer: Any, messages: Sequence[Message]) -> None:
        """Whole batches, one for each partition: a future for every message would cost more than the message."""
        partitions: dict[str, list[int]] = {}
        for topic in {message.topic for message in messages}:
            partitions[topic] = sorted(await producer.partitions_for(topic))
        groups: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            of_topic = partitions[message.topic]
            groups.setdefault((message.topic, of_topic[message.bucket % len(of_topic)]), []).append(message)
        pending = []
        for (topic, partition), group in groups.items():
            for batch in _batches(producer, group):
                pending.append(await producer.send_batch(batch, topic, partition=partition))
        # All of them, so that nothing of this producer is under way when it is replaced.
        for done in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done


def _batches(producer: Any, messages: Sequence[Message]) -> Iterator[Any]:
    """Closed batches in order; a batch that takes no more is full."""
    batch = producer.create_batch()
    for message in messages:
        headers = _NO_HEADERS if message.traceparent is None else [("traceparent", message.traceparent.encode())]
        if batch.append(key=message.key, value=message.value, timestamp=None, headers=headers) is None:
            yield batch
            batch = producer.create_batch()
            batch.append(key=message.key, value=message.value, timestamp=None, headers=headers)
    batch.close()
    yield batch


async def start_producer(options: dict[str, Any]) -> AIOKafkaProducer:
    """An idempotent producer where the broker has it, else acks=all: at least once either way."""
    producer = AIOKafkaProducer(**options, enable_idempotence=True)
    try:
        await producer.start()
        return producer
    except (UnsupportedVersionError, UnknownError):
        # What brokers without producer ids answer.  A producer that failed to start must still be stopped.
        await producer.stop()
    except BaseException:
        await producer.stop()
        raise
    log.warning("producer_not_idempotent")
    producer = AIOKafkaProducer(**options)
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer
