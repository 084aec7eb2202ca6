"""The way to Postgres: a bounded pool, asserted session settings, and transactions that may be repeated.

asyncpg: every acquire has a timeout, one connection serves one task.  Postgres: a lost COMMIT is ambiguous, so
everything run through `Database.transaction` is repeatable by key.

A pooler in transaction mode hands every transaction to another session.  With `statement_cache=0` nothing of ours lasts
longer than that: no prepared statement, and no statement outside a transaction, whose two halves (asyncpg prepares,
then executes) would reach two sessions.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg

T = TypeVar("T")
# asyncpg ships no types; a name of our own keeps signatures readable.
Connection: TypeAlias = Any

# SQLSTATE classes after which the same transaction may simply be run again.
_RETRY_CLASSES: Final = ("08", "40", "53", "57")
_RETRY_STATES: Final = (
    "55P03",  # a lock is not available
    "25P03",  # idle in transaction for too long
    "25P04",  # in a transaction for too long
    "25006",  # a server that only reads: whoever has it has not yet followed a failover
)

# Whoever vanished in the middle of a request is not idle for Postgres, and no statement of his runs out: he would keep
# his locks for hours.  Keepalives find it where the network is gone; from 17 on, so does a bound on the transaction.
_KEEPALIVES: Final = "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3"
_BOUNDS_TRANSACTIONS: Final = 17
_STATEMENTS_IN_A_TRANSACTION: Final = 6  # in times of the longest statement

_TIMEOUTS: Final = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
# Every statement is a handful of key look-ups driven by its input arrays: joins in the order they are written, planned
# once, and never a scan because a queue happened to be empty when it was vacuumed.  These settings are half of it; the
# other half is that each look-up is a lateral subquery with `limit 1` or `offset 0`, which stays one.
PLANNER: Final = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "join_collapse_limit": "1",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class UnsafeDatabase(RuntimeError):
    """The database would break the promise; the message says which setting and what it must be."""


class Conflict(RuntimeError):
    """Another transaction was first.  Nothing was kept; the same work, run again, sees the new state."""


ISOLATION: Final = "read_committed"


def is_misfit(error: BaseException) -> bool:
    """Whether a value of ours does not fit its type: asyncpg sees that before Postgres does."""
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)


def worth_repeating(error: BaseException) -> bool:
    """Whether the error says nothing about our data: connection, lock, resource and shutdown errors."""
    if isinstance(error, Conflict):
        return True
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in _RETRY_CLASSES or state in _RETRY_STATES
    if is_misfit(error):
        return False
    # asyncpg raises InterfaceError when a connection died under it, and when the pool is closing.
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError)


class OneByOne:
    """A connection behind a pooler: a statement that stands alone is a transaction, for it has two halves, and they
    must not reach two sessions.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)
        if name not in ("execute", "fetch", "fetchrow", "fetchval"):
            return method

        async def alone(*args: Any, **options: Any) -> Any:
            if self._connection.is_in_transaction():
                return await method(*args, **options)
            async with self._connection.transaction(isolation=ISOLATION):
                return await method(*args, **options)

        return alone


class Database:
    """A pool with bounded waits.  Start with `open`, end with `close` (bounded too)."""

    def __init__(self, dsn: str, *, size: int, statement_timeout_ms: int, statement_cache: int = 256) -> None:
        self._dsn = dsn
        self._size = size
        self._statement_timeout_ms = statement_timeout_ms
        self._statement_cache = statement_cache
        self._shared = statement_cache == 0  # sessions are not ours alone
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Connects.  Raises UnsafeDatabase when a session would not be durable or the server is too old."""
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=1,
            max_size=self._size,
            init=_prepare_shared if self._shared else _prepare,
            reset=_nothing_to_reset,
            **self._connect_options(),
        )

    def log_in_as(self, dsn: str) -> None:
        """New connections are made with this address, which leads to the same database; those that stand stay."""
        self._dsn = dsn
        if self._pool is not None:
            self._pool.set_connect_args(dsn, **self._connect_options())

    def _connect_options(self) -> dict[str, Any]:
        timeout = str(self._statement_timeout_ms)
        return {
            "command_timeout": self._statement_timeout_ms / 1000 + 2,
            "timeout": 10,
            "statement_cache_size": self._statement_cache,
            "server_settings": {
                "application_name": "reminder-gateway",
                **dict.fromkeys(_TIMEOUTS, timeout),
                "timezone": "UTC",
                **PLANNER,
            },
        }

    async def close(self, within: float = 5.0) -> None:
        """Closes what is idle and cuts off what is not, within so many seconds."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), within)
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """For statements that stand alone."""
        async with self._acquired() as connection:
            yield OneByOne(connection) if self._shared else connection

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            raise asyncpg.InterfaceError("the pool is not open")
        async with self._pool.acquire(timeout=5) as connection:
            yield connection

    def connections(self) -> tuple[int, int]:
        """How many connections of the pool are busy and idle."""
        if self._pool is None:
            return 0, 0
        idle = self._pool.get_idle_size()
        return self._pool.get_size() - idle, idle

    async def transaction(self, work: Callable[[Connection], Awaitable[T]], *, attempts: int = 3) -> T:
        """Runs `work` in one READ COMMITTED transaction, again after errors that say nothing about the data.

        Whatever the server's default is: who has waited for a lock must see what its owner has committed.

        `work` must be repeatable: it may run, and even commit, more than once.
        """
        for attempt in range(1, attempts + 1):
            try:
                async with self._acquired() as connection, connection.transaction(isolation=ISOLATION):
                    return await work(connection)
            except Exception as error:
                if attempt == attempts or not worth_repeating(error):
                    raise
                await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311  jitter, not a secret
        raise AssertionError("unreachable")

    async def rehearse(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` would come to now: it is run as by `transaction`, and then taken back."""

        async def and_back(connection: Connection) -> T:
            raise _TakenBack(await work(connection))

        try:
            await self.transaction(and_back)
        except _TakenBack as back:
            result: T = back.args[0]
            return result
        raise AssertionError("unreachable")

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *args)
            return rows


class _TakenBack(Exception):
    """Carries the result out of a transaction that is rolled back."""


async def _nothing_to_reset(connection: Connection) -> None:
    """No statement of ours leaves session state behind, and the pool's own reset costs a round trip per use."""


# asyncpg looks a type up when a statement first needs it, at some 5 ms of Postgres each: all of them at once cost a
# tenth.  What the list lacks is looked up later.
_ROW_TYPES: Final = (
    "advanced_row", "attempt_row", "born_row", "disposed_row", "ended_row", "inbox", "intended_row", "kept_row",
    "outbox_row", "provider_ref", "stage_key", "lane",
)  # fmt: skip
_PLAIN_TYPES: Final = ("bytea", "bigint", "integer", "smallint", "text", "timestamptz", "jsonb")


async def _prepare(connection: Connection) -> None:
    await _assert_safe(connection)
    bound = ""
    if connection.get_server_version().major >= _BOUNDS_TRANSACTIONS:
        longest = await connection.fetchval("select setting::bigint from pg_settings where name = 'statement_timeout'")
        bound = f"; set transaction_timeout = {longest * _STATEMENTS_IN_A_TRANSACTION}"
    await connection.execute(_KEEPALIVES + bound)
    known = await connection.fetchval("select count(*) from pg_type where typname = any($1::text[])", _ROW_TYPES)
    if known >= len(_ROW_TYPES):  # not before the first migration
        types = [f"${n}::{name}[]" for n, name in enumerate((*_ROW_TYPES, *_PLAIN_TYPES), 1)]
        await connection.prepare(f"select {', '.join(types)}")


async def _prepare_shared(connection: Connection) -> None:
    """Nothing is prepared for a session that the next transaction may not get.

    A pooler may drop what is asked for when a connection is made, and take its own for every session: what is not in
    force is named here, and not found out under load.
    """
    async with connection.transaction():
        await _assert_safe(connection)
        rows = await connection.fetch(
            "select name, current_setting(name) from unnest($1::text[]) name", [*_TIMEOUTS, *PLANNER]
        )
    found = dict(rows)
    unbounded = [each for each in _TIMEOUTS if found[each] == "0"]
    other = [name for name, value in PLANNER.items() if found[name] != value]
    if unbounded or other:
        missing = ", ".join([*unbounded, *other])
        raise UnsafeDatabase(f"not in force behind the pooler: {missing}; see connect_query in docs/pgbouncer.md")


async def _assert_safe(connection: Connection) -> None:
    if connection.get_server_version().major < 14:
        raise UnsafeDatabase("Postgres 14 or newer is needed")
    durable = await connection.fetchval("select current_setting('synchronous_commit')")
    if durable == "off":
        raise UnsafeDatabase("synchronous_commit is off: an acknowledged row could be lost; set it to on")
