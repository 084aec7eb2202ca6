"""A freeze that has committed is seen by every later intend: two real connections race, in both orders.

What orders them is a lock of the freezes' own: intend shares it, a freeze excludes.  The last two tests show what the
same race comes to with the lock and without it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final

import asyncpg
import pytest
import typer
from pydantic import SecretStr

from gateway.cli import brakes
from gateway.ledger import freezes, intend
from gateway.ledger.database import Database
from gateway.ledger.intend import Intended, Intent
from gateway.ledger.workers import Worker
from tests.integration.by_hand import HOUR, Hand, hand

RACES: Final = 50
NO_LOCK: Final = "select 1"


@asynccontextmanager
async def others(dsn: str, n: int = 2) -> AsyncIterator[list[Any]]:
    """More connections to the same database."""
    opened = [await asyncpg.connect(dsn) for _ in range(n)]
    try:
        yield opened
    finally:
        for each in opened:
            await each.close()


async def ready(hand: Hand, n: int) -> tuple[Worker, list[Intent]]:
    """So many claimed reminders, about to be intended."""
    await hand.read(*[hand.request() for _ in range(n)])
    worker = await hand.worker()
    return worker, [hand.intent(each) for each in await hand.claim(worker)]


async def intends(connection: Any, worker: Worker, intent: Intent, hand: Hand) -> Intended:
    async with connection.transaction():
        return await intend.intend(connection, worker.id, [intent], hand.now)


async def freezes_source(connection: Any, hand: Hand) -> frozenset[int]:
    """Freezes the source of everything here; the attempts that had been intended by then."""
    async with connection.transaction():
        assert await freezes.add(connection, "source", "core", reason="", author="", now=hand.now)
        return await intended(connection)


async def intended(connection: Any) -> frozenset[int]:
    """The attempts that have committed by now."""
    return frozenset(row[0] for row in await connection.fetch("select id from attempt"))


@pytest.mark.parametrize("first", ["intend", "freeze"])
async def test_nothing_is_sendable_after_a_freeze_has_committed(first: str, database: str, summary: Any) -> None:
    """Fifty times, one of the two given a head start of a fraction of a millisecond, so that they overlap.

    What is sendable was there when the freeze was; and once that has committed, whatever is asked is frozen.
    """
    chance = random.Random(first)
    won = 0
    async with hand(database) as mine, others(database) as (one, other):
        for _ in range(RACES):
            await mine.clear()
            worker, (racing, later) = await ready(mine, 2)
            pause = chance.uniform(0, 0.0004)

            async def late(work: Any, by: float) -> Any:
                await asyncio.sleep(by)
                return await work

            done, seen = await asyncio.gather(
                late(intends(one, worker, racing, mine), 0 if first == "intend" else pause),
                late(freezes_source(other, mine), pause if first == "intend" else 0),
            )
            assert done.sendable == seen, "it was intended behind the freeze's back"
            assert done.sendable | done.frozen == {racing.attempt}
            won += bool(done.sendable)
            after = await intends(one, worker, later, mine)
            assert after == Intended(frozenset(), frozenset({later.attempt}), frozenset())
            assert await intended(one) == seen
    summary("races between intend and freeze", f"{first} given the start: intend was first in {won} of {RACES}")


async def test_a_freeze_waits_for_the_intends_before_it(database: str) -> None:
    async with hand(database) as mine, others(database) as (one, other):
        worker, [intent] = await ready(mine, 1)
        transaction = one.transaction()
        await transaction.start()
        done = await intend.intend(one, worker.id, [intent], mine.now)
        assert done.sendable == {intent.attempt}
        freezing = asyncio.create_task(freezes_source(other, mine))
        await waits_for_a_lock(mine, other)
        await transaction.commit()
        assert await freezing == {intent.attempt}


async def test_an_intend_waits_for_the_freeze_before_it(database: str) -> None:
    async with hand(database) as mine, others(database) as (one, other):
        worker, [intent] = await ready(mine, 1)
        transaction = other.transaction()
        await transaction.start()
        assert await freezes.add(other, "source", "core", reason="", author="", now=mine.now)
        intending = asyncio.create_task(intends(one, worker, intent, mine))
        await waits_for_a_lock(mine, one)
        await transaction.commit()
        assert await intending == Intended(frozenset(), frozenset({intent.attempt}), frozenset())


async def test_two_intends_do_not_wait_for_each_other(database: str) -> None:
    async with hand(database) as mine, others(database) as (one, other):
        worker, (first, second) = await ready(mine, 2)
        transaction = one.transaction()
        await transaction.start()
        assert (await intend.intend(one, worker.id, [first], mine.now)).sendable
        assert (await asyncio.wait_for(intends(other, worker, second, mine), 5)).sendable
        await transaction.commit()


async def test_the_order_holds_whatever_the_server_calls_a_transaction(database: str) -> None:
    """Under REPEATABLE READ who has waited would not see what he has waited for."""
    async with hand(database) as mine, others(database, 1) as (other,):
        name = await mine.value("select current_database()")
        await mine.connection.execute(
            f"alter database \"{name}\" set default_transaction_isolation = 'repeatable read'"
        )
        ledger = Database(database, size=1, statement_timeout_ms=10_000)
        await ledger.open()
        try:
            async with ledger.connection() as connection:
                assert await connection.fetchval("show transaction_isolation") == "repeatable read"
                pid = connection.get_server_pid()
            worker, [intent] = await ready(mine, 1)
            transaction = other.transaction()
            await transaction.start()
            assert await freezes.add(other, "source", "core", reason="", author="", now=mine.now)
            intending = asyncio.create_task(
                ledger.transaction(lambda c: intend.intend(c, worker.id, [intent], mine.now))
            )
            async with asyncio.timeout(10):
                while not await mine.value("select count(*) from pg_locks where pid = $1 and not granted", pid):
                    await asyncio.sleep(0.005)
            await transaction.commit()
            assert (await intending).frozen == {intent.attempt}
        finally:
            await ledger.close()


async def waits_for_a_lock(hand: Hand, connection: Any) -> None:
    """Returns once the connection stands at a lock that somebody else has."""
    waiting = "select count(*) from pg_locks where pid = $1 and not granted"
    async with asyncio.timeout(10):
        while not await hand.value(waiting, connection.get_server_pid()):
            await asyncio.sleep(0.005)


# --- the race with the lock and without it ----------------------------------------------------------------------------


async def raced_at_the_worst_moment(dsn: str) -> tuple[Intended, bool]:
    """An intend that is held up between its look at the freezes and its write, and a freeze that comes just then.

    What intend says in the end, and whether the freeze had committed before.
    """
    async with hand(dsn) as mine, others(dsn) as (one, other):
        worker, [intent] = await ready(mine, 1)
        transaction = mine.connection.transaction()
        await transaction.start()
        await mine.connection.execute("select 1 from subject for update")  # the borrower is busy
        intending = asyncio.create_task(intends(one, worker, intent, mine))
        await waits_for_a_lock(mine, one)
        freezing = asyncio.create_task(freezes_source(other, mine))
        committed, _ = await asyncio.wait({freezing}, timeout=0.5)
        await transaction.commit()
        done = await intending
        await freezing
        return done, bool(committed)


async def test_a_freeze_cannot_come_between_the_look_and_the_write(database: str) -> None:
    done, committed = await raced_at_the_worst_moment(database)
    assert done.sendable
    assert not committed, "the freeze said it was in force, and something left"


async def test_without_the_lock_something_leaves_after_the_freeze(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the lock is for: the same race, lost."""
    monkeypatch.setattr(freezes, "_SHARED", NO_LOCK)
    monkeypatch.setattr(freezes, "_EXCLUSIVE", NO_LOCK)
    done, committed = await raced_at_the_worst_moment(database)
    assert done.sendable
    assert committed


# --- the command ------------------------------------------------------------------------------------------------------


def by_command(dsn: str, *, lift: bool = False) -> Coroutine[Any, Any, None]:
    """What `freeze source core` and `unfreeze source core` do."""
    config: Any = SimpleNamespace(
        database=SimpleNamespace(dsn=SecretStr(dsn), statement_cache=100),
        dispatch=SimpleNamespace(release_per_second=50.0),
    )
    name = brakes.Named("source", "core")
    return brakes._unfreeze(config, name, "why", "me") if lift else brakes._freeze(config, name, "why", "me", None)


@pytest.mark.parametrize("lift", [False, True], ids=["freeze", "unfreeze"])
async def test_the_command_waits_for_the_intends_under_way_and_later_ones_for_it(lift: bool, database: str) -> None:
    async with hand(database) as mine, others(database) as (one, other):
        worker, (first, second) = await ready(mine, 2)
        mine.now = await mine.value("select clock_timestamp()") + HOUR  # the command takes the database's time
        if lift:
            await freezes_source(other, mine)
        transaction = one.transaction()
        await transaction.start()
        done = await intend.intend(one, worker.id, [first], mine.now)
        assert bool(done.sendable) is not lift
        commanded = asyncio.create_task(by_command(database, lift=lift))
        at_the_freezes_lock = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        async with asyncio.timeout(10):
            while not await mine.value(at_the_freezes_lock):
                await asyncio.sleep(0.005)
        later = asyncio.create_task(intends(other, worker, second, mine))
        await waits_for_a_lock(mine, other)
        assert not commanded.done()
        await transaction.commit()
        await commanded
        assert bool((await later).frozen) is not lift
        acts = await mine.connection.fetch("select act, author from freeze_audit order by id desc limit 1")
        assert [tuple(each) for each in acts] == [("unfreeze" if lift else "freeze", "me")]


async def test_a_command_that_waits_too_long_says_so(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody sits on the lock: better a word than silence."""
    monkeypatch.setattr(brakes, "_SECONDS", 0.2)
    async with hand(database) as mine, others(database) as (one, _):
        transaction = one.transaction()
        await transaction.start()
        await freezes.read_shared(one, mine.now)
        with pytest.raises(typer.Exit) as ended:
            await by_command(database)
        await transaction.rollback()
        assert ended.value.exit_code == 1
        assert "(TimeoutError): `freezes` shows whether it is" in capsys.readouterr().err
        assert await freezes.in_force(mine.connection, mine.now) == []
