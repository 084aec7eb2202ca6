"""Kafka as an upstream service uses it: put records on a topic, read what is told back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from gateway.brokers import why_unreachable
from gateway.config import Kafka

_TOPIC_WITHIN: Final = 10.0


class NoKafka(RuntimeError):
    """The brokers or the topic cannot be reached; the message says which."""


@asynccontextmanager
async def producing(kafka: Kafka, topic: str) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer, once the topic is known.  A repeat of its own is harmless: intake knows it by source and id.

    Raises NoKafka.
    """
    producer = AIOKafkaProducer(**kafka.client_options(), acks="all", linger_ms=5)
    try:
        try:
            await producer.start()
            await asyncio.wait_for(producer.partitions_for(topic), _TOPIC_WITHIN)
        except (KafkaError, TimeoutError, OSError) as error:
            raise NoKafka(f"{topic} at {kafka.bootstrap} cannot be reached: {await reason(kafka, error)}") from None
        yield producer
    finally:
        await producer.stop()


async def reason(kafka: Kafka, error: BaseException) -> str:
    """The error's class, and what is in the way of a connection; the client's own errors do not say."""
    found = await why_unreachable(kafka.client_options())
    return type(error).__name__ if found is None else f"{type(error).__name__}, {found}"


class Listener:
    """What is told on the events and dead letters topics, from where it stood when listening began."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._consumer = AIOKafkaConsumer(
            kafka.events_topic,
            kafka.deadletters_topic,
            **kafka.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    async def __aenter__(self) -> Listener:
        try:
            await self._consumer.start()
            await self._consumer.seek_to_end()
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            why = await reason(self._kafka, error)
            raise NoKafka(f"{self._kafka.bootstrap} cannot be listened to: {why}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def more(self, milliseconds: int = 200) -> list[dict[str, Any]]:
        """The data of what came meanwhile, each with the `type` of its event."""
        polled = await self._consumer.getmany(timeout_ms=milliseconds)
        events = [json.loads(record.value) for records in polled.values() for record in records]
        return [{"type": event["type"], **event["data"]} for event in events]
