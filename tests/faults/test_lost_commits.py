"""A failover to a standby that had not heard of the last commits: what was promised on them is gone, and that shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.harness import Stand, eventually, fresh_topics, stand
from tests.faults.scenarios.ground import log_of, measured
from tests.stack.gateway import requested
from tests.stack.postgres import PostgresServer

BEFORE, LOST, AFTER = range(8), range(100, 108), range(200, 208)


@pytest_asyncio.fixture
async def asynchronous() -> AsyncIterator[PostgresServer]:
    """A server of its own: it loses everybody's commits."""
    async with PostgresServer() as server:
        yield server


@pytest.mark.timeout(240)
async def test_commits_that_a_failover_lost_are_seen_by_the_gateway_and_by_the_judge(
    asynchronous: PostgresServer, kafka: Any, tmp_path: Path, summary: Any
) -> None:
    """Nothing can be done about what had left: the ledger no longer knows of it, and is asked for it again by Kafka.

    What the gateway owes is to say so, to read again what was lost instead of going on behind the gap, and to lose
    nothing by itself.
    """
    dsn = asynchronous.dsn(await asynchronous.fresh_database())
    topics = await fresh_topics(kafka)
    async with stand(dsn, kafka.bootstrap, topics, tmp_path) as here:
        await here.up()
        await sent(here, BEFORE)
        await asynchronous.keep()
        await recovered(here)
        await sent(here, LOST)
        pid = here.gateway.child.pid
        await asynchronous.go_back()
        assert await here.value("select count(*) from reminder") == len(BEFORE)

        # Without one new record: what was lost is read again all the same.
        await eventually(lambda: reminders(here, len(BEFORE) + len(LOST)), 60, here.gateway.child.tail)
        await sent(here, AFTER)
        assert (here.gateway.child.alive, here.gateway.child.pid) == (True, pid)
        [lost] = [line for line in log_of(here.gateway) if line["event"] == "commits_lost"]
        assert lost["level"] == "error"
        assert lost["records"] == len(LOST)
        assert await measured(here.gateway, "commits_lost_total") == 1

        report = await here.check()
        summary("commits lost by a failover", "\n".join(map(str, report.violations)))
        # Each of them was sent twice: once by what the ledger has forgotten, and once again.
        twice = [f"M-{number}" for number in LOST]
        assert {
            marker for marker in twice if any(what.startswith(f"{marker}:") for what in report.broken("I3"))
        } == set(twice), report
        assert sum("left without an intent" in what for what in report.broken("I3")) == len(LOST), report
        assert sum("which does not exist" in what for what in report.broken("I4")) == len(LOST), report
        # And nothing else: no record is lost, none counts twice, what had been committed before stands.
        assert not report.broken("I1") + report.broken("I2") + report.broken("I8") + report.broken("I9"), report
        assert len(report.violations) == 3 * len(LOST), report
        assert report.endings == {"delivered": len(BEFORE) + len(LOST) + len(AFTER)}, report


async def sent(here: Stand, numbers: range) -> None:
    """Requests, from Kafka to their receipts and to the last event."""
    before = await here.value("select count(*) from ending")
    await here.world.publish([requested(number) for number in numbers])

    async def done() -> bool:
        [row] = await here.fetch(
            "select (select count(*) from ending) as ended, (select count(*) from outbox) as outbox"
        )
        return bool(row["ended"] >= before + len(numbers) and row["outbox"] == 0)

    await eventually(done, 60, here.gateway.child.tail)


async def reminders(here: Stand, n: int) -> bool:
    return bool(await here.value("select count(*) from ending") == n)


async def recovered(here: Stand) -> None:
    await here.gateway.ready(60)
