"""A failover to a standby that had not heard of the last commits: what was promised on them is gone, and that shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from tests.faults.harness import Stand, eventually, fresh_topics, stand
from tests.faults.scenarios.ground import Ground, log_of, measured
from tests.stack.gateway import requested
from tests.stack.postgres import PostgresServer

BEFORE: Final = range(8)
LOST: Final = range(100, 108)
AFTER: Final = range(200, 208)


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """On a server of its own, because it loses everybody's commits: all of the last `seconds`, at least.

    Nothing can be done about what had left: the ledger no longer knows of it, and is asked for it again by Kafka.  What
    the gateway owes is to say so, to read again what was lost instead of going on behind the gap, and to lose nothing
    by itself.
    """
    async with PostgresServer() as server:
        dsn = server.dsn(await server.fresh_database())
        topics = await fresh_topics(ground.kafka)
        async with stand(dsn, ground.kafka.bootstrap, topics, ground.home) as here:
            await here.up()
            await sent(here, BEFORE)
            await server.keep()
            await here.gateway.ready(60)
            await sent(here, LOST)
            await asyncio.sleep(seconds)
            pid = here.gateway.child.pid
            await server.go_back()
            assert await here.value("select count(*) from reminder") == len(BEFORE)

            # Without one new record: what was lost is read again all the same.
            await eventually(lambda: ended(here, len(BEFORE) + len(LOST)), 60, here.gateway.child.tail)
            await sent(here, AFTER)
            assert (here.gateway.child.alive, here.gateway.child.pid) == (True, pid)
            [lost] = [line for line in log_of(here.gateway) if line["event"] == "commits_lost"]
            assert (lost["level"], lost["records"]) == ("error", len(LOST))
            assert await measured(here.gateway, "commits_lost_total") == 1
            return await reported(here)


async def reported(here: Stand) -> Mapping[str, Any]:
    """The judge's word: each of them left twice, once by what the ledger has forgotten, and nothing else is wrong."""
    report = await here.check()
    broken = report.broken("I3")
    markers = {what.partition(":")[0] for what in broken if " while " in what}
    assert markers == {f"M-{number}" for number in LOST}, report
    assert sum("left without an intent" in what for what in broken) == len(LOST), report
    assert sum("which does not exist" in what for what in report.broken("I4")) == len(LOST), report
    # No record is lost, none counts twice, and what had been committed before stands.
    assert len(report.violations) == 3 * len(LOST), report
    assert report.endings == {"delivered": len(BEFORE) + len(LOST) + len(AFTER)}, report
    return {"commits_lost_of": len(LOST), "reported": len(report.violations), "sent_twice": len(markers)}


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


async def ended(here: Stand, n: int) -> bool:
    return bool(await here.value("select count(*) from ending") == n)
