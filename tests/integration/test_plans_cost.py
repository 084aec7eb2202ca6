"""A claim of what is planned, and the search for its company, go by indexes, whatever the tables hold."""

from __future__ import annotations

from typing import Any

from gateway.ledger import claims, merging
from tests.integration.plans_by_hand import plans
from tests.integration.test_timeline_cost import Listening, plan_of, scanned
from tests.unit.cadence.facts import at, planned

NOON = at("2026-12-03", "14:00")
FEW = {"worker", "fact_watermark"}  # as many rows as processes, and as sources have partitions


async def test_no_statement_reads_a_table_that_grows(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned(debt="loan-1"), planned(debt="loan-2"))
        worker = await it.hand.worker()
        heard: Any = Listening(it.hand.connection)
        claimed = await claims.claim(heard, worker.id, NOON, 10, 10, it.ids.next(0))
        assert len(claimed) == 2
        one = claimed[0]
        assert await merging.company(heard, {one.id: (one.subject, at("2026-12-04", "00:00"))}) == {one.subject}
        assert len(heard.asked) == 2
        # So few rows are read whole, if they may be.
        await it.hand.connection.execute("set enable_seqscan = off")
        for sql, args in heard.asked.items():
            assert set(scanned(await plan_of(it.hand.connection, sql, args))) <= FEW, sql
        # The judge of the above: without its index it would be found.
        await it.hand.connection.execute("drop index live_subject")
        found = [await plan_of(it.hand.connection, sql, args) for sql, args in heard.asked.items()]
        assert "live" in {table for each in found for table in scanned(each)}
