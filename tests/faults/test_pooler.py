"""Behind PgBouncer in transaction mode, by the documented configuration: sessions are nobody's for longer than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from gateway.cli import common
from gateway.ledger import freezes, schema, sums, workers
from gateway.ledger.database import Database, UnsafeDatabase
from tests.stack.pgbouncer import MISSING, PgBouncer, must_be_there

pytestmark = [
    pytest.mark.skipif(not must_be_there(), reason=MISSING),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pooler(postgres: Any) -> AsyncIterator[PgBouncer]:
    await postgres.heal()
    async with PgBouncer(postgres.dsn(), sessions=3) as running:
        yield running


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


async def test_what_people_ask_for_by_commands_is_done(
    database: str, pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command is a process of its own, with names for its statements that the one before had as well: a freeze
    must not fail of all things.
    """

    async def freeze(lender: str, cache: int = 0) -> bool:
        monkeypatch.setattr("asyncpg.connection._uid", 0)  # as in a process of its own
        settings = SimpleNamespace(dsn=SecretStr(pooler.dsn(database)), statement_cache=cache)
        config: Any = SimpleNamespace(database=settings)
        async with common.ledger(config) as connection:
            now = await workers.clock(connection)
            await freezes.in_force(connection, now)
            async with connection.transaction():
                return await freezes.add(connection, "lender", lender, reason="why", author="me", now=now)

    assert [await freeze(f"l{n}") for n in range(5)] == [True] * 5
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        for n in range(5, 10):
            await freeze(f"l{n}", cache=100)


async def test_the_books_are_counted_through_it(database: str, pooler: PgBouncer) -> None:
    """In one snapshot, each statement with its own limit."""
    settings = SimpleNamespace(dsn=SecretStr(pooler.dsn(database)), statement_cache=0)
    async with common.ledger(SimpleNamespace(database=settings)) as connection:  # type: ignore[arg-type]
        assert (await sums.conservation(connection, within=30)).gaps == []


async def test_a_pooler_that_drops_our_limits_is_refused(postgres: Any, database: str) -> None:
    """Without `connect_query` nobody would bound a statement, nor plan it as it was measured."""
    async with PgBouncer(postgres.dsn(), connect_query="select 1") as careless:
        ledger = Database(careless.dsn(database), size=2, statement_timeout_ms=5000, statement_cache=0)
        with pytest.raises(UnsafeDatabase, match=r"statement_timeout, lock_timeout.*enable_mergejoin"):
            await ledger.open()
        await ledger.close()
