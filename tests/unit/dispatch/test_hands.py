"""What is in hand: slots by lane, one job for a reminder at a time, and who waits for room."""

import asyncio
import time

from gateway.dispatch.hands import Hands
from gateway.dispatch.pipeline import Job
from gateway.worker import Lease
from schemas.vocabulary import Lane
from tests.unit.dispatch.case import claimed


def job(reminder: int, lane: Lane = Lane.BULK) -> Job:
    return Job(claimed(id=reminder, lane=lane), Lease(1, time.monotonic() + 60))


def test_bulk_leaves_a_share_to_urgent() -> None:
    hands = Hands(8, 0.25)
    assert (hands.free, hands.free_for_bulk) == (8, 6)
    bulk = [job(n) for n in range(6)]
    assert all([hands.take(each) for each in bulk])
    assert (hands.free, hands.free_for_bulk) == (2, 0)
    assert hands.take(job(10, Lane.URGENT))
    assert (hands.free, hands.free_for_bulk) == (1, 0)
    hands.release(bulk[:2])
    assert (hands.free, hands.free_for_bulk) == (3, 2)


def test_urgent_may_fill_everything() -> None:
    hands = Hands(4, 0.5)
    for n in range(4):
        assert hands.take(job(n, Lane.URGENT))
    assert (hands.free, hands.free_for_bulk) == (0, 0)


def test_a_reminder_comes_again_when_its_first_job_is_done() -> None:
    hands = Hands(4, 0.0)
    first, second, third = job(1), job(1), job(1)
    assert hands.take(first)
    assert not hands.take(second)
    assert not hands.take(third)  # the newer claim counts
    assert hands.release([first]) == [third]
    assert hands.release([first]) == []  # once is enough
    assert hands.free == 4
    assert len(hands) == 0


async def test_emptied() -> None:
    hands = Hands(4, 0.0)
    assert await hands.emptied(0)
    one = job(1)
    hands.take(one)
    assert not await hands.emptied(0.01)
    asyncio.get_running_loop().call_later(0.01, hands.release, [one])
    assert await hands.emptied(5)


async def test_room_is_there_or_waited_for_or_not_to_be_had() -> None:
    hands = Hands(4, 0.0)
    assert await hands.roomy(4, 0)
    jobs = [job(n) for n in range(3)]
    for each in jobs:
        hands.take(each)
    assert not await hands.roomy(2, 0.01)
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, hands.release, jobs[:1])
    assert await hands.roomy(2, 5)
    assert hands.free_for_bulk == 2
    loop.call_later(0.01, hands.release, jobs[1:2])
    loop.call_later(0.02, hands.release, jobs[2:])
    assert await hands.roomy(4, 5)
