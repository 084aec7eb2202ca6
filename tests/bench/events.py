"""How many events are on a topic, asked of Kafka and not of who sent them."""

from __future__ import annotations

from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition


class EventCount:
    """The records of one topic, by its end offsets: one small request for each answer, and nothing is fetched.

    A record counts when it is committed on the broker.  One that was published twice counts twice.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        # Never assigned to it: a consumer reads ahead of what it is assigned to.
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        self._partitions = [TopicPartition(topic, each) for each in range(partitions)]

    async def start(self) -> Self:
        await self._consumer.start()
        await self.now()  # finds the leaders, so that no later answer waits for that
        return self

    async def now(self) -> int:
        return sum((await self._consumer.end_offsets(self._partitions)).values())

    async def stop(self) -> None:
        await self._consumer.stop()
