"""Dead letters: the reason and origin in clear, the bytes sealed, one event each; and each source's health."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from gateway.ids import to_reference
from gateway.ledger.commands import Letter
from gateway.ledger.database import Connection
from gateway.ledger.pages import LOOKED_AT, Page, Range
from schemas.messages import DEADLETTERS_TOPIC, DeadLetter

_WRITE: Final = """
with i as (
    select * from unnest(
        $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::bytea[], $9::bytea[],
        $12::bytea[], $13::text[]
    ) as t(id, reason, field, source, topic, partition, "offset", sealed, event, hash, traceparent)
), kept as (
    insert into deadletter (id, reason, field, source, topic, partition, "offset", hash, at, sealed)
    select i.id, i.reason, i.field, i.source, i.topic, i.partition, i."offset", i.hash, $10, i.sealed from i
    on conflict on constraint deadletter_once do nothing returning id
), told as (
    insert into outbox (bucket, reminder, seq, id, topic, payload, traceparent)
    select i.id & 255, i.id, 0, i.id, $11, i.event, i.traceparent from i join kept using (id)
)
select id from kept
"""

_HEALTH: Final = """
insert into source_health as h (source, since, records, deadletters)
select source, $4, records, deadletters from unnest($1::text[], $2::bigint[], $3::bigint[])
    as t(source, records, deadletters)
on conflict (source) do update set
    since = case when h.since < $5 then $4 else h.since end,
    records = excluded.records + case when h.since < $5 then 0 else h.records end,
    deadletters = excluded.deadletters + case when h.since < $5 then 0 else h.deadletters end
returning source, records, deadletters
"""

_COLUMNS: Final = """
d.id, d.reason, d.field, d.source, d.topic, d.partition, d."offset", d.at, octet_length(d.sealed), r.at, r.author,
r.outcome, r.reminder, r.lifted
"""
# Which of a page's letters are meant.
_WHICH: Final = """
($3::text is null or d.reason = $3) and ($4::text is null or d.source = $4) and ($5::text is null or d.topic = $5)
and (not $6 or r.letter is null)
"""
_FLOOR: Final = "select id from deadletter where id >= $1 and id < $2 order by id desc offset $3 limit 1"
_NEWEST: Final = f"""
select {_COLUMNS} from deadletter d left join redrive r on r.letter = d.id
where d.id >= $1 and d.id < $2 and {_WHICH} order by d.id desc limit $7
"""  # noqa: S608  joins constants of this file
_CEILING: Final = "select id from deadletter where id >= $1 and id < $2 order by id offset $3 limit 1"
_OLDEST: Final = f"""
select d.id from deadletter d left join redrive r on r.letter = d.id
where d.id >= $1 and d.id < $2 and {_WHICH} order by d.id limit $7
"""  # noqa: S608
_ONE: Final = f"select {_COLUMNS} from deadletter d left join redrive r on r.letter = d.id where d.id = $1"  # noqa: S608
_SEALED: Final = """
select id, reason, source, topic, partition, "offset", sealed from deadletter where id = any($1::bigint[]) order by id
"""

_encode = msgspec.json.Encoder().encode


async def write(connection: Connection, letters: Sequence[Letter], now: dt.datetime) -> frozenset[int]:
    """Keeps each letter once per origin and tells about it once; returns the ids of those that are new."""
    rows = await connection.fetch(
        _WRITE,
        [each.id for each in letters],
        [each.reason for each in letters],
        [each.field_name for each in letters],
        [each.source for each in letters],
        [each.origin.topic for each in letters],
        [each.origin.partition for each in letters],
        [each.origin.offset for each in letters],
        [each.sealed for each in letters],
        [_encode(_event(each)) for each in letters],
        now,
        DEADLETTERS_TOPIC,
        [each.fingerprint for each in letters],
        [each.traceparent for each in letters],
    )
    return frozenset(row[0] for row in rows)


def _event(letter: Letter) -> DeadLetter:
    return DeadLetter(
        reason=letter.reason,
        topic=letter.origin.topic,
        partition=letter.origin.partition,
        offset=letter.origin.offset,
        pointer=to_reference(letter.id),
        at=letter.at,
        field=letter.field_name,
    )


async def health(
    connection: Connection, read: Mapping[str, tuple[int, int]], now: dt.datetime, window: dt.timedelta
) -> dict[str, tuple[int, int]]:
    """Adds (records, dead letters) per source; returns the sums since the window began."""
    sources = sorted(read)
    rows = await connection.fetch(
        _HEALTH, sources, [read[each][0] for each in sources], [read[each][1] for each in sources], now, now - window
    )
    return {row[0]: (row[1], row[2]) for row in rows}


# --- for people -------------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A dead letter in clear: nothing of its content.  What begins with `redriven` is None while it is one."""

    id: int
    reason: str
    field: str | None
    source: str | None
    topic: str
    partition: int
    offset: int
    at: dt.datetime
    size: int
    redriven_at: dt.datetime | None
    redriven_by: str | None
    redriven_as: str | None
    reminder: int | None
    lifted: bool | None


@dataclass(frozen=True, slots=True)
class Which:
    """Which letters are meant: all of these, where they are given."""

    reason: str | None = None
    source: str | None = None
    topic: str | None = None
    left: bool = False  # those that nobody has redriven


async def newest(connection: Connection, within: Range, which: Which, limit: int) -> Page[Kept]:
    """The newest letters of a range of ids, newest first."""
    floor = await connection.fetchval(_FLOOR, within.low, within.high, LOOKED_AT)
    low = within.low if floor is None else floor + 1
    rows = await connection.fetch(_NEWEST, low, within.high, *_filters(which), limit)
    return Page([Kept(*row) for row in rows], limit, None if floor is None else low)


async def oldest(connection: Connection, within: Range, which: Which, limit: int) -> Page[int]:
    """The ids of the oldest letters of a range, oldest first."""
    ceiling = await connection.fetchval(_CEILING, within.low, within.high, LOOKED_AT)
    high = within.high if ceiling is None else ceiling
    rows = await connection.fetch(_OLDEST, within.low, high, *_filters(which), limit)
    return Page([row[0] for row in rows], limit, None if ceiling is None else high)


def _filters(which: Which) -> tuple[str | None, str | None, str | None, bool]:
    return which.reason, which.source, which.topic, which.left


async def one(connection: Connection, letter: int) -> Kept | None:
    row = await connection.fetchrow(_ONE, letter)
    return None if row is None else Kept(*row)


class SealedLetter(NamedTuple):
    """A letter's record, sealed, and what stands beside it in clear."""

    id: int
    reason: str
    source: str | None
    topic: str
    partition: int
    offset: int
    sealed: bytes


async def sealed(connection: Connection, letters: Collection[int]) -> list[SealedLetter]:
    """The letters that exist, oldest first."""
    return [SealedLetter(*row) for row in await connection.fetch(_SEALED, list(letters))]
