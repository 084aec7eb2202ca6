"""A borrower's own stop that could only be stored is effective for every intend after it: two connections race.

What orders them is the lock that orders freezes, because somebody else has the borrower's.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.ledger import freezes, receipts
from gateway.ledger.intend import Intended
from gateway.ledger.received import Stored
from tests.integration.by_hand import Hand, Sending, hand
from tests.integration.test_freeze_order import NO_LOCK, intends, others, waits_for_a_lock


async def called_and_waiting(mine: Hand) -> tuple[Stored, Any, Any]:
    """A borrower who was called, his stop, and one more reminder of his about to be intended, by which worker."""
    sending: Sending = await mine.sending("v", borrower="b")
    waiting = await mine.born(borrower="b", debt="other")
    worker, claimed = await mine.claimed(waiting)
    stop = Stored(
        id=mine.id(), provider="p", kind="key", code="stop", received_at=mine.now, replay=b"x" * 16,
        attempt=sending.attempt, ref=None, state=None, sealed=b"",
    )  # fmt: skip
    return stop, worker, mine.intent(claimed)


async def stores(connection: Any, stop: Stored, mine: Hand) -> None:
    async with connection.transaction():
        assert await receipts.store(connection, [stop], mine.now) == {stop.id}


async def raced_at_the_worst_moment(dsn: str) -> tuple[Intended, bool]:
    """An intend that has looked for a stop and is held up before its write, and a stop that comes just then.

    What intend says in the end, and whether the stop had committed before.
    """
    async with hand(dsn) as mine, others(dsn) as (one, other):
        stop, worker, intent = await called_and_waiting(mine)
        transaction = mine.connection.transaction()
        await transaction.start()
        await mine.connection.execute("select 1 from live where id = $1 for update", intent.claimed.id)
        intending = asyncio.create_task(intends(one, worker, intent, mine))
        await waits_for_a_lock(mine, one)
        storing = asyncio.create_task(stores(other, stop, mine))
        committed, _ = await asyncio.wait({storing}, timeout=0.5)
        await transaction.commit()
        done = await intending
        await storing
        return done, bool(committed)


async def test_a_stop_cannot_come_between_the_look_and_the_write(database: str) -> None:
    done, committed = await raced_at_the_worst_moment(database)
    assert done.sendable
    assert not committed, "the stop was answered for, and something left"


async def test_without_the_lock_something_leaves_after_the_stop(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lock is for: the same race, lost."""
    monkeypatch.setattr(freezes, "_SHARED", NO_LOCK)
    monkeypatch.setattr(freezes, "_EXCLUSIVE", NO_LOCK)
    done, committed = await raced_at_the_worst_moment(database)
    assert done.sendable
    assert committed


async def test_an_intend_waits_for_the_stop_before_it(database: str) -> None:
    async with hand(database) as mine, others(database) as (one, other):
        stop, worker, intent = await called_and_waiting(mine)
        transaction = other.transaction()
        await transaction.start()
        await receipts.store(other, [stop], mine.now)
        intending = asyncio.create_task(intends(one, worker, intent, mine))
        await waits_for_a_lock(mine, one)
        await transaction.commit()
        assert (await intending).opted_out == {intent.attempt}


async def test_a_stop_is_stored_beside_an_intend_that_hangs(database: str) -> None:
    """Losing it would be worse: it holds for all that is intended from then on."""
    async with hand(database) as mine, others(database) as (one, other):
        stop, worker, intent = await called_and_waiting(mine)
        hanging = one.transaction()
        await hanging.start()
        await freezes.read_shared(one, mine.now)
        async with asyncio.timeout(10):
            await stores(other, stop, mine)
        await hanging.rollback()
        assert (await intends(one, worker, intent, mine)).opted_out == {intent.attempt}
        assert await mine.value("select count(*) from receipt where id = $1", stop.id) == 1


async def test_what_stops_nobody_waits_for_nobody(database: str) -> None:
    async with hand(database) as mine, others(database) as (one, other):
        stop, *_ = await called_and_waiting(mine)
        hanging = one.transaction()
        await hanging.start()
        await freezes.read_shared(one, mine.now)
        pressed = Stored(
            id=stop.id, provider="p", kind="key", code="ways_to_pay", received_at=mine.now, replay=b"y" * 16,
            attempt=stop.attempt, ref=None, state=None, sealed=b"",
        )  # fmt: skip
        async with asyncio.timeout(0.9):  # the patience is a second
            await stores(other, pressed, mine)
        await hanging.rollback()
