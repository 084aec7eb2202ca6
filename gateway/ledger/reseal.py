"""Sealed values, found and replaced while others write: in batches by key, never waiting for a lock.

A value is `version | key id | …` (gateway/sealing.py), so that which key it needs can be asked without opening it.  No
index knows the key ids: every row with a sealed value is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.ledger.database import Connection


class Table(NamedTuple):
    """Its rows are walked in the order of (`scan`, `bound`), of which `scan` has an index; `bound` is in the seal."""

    name: str
    scan: str
    bound: str


# Every table with a column `sealed`; a test asks the database whether it is so.
TABLES: Final = (
    Table("reminder", "id", "id"),
    Table("decision", "reminder", "attempt"),
    Table("receipt", "id", "id"),
    Table("reply", "id", "id"),
    Table("deadletter", "id", "id"),
    Table("borrower_fact", "id", "id"),
    Table("debt_fact", "id", "id"),
    Table("revision", "reminder", "reminder"),
)

Position = tuple[int, int]
START: Final[Position] = (-(2**63), -(2**63))

# Of a value that is stored out of line, only its beginning is read.
_SEEN: Final = """
select {scan}, {bound}, substring(sealed from 1 for 5), octet_length(sealed) from {table}
where {scan} >= $1 and ({scan}, {bound}) > ($1, $2) and sealed is not null order by {scan}, {bound} limit $3
"""
_VALUES: Final = """
select k.scan, k.bound, t.sealed from unnest($1::bigint[], $2::bigint[]) as k(scan, bound)
cross join lateral (
    select sealed from {table} where {scan} = k.scan and {bound} = k.bound and sealed is not null limit 1
) t
"""
# Who holds a row goes on undisturbed, and a value that is no longer what was opened is not overwritten: the next pass
# looks at both again.
_REPLACE: Final = """
with free as materialized (
    select i.scan, i.bound, i.was, i.becomes
    from unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) as i(scan, bound, was, becomes)
    cross join lateral (
        select 1 from {table} where {scan} = i.scan and {bound} = i.bound and sealed = i.was
        limit 1 for no key update skip locked
    ) t
)
update {table} t set sealed = free.becomes from free
where t.{scan} = free.scan and t.{bound} = free.bound and t.sealed = free.was
returning 1
"""


class Seen(NamedTuple):
    """Where a sealed value stands, how it begins, and how long it is."""

    at: Position
    head: bytes
    size: int


class Replacement(NamedTuple):
    at: Position
    was: bytes
    becomes: bytes


async def seen(connection: Connection, table: Table, after: Position, limit: int) -> list[Seen]:
    """The next sealed values of a table."""
    rows = await connection.fetch(_sql(_SEEN, table), *after, limit)
    return [Seen((row[0], row[1]), row[2], row[3]) for row in rows]


async def values(connection: Connection, table: Table, at: Sequence[Position]) -> list[tuple[Position, bytes]]:
    """What stands there now; what is gone is left out."""
    rows = await connection.fetch(_sql(_VALUES, table), [each[0] for each in at], [each[1] for each in at])
    return [((row[0], row[1]), row[2]) for row in rows]


async def replace(connection: Connection, table: Table, replacements: Sequence[Replacement]) -> int:
    """How many were replaced: those that nobody held and that were still what they had been."""
    rows = await connection.fetch(
        _sql(_REPLACE, table),
        [each.at[0] for each in replacements],
        [each.at[1] for each in replacements],
        [each.was for each in replacements],
        [each.becomes for each in replacements],
    )
    return len(rows)


def _sql(template: str, table: Table) -> str:
    """Names of ours only."""
    return template.format(table=table.name, scan=table.scan, bound=table.bound)
