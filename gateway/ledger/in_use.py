"""The versions of cadences that plans run by, and what these say: for a process that was not given their files."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from gateway.ledger.database import Connection


class Used(NamedTuple):
    """`says` is None where only a process of a version before has kept it."""

    cadence: str
    version: int
    says: bytes | None


_KNOWN: Final = "select cadence, version from cadence_in_use"
_READ: Final = "select cadence, version, says from cadence_in_use order by cadence, version"
_KEEP: Final = """
insert into cadence_in_use (cadence, version, says) select * from unnest($1::text[], $2::int[], $3::bytea[])
on conflict do nothing
"""
_ADD: Final = """
update cadence_in_use u set says = i.says from unnest($1::text[], $2::int[], $3::bytea[]) as i(cadence, version, says)
where u.cadence = i.cadence and u.version = i.version and u.says is null
"""


async def known(connection: Connection) -> frozenset[tuple[str, int]]:
    return frozenset((row[0], row[1]) for row in await connection.fetch(_KNOWN))


async def read(connection: Connection) -> list[Used]:
    return [Used(*row) for row in await connection.fetch(_READ)]


async def keep(connection: Connection, used: Iterable[Used]) -> None:
    """What is there already stays as it is.  In the order of its key: two that keep the same wait in one order only."""
    if rows := sorted(used):
        await connection.execute(_KEEP, *_columns(rows))


async def add(connection: Connection, used: Collection[Used]) -> None:
    """Adds what versions say that are there without it."""
    if used:
        await connection.execute(_ADD, *_columns(used))


def _columns(used: Iterable[Used]) -> list[list[object]]:
    return [list(column) for column in zip(*used, strict=True)]
