"""Where intake stands, stored in the same transaction as what it read.  A zombie owner finds its records below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.ledger.database import Connection

_LOCK: Final = """
select topic, partition, next from intake_offset
where topic = $1 and partition = any($2::int[]) order by partition for no key update
"""
_STORE: Final = """
update intake_offset o set next = i.next, updated_at = clock_timestamp()
from unnest($2::int[], $3::bigint[]) as i(partition, next)
where o.topic = $1 and o.partition = i.partition and o.next < i.next
"""
_READ: Final = "select partition, next from intake_offset where topic = $1 and partition = any($2::int[])"
_RESET: Final = """
insert into intake_offset (topic, partition, first, next) values ($1, $2, $3, $3)
on conflict (topic, partition) do update set
    -- next - first stays the number of records read
    first = intake_offset.first + $3 - intake_offset.next, next = $3, updated_at = clock_timestamp()
where intake_offset.next = $4
"""
_COUNT: Final = """
insert into intake_count (topic, partition, outcome, n)
select $1, * from unnest($2::int[], $3::text[], $4::bigint[])
on conflict (topic, partition, outcome) do update set n = intake_count.n + excluded.n
"""
_COUNTS: Final = "select topic, partition, outcome, n from intake_count"


class CommitsLost(RuntimeError):
    """The ledger stands before what it had committed: a failover has lost commits.  Nothing was written."""


async def lock(connection: Connection, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Locks the partitions' rows until the transaction ends; returns the next offset of each that has a row."""
    rows = await connection.fetch(_LOCK, topic, sorted(partitions))
    return {row[1]: row[2] for row in rows}


async def store(connection: Connection, topic: str, following: Mapping[int, int]) -> None:
    """Moves the next offsets up, never down."""
    partitions = sorted(following)
    await connection.execute(_STORE, topic, partitions, [following[each] for each in partitions])


async def read(connection: Connection, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    return {row[0]: row[1] for row in await connection.fetch(_READ, topic, list(partitions))}


async def reset(connection: Connection, topic: str, partition: int, following: int, found: int | None) -> None:
    """Sets the offset where the log allows; a no-op when another owner moved it away from `found` meanwhile."""
    await connection.execute(_RESET, topic, partition, following, found)


async def count(connection: Connection, topic: str, outcomes: Mapping[tuple[int, str], int]) -> None:
    """Adds what became of the records read: the SQL term of the conservation sums."""
    keys = sorted(outcomes)
    await connection.execute(
        _COUNT, topic, [key[0] for key in keys], [key[1] for key in keys], [outcomes[key] for key in keys]
    )


async def counts(connection: Connection) -> list[tuple[str, int, str, int]]:
    """(topic, partition, outcome, how many) since the beginning."""
    return [tuple(row) for row in await connection.fetch(_COUNTS)]


def lost(stored: Mapping[int, int], known: Mapping[int, int]) -> int:
    """How many offsets the ledger has forgotten: `known` are the next offsets that it had told us, or committed to us.

    Whoever else owns the partitions meanwhile moves them up only, and a row that is gone was lost as well.
    """
    return sum(max(next_ - stored.get(partition, 0), 0) for partition, next_ in known.items())
