"""Freezes: slices of the work that must not leave.  Rows, so they hold across restarts and replicas.

Ordered with intend by a transaction-level advisory lock: intend and intake share it, freeze and unfreeze exclude.
So a freeze that has committed is seen by every later intend.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.ledger.database import Connection

_LOCK_KEY: Final = 7_214_002
_SHARED: Final = f"select pg_advisory_xact_lock_shared({_LOCK_KEY})"
_EXCLUSIVE: Final = f"select pg_advisory_xact_lock({_LOCK_KEY})"
_READ: Final = 'select kind, value from "freeze" where until is null or until > $1'
_ADD: Final = """
insert into "freeze" (kind, value, reason, author, created_at, until) values ($1, $2, $3, $4, $5, $6)
on conflict on constraint freeze_once do update set reason = excluded.reason, author = excluded.author,
    created_at = excluded.created_at, until = excluded.until
    where "freeze".until <= excluded.created_at
returning id
"""
_REMOVE: Final = 'delete from "freeze" where kind = $1 and value = $2 returning id'
# What a source sent before is no reason to freeze it again the moment somebody has lifted it.
_FORGET: Final = "delete from source_health where source = $1"


@dataclass(frozen=True, slots=True)
class Freezes:
    """The freezes in force at one moment."""

    slices: frozenset[tuple[str, str]]

    def covers(self, facts: Mapping[str, str | None]) -> bool:
        """Whether anything with these facts (kind -> value) must not leave."""
        if not self.slices:
            return False
        return ("all", "*") in self.slices or any(
            (kind, value) in self.slices for kind, value in facts.items() if value is not None
        )


async def read_shared(connection: Connection, now: dt.datetime) -> Freezes:
    """Takes the shared lock until the transaction ends, then reads: nothing can be frozen behind our back."""
    await connection.execute(_SHARED)
    return await read(connection, now)


async def read(connection: Connection, now: dt.datetime) -> Freezes:
    return Freezes(_slices(await connection.fetch(_READ, now)))


def _slices(rows: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    return frozenset((row[0], row[1]) for row in rows)


async def add(
    connection: Connection,
    kind: str,
    value: str,
    *,
    reason: str,
    author: str,
    now: dt.datetime,
    until: dt.datetime | None = None,
) -> bool:
    """Freezes a slice, for every intend after the commit; False when it is frozen already.  One that is over counts no
    more."""
    await connection.execute(_EXCLUSIVE)
    return await connection.fetchval(_ADD, kind, value, reason, author, now, until) is not None


async def remove(connection: Connection, kind: str, value: str) -> bool:
    """Lifts a freeze; False when there was none."""
    await connection.execute(_EXCLUSIVE)
    if kind == "source":
        await connection.execute(_FORGET, value)
    return await connection.fetchval(_REMOVE, kind, value) is not None
