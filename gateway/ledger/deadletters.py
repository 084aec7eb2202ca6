"""Dead letters: the reason and origin in clear, the bytes sealed, one event each; and each source's health."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.ids import to_reference
from gateway.ledger.commands import Letter
from gateway.ledger.database import Connection
from schemas.messages import DEADLETTERS_TOPIC, DeadLetter

_WRITE: Final = """
with i as (
    select * from unnest(
        $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::bytea[], $9::bytea[],
        $12::bytea[]
    ) as t(id, reason, field, source, topic, partition, "offset", sealed, event, hash)
), kept as (
    insert into deadletter (id, reason, field, source, topic, partition, "offset", hash, at, sealed)
    select i.id, i.reason, i.field, i.source, i.topic, i.partition, i."offset", i.hash, $10, i.sealed from i
    on conflict on constraint deadletter_once do nothing returning id
), told as (
    insert into outbox (bucket, reminder, seq, id, topic, payload)
    select i.id & 255, i.id, 0, i.id, $11, i.event from i join kept using (id)
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
