"""Behind PgBouncer in transaction mode, by the documented configuration: sessions are nobody's for longer than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from gateway.ledger import schema
from gateway.ledger.database import Database, UnsafeDatabase
from tests.faults.harness import Stand, eventually, stand
from tests.faults.load import Load, heal, script
from tests.faults.scenarios.ground import log_of
from tests.faults.test_random_kills import kill_in_flight
from tests.stack.pgbouncer import PgBouncer, must_be_there

SEED = 20261130
WHY = "PgBouncer is missing and cannot be fetched here: nothing is tried behind it"
pytestmark = [
    pytest.mark.skipif(not must_be_there(), reason=WHY),
    pytest.mark.asyncio(loop_scope="module"),
]
POOLED: dict[str, Any] = {"database": {"statement_cache": 0}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pooler(postgres: Any) -> AsyncIterator[PgBouncer]:
    await postgres.heal()
    async with PgBouncer(postgres.dsn(), sessions=3) as running:
        yield running


@pytest.mark.timeout(240)
async def test_killed_and_cut_off_behind_it(
    database: str, pooler: PgBouncer, kafka: Any, topics: Any, tmp_path: Path, summary: Any
) -> None:
    """Three sessions for two gateways of ten connections each: whatever lasts longer than a transaction gets lost.

    Kills, and its own restart: leases, fences and the relay have to hold as they do without it.
    """
    load = Load(SEED)
    options: dict[str, Any] = {"script": script(SEED), "receipts": {"retry_scale": 0.05}}
    async with stand(database, kafka.bootstrap, topics, tmp_path, POOLED, **options) as here:
        pooled = pooler.dsn(database)
        assert pooled != database
        other = here.twin("other")
        other.spawn(GATEWAY_DATABASE_DSN=pooled)
        await here.up(GATEWAY_DATABASE_DSN=pooled)
        await other.ready()
        await here.world.publish(load.burst(30))
        await kill_in_flight(here, load)
        await here.up(GATEWAY_DATABASE_DSN=pooled)
        await here.world.publish(load.burst(30))
        await eventually(lambda: some_attempts(here))
        await pooler.restart()
        await here.gateway.ready(60)
        await other.ready(60)
        await here.world.publish(load.burst(30))
        await heal(here, load)
        report = await here.check()
        summary("behind PgBouncer", report)
        assert not report.violations, report
        assert await direct(here) == 0, "somebody went around the pooler"
        # What a shared session breaks, it breaks loudly: a statement that nobody has prepared, or somebody else has.
        wrong = [
            line
            for line in [*log_of(here.gateway), *log_of(other)]
            if any(name in str(line) for name in ("InvalidSQLStatementName", "DuplicatePreparedStatement"))
        ]
        assert wrong == []


async def some_attempts(here: Stand) -> bool:
    return bool(await here.value("select count(*) from attempt") >= 20)


async def direct(here: Stand) -> int:
    """Sessions in the database beside the pooler's three and the one that asks."""
    sql = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    return max(int(await here.value(sql)) - 3, 0)


async def test_the_schema_is_migrated_through_it(postgres: Any, pooler: PgBouncer) -> None:
    dsn = await postgres.create_database("migrated_by_pooler")
    try:
        assert await schema.migrate(pooler.dsn(dsn)) == schema.head()
        assert await schema.migrate(pooler.dsn(dsn)) == schema.head()
    finally:
        await postgres.drop_database("migrated_by_pooler")


async def test_statements_alone_reach_one_session_each(database: str, pooler: PgBouncer) -> None:
    """Five hundred at once over ten connections and three sessions: each gets the answer to its own question."""
    ledger = Database(pooler.dsn(database), size=10, statement_timeout_ms=5000, statement_cache=0)
    await ledger.open()

    async def ask(n: int) -> int:
        async with ledger.connection() as connection:
            return int(await connection.fetchval(f"select $1::int + {n % 7}", n))

    try:
        assert await asyncio.gather(*map(ask, range(500))) == [n + n % 7 for n in range(500)]
    finally:
        await ledger.close()


async def test_with_a_cache_it_does_not_work(database: str, pooler: PgBouncer) -> None:
    """Why `statement_cache: 0` is documented: a prepared statement stays in the session that the next one gets."""
    ledger = Database(pooler.dsn(database), size=10, statement_timeout_ms=5000, statement_cache=100)

    async def ask(n: int) -> int:
        async with ledger.connection() as connection:
            return int(await connection.fetchval(f"select $1::int + {n % 7}", n))

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        try:
            await ledger.open()
            await asyncio.gather(*map(ask, range(500)))
        finally:
            await ledger.close()


async def test_a_pooler_that_drops_our_limits_is_refused(postgres: Any, database: str) -> None:
    """Without `connect_query` nobody would bound a statement, nor plan it as it was measured."""
    async with PgBouncer(postgres.dsn(), connect_query="select 1") as careless:
        ledger = Database(careless.dsn(database), size=2, statement_timeout_ms=5000, statement_cache=0)
        with pytest.raises(UnsafeDatabase, match=r"statement_timeout, lock_timeout.*enable_mergejoin"):
            await ledger.open()
        await ledger.close()
