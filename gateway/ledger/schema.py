"""The schema: forward-only migrations, the version this code knows, and the weekly partitions.

Alembic is imported only where it migrates: a service that just checks the version starts a third sooner without it.
"""

from __future__ import annotations

import datetime as dt
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random

from gateway.ids import first_id_at
from gateway.ledger.database import Connection

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_MIGRATION_LOCK: Final = 7_214_001
# Whoever comes behind a migration that waits for a table waits with it: so it gives up soon, and comes again.
_LOCK_WAIT: Final = "2s"
_WEEK: Final = dt.timedelta(days=7)
# Indexes of tables that never stop growing: made beside whoever writes, which no transaction can.  A few pages each.
_INDEXES: Final = {
    # From an attempt to the provider's ids of it; ids come in the order of time, as rows do.
    "provider_ref_attempt": "provider_ref using brin (attempt) with (pages_per_range = 32, autosummarize = on)",
}
_UNFINISHED: Final = "select from pg_index where indexrelid = to_regclass($1) and not indisvalid"
# Partitions begin on Mondays; this one is before any id.
_FIRST_MONDAY: Final = dt.datetime(2024, 12, 30, tzinfo=dt.UTC)


class UnknownSchema(RuntimeError):
    """The database's schema is not the one this code was written for."""


def head() -> str:
    """The schema version this code knows: the last of the numbered migrations."""
    return max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))


async def migrate(dsn: str, patience: float = 60.0) -> str:
    """Brings the schema to `head()`, one migrator at a time, all or nothing.  Returns the version reached.

    Running processes are kept waiting for two seconds at a time while somebody holds a table that is to change; after
    `patience` seconds of that LockNotAvailableError is raised and nothing has changed.  Indexes that nothing depends on
    come afterwards, beside the traffic, and take as long as they take: who dies over one leaves it to the next run.
    """
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine

    # asyncpg reads the address itself: SQLAlchemy's own reading knows neither sslmode nor sslrootcert.  Statements have
    # names of their own and none is kept: behind a pooler the session may have other people's.
    options: dict[str, Any] = {"dsn": dsn, "statement_cache_size": 0, "prepared_statement_cache_size": 0}
    options["prepared_statement_name_func"] = lambda: f"migrate_{secrets.token_hex(8)}"
    engine = create_async_engine("postgresql+asyncpg://", connect_args=options)
    again = AsyncRetrying(
        # Several tables change: those who take them in another order may be in its way as it is in theirs.
        retry=retry_if_exception_type((asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)),
        wait=wait_random(0.2, 1.0),
        stop=stop_after_delay(patience),
        reraise=True,
    )
    try:
        await again(_migrate_once, engine)
        await _index(dsn)
    except DBAPIError as error:
        # As whoever reads the address himself has it; SQLAlchemy puts two of its own around what a server says.
        cause = error.orig and error.orig.__cause__
        raise (cause if isinstance(cause, asyncpg.PostgresError) else error) from None
    finally:
        await engine.dispose()
    return head()


async def _migrate_once(engine: AsyncEngine) -> None:
    from sqlalchemy import text

    async with engine.begin() as connection:
        await connection.execute(text(f"select pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        await connection.execute(text(f"set local lock_timeout = '{_LOCK_WAIT}'"))
        await connection.run_sync(_upgrade)
        raw = await connection.get_raw_connection()
        await ensure_partitions(raw.driver_connection, dt.datetime.now(dt.UTC))


async def _index(dsn: str) -> None:
    """It waits for whoever is in the middle of something, and nobody waits for it."""
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        for name, of in _INDEXES.items():
            async with connection.transaction():  # behind a pooler a question of two halves needs one
                unfinished = await connection.fetchrow(_UNFINISHED, name) is not None
            if unfinished:
                await connection.execute(f"drop index concurrently if exists {name}")  # left by one that died over it
            await connection.execute(f"create index concurrently if not exists {name} on {of}")
    finally:
        await connection.close()


def _upgrade(connection: Any) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def run_script(name: str) -> None:
    """Runs one SQL file inside the migration's transaction.

    The driver is called directly because SQLAlchemy prepares every statement, and a prepared statement is a single one.
    """
    from alembic import op
    from sqlalchemy.util import await_only

    driver: Any = op.get_bind().connection.driver_connection
    await_only(driver.execute((_MIGRATIONS / "sql" / name).read_text()))


async def check(connection: Connection) -> None:
    """Raises UnknownSchema unless the database is exactly at `head()`."""
    found = None
    if await connection.fetchval("select to_regclass('alembic_version')") is not None:
        found = await connection.fetchval("select version_num from alembic_version")
    if found != head():
        raise UnknownSchema(
            f"the schema is at {found or 'nothing'}, this version needs {head()}: run `reminder-gateway migrate`"
        )


async def ensure_partitions(connection: Connection, now: dt.datetime, weeks_ahead: int = 5) -> list[str]:
    """Creates the weekly partitions of `reminder` from last week to `weeks_ahead`; returns the names it made.

    Attaches rather than creates in place: that takes a lock which running inserts do not wait for.
    """
    monday = _FIRST_MONDAY + ((now - _FIRST_MONDAY) // _WEEK) * _WEEK
    made = []
    for week in range(-1, weeks_ahead + 1):
        start = monday + week * _WEEK
        low, high = (first_id_at(int(moment.timestamp() * 1000)) for moment in (start, start + _WEEK))
        name = f"reminder_{start:%Y%m%d}"
        if await connection.fetchval("select to_regclass($1)", name) is not None:
            continue
        await connection.execute(
            f"create table {name} (like reminder including all, check (id >= {low} and id < {high}))"
        )
        await connection.execute(f"alter table reminder attach partition {name} for values from ({low}) to ({high})")
        made.append(name)
    return made
