"""What can be counted in the ledger at a fixed cost.  The conservation sums, a full count, are in `sums`.

Nothing here counts over messages while the service runs: a gauge looks at no more than `CAP` rows of an index, whatever
waits in the queue.  Beyond the cap a depth reads `CAP` and an age is that of the oldest among the rows looked at.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.ledger.database import Connection
from gateway.ledger.freezes import FreezeKind
from gateway.ledger.situations import LANE
from schemas.vocabulary import Lane

CAP: Final = 10_001
GONE_AFTER: Final = dt.timedelta(days=30)  # a source that has been silent for longer is missed no more


class ReadOutcome(StrEnum):
    """What became of a record that intake read; the outcomes of `intake_count`."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    DEADLETTER = "deadletter"
    COMMAND = "command"  # cancels, and requests that were only validated
    SKIPPED = "skipped"  # no record: an offset of a transaction's mark, or of what one took back or compaction removed


# Each order is that of an index, mostly the primary key's: it makes the planner walk an index, never a table full of
# dead rows.
# `CAP` is written out: the planner would take the limit for a large one if it were a parameter.
_DUE: Final = """
select l.lane,
       (select count(*) from (
            select from due d where d.lane = l.lane and d.due_at <= $1 order by d.due_at, d.id limit 10001) as first),
       (select min(d.due_at) from due d where d.lane = l.lane and d.due_at <= $1)
from unnest(enum_range(null::lane)) as l(lane)
"""
_CLAIMS: Final = "select count(*) from (select from claim order by id limit 10001) as first"
_UNKNOWN: Final = """
select count(*), min(since) from (select since from unsettled order by since, id limit 10001) as first
"""
# Outbox rows carry the database's own time, so their age is measured by it.
_OUTBOX: Final = """
select count(*), extract(epoch from clock_timestamp() - min(at))::float
from (select at from outbox order by bucket, reminder, seq, id limit 10001) as first
"""
_PARKED: Final = """
select count(*), min(sweep_at) from (select sweep_at from parked order by sweep_at, receipt limit 10001) as first
"""
_HELD: Final = """
select count(*) from (select from subject where unreadable_stop_at is not null order by key limit 10001) as first
"""
_HELD_BY_FREEZES: Final = "select count(*) from (select from frozen order by id limit 10001) as first"
_STALE: Final = """
select count(distinct id) from (select id from stale order by id, topic, source, partition limit 10001) as first
"""
# As many rows as there are sources and partitions.
_SILENT: Final = """
select min(as_of) from (select as_of, beats from fact_watermark limit 10001) as first where beats and as_of > $1
"""
# As many rows as there are partitions and outcomes.
# In one statement, so of one moment: what the offsets say and what was counted must be the same number at any time.
_READ: Final = """
select null, coalesce(sum(next - first), 0)::bigint from intake_offset
union all select outcome, sum(n)::bigint from intake_count group by outcome
"""
# As many rows as worker numbers and shards of the relay: 64 and 16.
_WORKERS: Final = "select count(*) from worker where lease_until > clock_timestamp()"
_UNOWNED: Final = "select count(*) from relay_shard where lease_until < clock_timestamp()"
_FROZEN: Final = """
select kind, count(*) from (select kind from "freeze" where until is null or until > $1 limit 10001) as first
group by kind
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many rows wait (at most `CAP`), and for how many seconds the oldest has waited; 0 when none does."""

    rows: int = 0
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The gauges at one moment, of the whole ledger: every process reads the same.

    `parked` are receipts that wait for their attempt or for a calmer moment; its age is how overdue the first one is.
    `held_borrowers` are those of whom a stop could not be read; `frozen_reminders` those that a freeze holds, or
    has held until their turn comes.  `passed` and `outcomes` are terms of the sums, both of one moment.  `workers` are
    processes whose lease stands; of `unowned_shards` nobody publishes the events.  `stale_reminders` wait for facts;
    `silence` is the age of the oldest watermark of a source that sends heartbeats.
    """

    due: Mapping[Lane, Backlog]
    claims: int
    unknown: Backlog
    outbox: Backlog
    frozen: Mapping[FreezeKind, int]
    parked: Backlog = Backlog()
    held_borrowers: int = 0
    frozen_reminders: int = 0
    passed: int = 0
    outcomes: Mapping[ReadOutcome, int] = field(default_factory=dict)
    workers: int = 0
    unowned_shards: int = 0
    stale_reminders: int = 0
    silence: float = 0.0


async def read(connection: Connection, now: dt.datetime) -> Reading:
    """Reads every gauge at business time `now`."""
    due = {LANE[row[0]]: Backlog(row[1], _age(now, row[2])) for row in await connection.fetch(_DUE, now)}
    claims = await connection.fetchval(_CLAIMS)
    unknown, since = await connection.fetchrow(_UNKNOWN)
    unpublished, age = await connection.fetchrow(_OUTBOX)
    frozen = {FreezeKind(row[0]): row[1] for row in await connection.fetch(_FROZEN, now)}
    parked, sweep_at = await connection.fetchrow(_PARKED)
    read = {row[0]: row[1] for row in await connection.fetch(_READ)}
    passed = read.pop(None, 0)
    return Reading(
        due,
        claims,
        Backlog(unknown, _age(now, since)),
        Backlog(unpublished, max(age or 0.0, 0.0)),
        frozen,
        Backlog(parked, _age(now, sweep_at)),
        await connection.fetchval(_HELD),
        await connection.fetchval(_HELD_BY_FREEZES),
        passed,
        {ReadOutcome(outcome): n for outcome, n in read.items()},
        await connection.fetchval(_WORKERS),
        await connection.fetchval(_UNOWNED),
        await connection.fetchval(_STALE),
        _age(now, await connection.fetchval(_SILENT, now - GONE_AFTER)),
    )


def _age(now: dt.datetime, oldest: dt.datetime | None) -> float:
    return 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0)
