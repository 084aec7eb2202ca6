"""Ten SIGKILLs at random moments under load, each with something in flight; then the judge, and every move counted."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.ledger import freezes
from tests.faults import tables
from tests.faults.harness import Stand, eventually, stand
from tests.faults.in_flight import kill_in_flight
from tests.faults.load import FROZEN_SOURCE, KINDS, Load, heal, script
from tests.faults.witness import Moves

SEED = 20261124
KILLS = 10
BURST = 40

# What this load must bring about.  The other moves of the tables need a coincidence that nobody can order here (a
# receipt that overtakes our own record, or comes after a lease has ended, a delivery after a failure, a worker that
# comes back from the dead);
# tests/integration/test_every_move.py makes every one of the tables on purpose.
REQUIRED_REMINDERS: dict[str, set[str]] = {
    "": {"scheduled", "held", "suppressed", "cancelled"},
    "scheduled": {"scheduled", "held", "sending", "cancelled", "expired"},
    "held": {"scheduled", "cancelled", "expired"},
    "sending": {"scheduled", "awaiting", "undelivered", "suppressed"},
    "awaiting": {"awaiting", "scheduled", "delivered", "undelivered", "unconfirmed"},
    "unconfirmed": {"delivered", "undelivered"},
}
REQUIRED_ATTEMPTS: dict[str, set[str]] = {
    "": {"intended"},
    "intended": {"not_sent", "rejected", "unknown", "accepted"},
    "unknown": {"unconfirmed"},
    "accepted": {"sent", "delivered", "undelivered", "answered", "busy", "declined", "unconfirmed"},
    "sent": {"delivered", "undelivered", "unconfirmed"},
    "unconfirmed": {"delivered", "undelivered"},
}


@pytest.mark.timeout(420)
async def test_ten_random_kills(database: str, kafka: Any, topics: Any, tmp_path: Path, summary: Any) -> None:
    chance = random.Random(SEED)
    load = Load(SEED)
    options: dict[str, Any] = {"script": script(SEED), "receipts": {"retry_scale": 0.05}}
    async with stand(database, kafka.bootstrap, topics, tmp_path, **options) as here:
        await here.up()
        await freeze(here, load)
        hit: Counter[str] = Counter()
        for kill in range(KILLS):
            await here.world.publish(load.burst(BURST))
            await asyncio.sleep(chance.uniform(0.0, 1.5))
            states = await kill_in_flight(here, load)
            hit += states
            summary("states hit by random kills", f"kill {kill + 1}: {spelled(states)}")
            if kill == KILLS // 2:
                await by_hand(
                    here,
                    lambda c: freezes.lift(
                        c, "source", FROZEN_SOURCE, reason="test", author="test", now=dt.datetime.now(dt.UTC)
                    ),
                )
            await here.up()
            if kill in (3, 7):
                here.world.simulator.refuse(1.5)  # nobody listens: proof that no byte left
        summary("states hit by random kills", f"all {KILLS}: {spelled(hit)}")
        await here.world.publish(load.burst(2 * KINDS))  # every kind once more, now that nobody is killed
        await heal(here, load)
        report = await here.check()
        summary("after the random kills", report)
        assert not report.violations, report
        assert not missing(report.reminder_moves, REQUIRED_REMINDERS, tables.REMINDERS)
        assert not missing(report.attempt_moves, REQUIRED_ATTEMPTS, tables.ATTEMPTS)


def missing(found: Moves, required: dict[str, set[str]], table: tables.Table) -> list[tuple[str, str]]:
    """Required moves that were never made.  Raises AssertionError when a required move is not documented."""
    for was, becomes in required.items():
        # A birth or a stay is no edge of an attempt's ranks, but of a reminder it is.
        assert becomes <= table[was], (was, becomes - table[was])
    return [(was, to) for was, becomes in required.items() for to in sorted(becomes) if not found[was, to]]


async def freeze(here: Stand, load: Load) -> None:
    """A source is frozen: what is there is held when its time comes, what comes is born held."""
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=4)
    stopped = load.frozen(1)
    await here.world.publish(load.frozen(3, send_at=soon.isoformat()))
    await eventually(lambda: _is(here, "select count(*) from reminder", 3))
    now = dt.datetime.now(dt.UTC)
    await by_hand(here, lambda c: freezes.add(c, "source", FROZEN_SOURCE, reason="test", author="test", now=now))
    short = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=15)
    await here.world.publish([*load.frozen(2), *load.frozen(2, not_after=short.isoformat()), *stopped])
    await eventually(lambda: _is(here, "select count(*) from live where state = 'held'", 8))
    await here.world.publish([load.stop_of(stopped[0])])


async def by_hand(here: Stand, work: Callable[[Any], Awaitable[bool]]) -> None:
    """What an operator does, in the order of the freezes' own lock."""
    connection = await asyncpg.connect(here.world.dsn)
    try:
        async with connection.transaction():
            assert await work(connection)
    finally:
        await connection.close()


def spelled(states: Counter[str]) -> str:
    return ", ".join(f"{state} {n}" for state, n in sorted(states.items()))


async def _is(here: Stand, sql: str, n: int) -> bool:
    return bool(await here.value(sql) == n)
