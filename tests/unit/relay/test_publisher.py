"""The producer is replaced when the login changes, between two batches."""

from __future__ import annotations

from typing import Any

from gateway.relay import KafkaPublisher, Message


class Producer:
    def __init__(self, number: int, diary: list[tuple[str, int]]) -> None:
        self.number, self.diary = number, diary

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    def create_batch(self) -> Any:
        return self

    def append(self, **message: Any) -> object:
        return self

    def close(self) -> None: ...

    async def send_batch(self, batch: Any, topic: str, partition: int) -> Any:
        self.diary.append(("sent", self.number))
        return _acknowledged()

    async def stop(self) -> None:
        self.diary.append(("stopped", self.number))


async def _acknowledged() -> None: ...


async def test_the_next_batch_goes_by_a_producer_made_anew() -> None:
    diary: list[tuple[str, int]] = []
    made = 0

    async def make() -> Producer:
        nonlocal made
        made += 1
        return Producer(made, diary)

    publisher = KafkaPublisher(make)
    publisher.renew()
    for _ in range(2):
        await publisher.publish([Message("events", b"key", 0, b"value")])
    publisher.renew()
    assert diary == [("sent", 1), ("sent", 1)]  # nothing is torn off
    for _ in range(2):
        await publisher.publish([Message("events", b"key", 0, b"value")])
    assert diary == [("sent", 1), ("sent", 1), ("stopped", 1), ("sent", 2), ("sent", 2)]
