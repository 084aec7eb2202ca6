"""Outbox: events leave in (reminder, seq) order within a bucket, from one leased owner per shard of buckets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from gateway.ledger.database import Connection
from schemas.messages import CONTACTS, EVENTS_TOPIC

SHARDS: Final = 16
_BUCKETS_PER_SHARD: Final = 256 // SHARDS

# Shared among those who publish and whose heart has beaten lately.
_ACQUIRE: Final = """
update relay_shard set owner = $1, lease_until = clock_timestamp() + $2
where shard in (
    select shard from relay_shard where owner = $1 or lease_until < clock_timestamp()
    order by owner = $1 desc nulls last, shard
    limit (select ceil($3::numeric / greatest(count(*), 1)) from worker
           where relays and (id = $1 or lease_until > clock_timestamp() + $4::interval))
    for update skip locked
) returning shard
"""
# What is over the fair share is let go, so that a new process gets its part.
_RELEASE: Final = """
update relay_shard set owner = null, lease_until = '-infinity' where owner = $1 and not shard = any($2::smallint[])
"""
_FETCH: Final = """
select bucket, reminder, seq, id, topic, payload, type, traceparent from outbox
where bucket between $1 and $2 and not topic = any($4::text[]) order by bucket, reminder, seq, id limit $3
"""
_ADD: Final = """
insert into outbox (bucket, reminder, seq, id, topic, type, payload, traceparent)
select i.reminder & 255, i.reminder, 0, i.id, $4, $5, i.payload, i.traceparent
from unnest($1::bigint[], $2::bigint[], $3::bytea[], $6::text[]) as i(reminder, id, payload, traceparent)
on conflict do nothing
"""
# One index probe per event, whatever the statistics of this mostly empty table say.
_DELETE: Final = """
delete from outbox where ctid = any (array(
    select x.row from unnest($1::outbox_row[]) as i
    cross join lateral (
        select o.ctid as row from outbox o
        where o.bucket = i.bucket and o.reminder = i.reminder and o.seq = i.seq and o.id = i.id limit 1
    ) x))
"""


# The reminder it is keyed by, a unique id, the payload, the trace it goes on in.
Row: TypeAlias = tuple[int, int, bytes, str | None]


class Event(NamedTuple):
    """One event waiting to be published.  `payload` is its JSON without `seq`; what is no state has seq 0.

    `type` is its CloudEvents type where that is not the one its topic is for.  `traceparent` is the trace it goes on
    in: of a state that of the request, of an answer that of what it answers.
    """

    bucket: int
    reminder: int
    seq: int
    id: int
    topic: str
    payload: bytes
    type: str | None = None
    traceparent: str | None = None


async def add(connection: Connection, rows: Sequence[Row], type_: str | None = None) -> None:
    """Queues events without a `seq`, each id once."""
    if rows:
        await connection.execute(
            _ADD,
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
            EVENTS_TOPIC if type_ is None else CONTACTS,
            type_,
            [row[3] for row in rows],
        )


async def acquire(
    connection: Connection, worker: int, lease: dt.timedelta, alive_for: dt.timedelta = dt.timedelta(0)
) -> list[int]:
    """Leases this worker's fair share of shards, by the database's clock; returns the shards it owns.

    Others count as long as their worker lease lasts `alive_for` more: one that has missed its heartbeats does not.
    """
    shards = sorted(row[0] for row in await connection.fetch(_ACQUIRE, worker, lease, SHARDS, alive_for))
    await connection.execute(_RELEASE, worker, shards)
    return shards


async def release(connection: Connection, worker: int) -> None:
    await connection.execute(_RELEASE, worker, [])


def shard_of(bucket: int) -> int:
    return bucket // _BUCKETS_PER_SHARD


def bucket_ranges(shards: Iterable[int]) -> list[tuple[int, int]]:
    """Contiguous bucket ranges of the shards: each is one ordered index scan."""
    ranges: list[tuple[int, int]] = []
    for shard in sorted(shards):
        low, high = shard * _BUCKETS_PER_SHARD, (shard + 1) * _BUCKETS_PER_SHARD - 1
        if ranges and ranges[-1][1] == low - 1:
            ranges[-1] = (ranges[-1][0], high)
        else:
            ranges.append((low, high))
    return ranges


async def fetch(connection: Connection, low: int, high: int, limit: int, refused: Collection[str] = ()) -> list[Event]:
    """The first events of buckets `low`..`high`, in order, without those for the topics in `refused`."""
    return [Event(*row) for row in await connection.fetch(_FETCH, low, high, limit, list(refused))]


async def delete(connection: Connection, events: Sequence[Event]) -> None:
    """Removes published events."""
    await connection.execute(_DELETE, [(each.bucket, each.reminder, each.seq, each.id) for each in events])
