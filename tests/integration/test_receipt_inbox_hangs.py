"""A Postgres that is frozen, with its connections open: providers are answered in time, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.integration.inbox_by_hand import bench, receipt

ANSWER_SECONDS = 0.5
SLACK = 1.0  # of a machine that does other things as well


@pytest.mark.parametrize("n", [20, 300])
async def test_a_frozen_postgres_keeps_nobody_waiting(n: int, database: str, postgres: Any) -> None:
    """`keep` raises within the time a group may take and those behind it may wait; a repeat after it is kept."""
    async with bench(database, sweeps=False, answer_seconds=ANSWER_SECONDS) as it:
        sendings = await it.accepted(n)
        [another] = await it.accepted(1)
        assert await it.keep(receipt(another), replay="before")  # a connection is open, and idle
        postgres.pause()
        began = time.monotonic()
        calls = [asyncio.create_task(it.keep(receipt(each), replay=str(each.attempt))) for each in sendings]
        try:
            await asyncio.wait(calls, timeout=20)
            took = time.monotonic() - began
        finally:
            postgres.resume()
        told = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, Exception) for each in told), set(told)
        assert took < 2 * ANSWER_SECONDS + SLACK

        await asyncio.gather(*[kept_in_the_end(it, each) for each in sendings])
        await it.inbox.start()
        await it.swept()
        assert await it.hand.value("select count(*) from ending where state = 'delivered'") == n + 1
        assert await it.counts() == (n + 1, 0)


async def kept_in_the_end(it: Any, sending: Any) -> None:
    """The provider repeats until it is told that it was heard."""
    for _ in range(50):
        try:
            await it.keep(receipt(sending), replay=str(sending.attempt))
        except Exception:
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError("never kept")
