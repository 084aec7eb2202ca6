"""Everything on a Kafka topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


@dataclass(frozen=True)
class Record:
    """One record, where it stood."""

    partition: int
    offset: int
    value: bytes | None
    beside: tuple[bytes, ...] = ()  # its key and the values of its headers


@dataclass(frozen=True)
class Topic:
    """A topic's records, in offset order per partition."""

    records: tuple[Record, ...]

    def values(self) -> Iterator[bytes | None]:
        return (record.value for record in self.records)


async def size(bootstrap: str, topic: str) -> int:
    """How many records were ever acknowledged on the topic."""
    async with _reader(bootstrap, topic) as (consumer, partitions):
        return int(sum((await consumer.end_offsets(partitions)).values()))


async def everything(bootstrap: str, topic: str) -> Topic:
    """What is on the topic by now."""
    async with _reader(bootstrap, topic) as (consumer, partitions):
        ends = await consumer.end_offsets(partitions)
        found: list[Record] = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [Record(each.partition, each.offset, each.value, _beside(each)) for each in records]
        return Topic(tuple(found))


def _beside(record: Any) -> tuple[bytes, ...]:
    return tuple(part for part in (record.key, *(value for _, value in record.headers)) if part)


@asynccontextmanager
async def _reader(bootstrap: str, topic: str) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        numbers = consumer.partitions_for_topic(topic) or set()
        yield consumer, [TopicPartition(topic, number) for number in sorted(numbers)]
    finally:
        await consumer.stop()
