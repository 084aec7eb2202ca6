"""The borrower's lock.  Every move of a reminder happens under it, always taken in key order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from gateway.ledger.database import Connection

_LOCK = """
select key, unreadable_stop_at is not null as held from subject
where key = any($1::bytea[]) order by key for no key update
"""

# Sorted by the caller: two transactions that insert the same new subjects wait for each other in one order only.
_INSERT = """
insert into subject (key, lender, borrower)
select * from unnest($1::bytea[], $2::text[], $3::text[]) on conflict (key) do nothing
"""

_OF_REMINDERS = "select distinct subject from reminder where id = any($1::bigint[])"

_HOLD_KEYS = "update subject set unreadable_stop_at = $2 where key = any($1::bytea[])"
# Of requests that were taken, by their keys.
_OF_REQUESTS = """
select i.key, r.subject from unnest($1::bytea[]) as k(key)
cross join lateral (select * from inbox i where i.key = k.key offset 0) i
cross join lateral (select r.subject from reminder r where r.id = i.reminder offset 0) r
"""
_CLEAR = "update subject set unreadable_stop_at = null where key = $1 and unreadable_stop_at is not null returning 1"


async def lock(connection: Connection, keys: Iterable[bytes]) -> frozenset[bytes]:
    """Locks the subjects until the transaction ends; returns those under a stop we could not read."""
    wanted = sorted(set(keys))
    if not wanted:
        return frozenset()
    return frozenset(row[0] for row in await connection.fetch(_LOCK, wanted) if row[1])


async def create(connection: Connection, subjects: Sequence[tuple[bytes, str, str]]) -> None:
    """Makes missing subjects of (key, lender, borrower ref), in key order."""
    ordered = sorted(set(subjects))
    await connection.execute(_INSERT, *(list(column) for column in zip(*ordered, strict=True)))


async def lock_reminders(connection: Connection, reminders: Sequence[int]) -> None:
    """Locks the subjects behind these reminders.  A reminder's subject never changes, so it may be read before."""
    await lock(connection, [row[0] for row in await connection.fetch(_OF_REMINDERS, list(reminders))])


async def of_requests(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Whose the requests are that were taken under these keys.  That never changes, so it may be read before a lock."""
    return {row[0]: row[1] for row in await connection.fetch(_OF_REQUESTS, list(keys))}


async def hold(connection: Connection, keys: Sequence[bytes], at: dt.datetime) -> None:
    """Notes a stop that could not be read.  The caller holds the locks."""
    await connection.execute(_HOLD_KEYS, list(keys), at)


async def clear(connection: Connection, key: bytes) -> bool:
    """Lifts the hold; False when there was none."""
    return await connection.fetchval(_CLEAR, key) is not None
