"""What `show` asks is found by indexes, whatever the tables hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.ledger import timeline
from gateway.ledger.database import Database
from tests.integration.inbox_by_hand import bench, receipt

FEW = {"freeze"}  # as many rows as people have ever frozen something


class Listening:
    """A connection that remembers what it is asked."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.asked: dict[str, tuple[Any, ...]] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)
        if name not in ("fetch", "fetchrow", "fetchval"):
            return method

        def ask(sql: str, *args: Any) -> Any:
            self.asked[sql] = args
            return method(sql, *args)

        return ask


def scanned(plan: Any) -> Iterator[str]:
    """The tables that are read from one end to the other."""
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from scanned(part)


async def plan_of(connection: Any, sql: str, args: tuple[Any, ...]) -> Any:
    told = await (await connection.prepare(sql)).explain(*args)
    return (json.loads(told) if isinstance(told, str) else told)[0]["Plan"]


@pytest.mark.parametrize("lives", [True, False])
async def test_no_statement_reads_a_table_that_grows(lives: bool, database: str) -> None:
    async with bench(database) as it:
        [mine] = await it.accepted(1)
        if not lives:
            await it.keep(receipt(mine))
        ledger = Database(database, size=1, statement_timeout_ms=10_000)
        await ledger.open()
        try:
            async with ledger.connection() as connection:
                heard: Any = Listening(connection)
                told = await timeline.read(heard, mine.request.id, it.hand.now)
                assert told is not None
                assert len(heard.asked) > 12
                for sql, args in heard.asked.items():
                    assert set(scanned(await plan_of(connection, sql, args))) <= FEW, sql
                # The judge of the above: without its index it would be found.
                await connection.execute("drop index provider_ref_attempt")
                plans = [await plan_of(connection, sql, args) for sql, args in heard.asked.items()]
                assert "provider_ref" in {table for plan in plans for table in scanned(plan)}
        finally:
            await ledger.close()
