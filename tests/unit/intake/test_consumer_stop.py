"""Whatever the client does while it stops, or when it is asked for its place, who asked it goes on."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from gateway.intake.consumer import Consumer


class Client:
    def __init__(self, ends: BaseException | None, hangs: bool = False) -> None:
        self._ends = ends
        self._hangs = hangs
        self.cut_off = False

    async def stop(self) -> None:
        if self._hangs:
            try:
                await asyncio.sleep(60)
            finally:
                self.cut_off = True
        if self._ends is not None:
            raise self._ends


def consumer(client: Any) -> Consumer:
    unused: Any = None
    return Consumer(client, "requests", unused, unused, unused, unused, unused, unused, unused)


# aiokafka awaits what it has cancelled: a fetch that waits to be tried again ends it with a CancelledError.
@pytest.mark.parametrize("ends", [None, asyncio.CancelledError(), RuntimeError("no broker"), OSError("gone")], ids=repr)
async def test_however_the_client_ends_nobody_else_does(ends: BaseException | None) -> None:
    await asyncio.wait_for(consumer(Client(ends)).stop(1.0), 2.0)


async def test_a_client_that_does_not_end_is_cut_off() -> None:
    client = Client(None, hangs=True)
    await asyncio.wait_for(consumer(client).stop(0.05), 2.0)
    assert client.cut_off


async def test_a_cancellation_of_ours_stays_one() -> None:
    task = asyncio.create_task(consumer(Client(None, hangs=True)).stop(30.0))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Anew(Client):
    """A partition was taken and given again: the client waits for its place."""

    def __init__(self) -> None:
        super().__init__(None)
        self.partition = TopicPartition("requests", 0)

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset({self.partition})

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 9)

    async def position(self, partition: TopicPartition) -> int:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


async def test_a_place_that_is_ours_to_find_is_not_waited_for() -> None:
    client = Anew()
    asking = consumer(client)
    asking._standing[client.partition] = 3
    await asyncio.wait_for(asking._lag(), 5.0)
