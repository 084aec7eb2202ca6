"""What processes do by themselves walks through no table that grows, even planned on a day when all were empty.

A plan is kept for minutes, and planned while a queue was empty it would compare every row with every input an hour
later.  So each is planned here where vacuum has just found everything empty, as the processes have it planned.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import asyncpg
import msgspec
import pytest

import gateway.ledger
from gateway.ledger import database as ledger_database
from gateway.ledger import schema

_STATEMENT: Final = re.compile(r"\s*(with|select|insert|update|delete)\b")
_SCANS: Final = {"Seq Scan", "Index Scan", "Index Only Scan"}

# They have a row for each worker, partition, source, lender or freeze.  `replan` is emptied in every round of recovery;
# whom it cannot plan waits in it, and taking one of its borrowers looks at all of them.
SMALL: Final = {
    "cadence_in_use", "call_centre", "fact_watermark", "freeze", "freeze_audit", "intake_count", "intake_offset",
    "manual_count", "planned_count", "relay_shard", "release_pace", "replan", "volume", "worker", "worker_number",
}  # fmt: skip
# Asked by people, or once in a life of a process; each is a page, or says that it counts everything.
BY_HAND: Final = {
    "deadletters",
    "evidence",
    "occasions",
    "redrives",
    "reminders",
    "reseal",
    "rest",
    "sums",
    "timeline",
    "unknowns",
}
# The first rows of an index, by a limit; and claims, of which there are as many as slots.
BOUNDED: Final = {
    ("frozen._HOLDERS", "frozen"), ("gauges._CLAIMS", "claim"), ("gauges._HELD", "subject"),
    ("gauges._HELD_BY_FREEZES", "frozen"), ("gauges._OUTBOX", "outbox"), ("gauges._PARKED", "parked"),
    ("gauges._STALE", "stale"), ("gauges._UNKNOWN", "unsettled"), ("stale._REACHED", "stale"),
    ("claims._HELD", "claim"), ("workers._DEAD", "claim"), ("workers._RETIRE", "claim"),
}  # fmt: skip
# Parts of statements.
PARTS: Final = {"freshness.TOLD", "intend._OK", "writing._COUNTS"}


def statements() -> Iterator[tuple[str, str]]:
    for module in pkgutil.iter_modules(gateway.ledger.__path__):
        if module.name in BY_HAND or module.ispkg:
            continue
        held = vars(importlib.import_module(f"gateway.ledger.{module.name}"))
        for name, value in held.items():
            if isinstance(value, str) and _STATEMENT.match(value) and f"{module.name}.{name}" not in PARTS:
                yield f"{module.name}.{name}", value


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def walked(plan: dict[str, Any]) -> set[str]:
    """Tables of which every row is looked at."""
    return {
        re.sub(r"_\d{8}$", "", each["Relation Name"])
        for each in nodes(plan)
        if each["Node Type"] in _SCANS and "Index Cond" not in each
    }


@pytest.fixture
async def empty(database: str) -> AsyncIterator[Any]:
    """A connection as the processes have theirs, to a ledger in which vacuum has found nothing."""
    await schema.migrate(database)
    connection = await asyncpg.connect(database)
    await connection.execute("vacuum analyze")
    for name, value in ledger_database.PLANNER.items():
        await connection.execute(f"set {name} = '{value}'")
    # A statement with parameters nobody has given can be explained by the simple protocol only.
    await connection.execute(
        "create function pg_temp.plan(q text) returns text language plpgsql as"
        " $$ declare r text; begin execute 'explain (generic_plan, format json) ' || q into r; return r; end $$"
    )
    yield connection
    await connection.close()


async def planned(connection: Any, sql: str) -> dict[str, Any]:
    [found] = msgspec.json.decode(await connection.fetchval("select pg_temp.plan($1)", sql))
    return dict(found["Plan"])


async def test_no_statement_walks_through_what_grows(empty: Any) -> None:
    found = {(name, table) for name, sql in statements() for table in walked(await planned(empty, sql)) - SMALL}
    assert found == BOUNDED


async def test_there_are_statements_of_everything_that_moves() -> None:
    rooms = {name.partition(".")[0] for name, _ in statements()}
    assert rooms >= {
        "accept", "claims", "fact_stops", "freshness", "intend", "matching", "merged", "merging", "moves", "outbox",
        "plans", "receipts", "releases", "situations", "stops", "streams", "subjects", "timers", "tombstones",
        "writing",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("select l.id from unnest($1::bigint[]) as i(id) join live l on l.id = i.id", "live"),
        ("select r.id from reminder r where r.template = $1", "reminder"),
        ("delete from merged m using live l where m.reminder = any($1::bigint[]) and l.id = m.leader", "merged"),
    ],
)
async def test_a_plain_join_is_found(empty: Any, sql: str, table: str) -> None:
    """As these statements once were."""
    assert table in walked(await planned(empty, sql))
