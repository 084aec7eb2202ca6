"""What is held for stale facts: a row for each place whose watermark would make them fresh again, beside its timer.

While no watermark moves these reminders cost nothing.  Whom a watermark has reached waits for his turn in `frozen`,
under no freeze, and leaves by the timetable of `releases`: after an outage of a source all are fresh at once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Final

from gateway.ledger import freezes, freshness, frozen
from gateway.ledger.database import Connection
from gateway.ledger.standing import Move, Situation
from schemas.vocabulary import Reason, ReminderState

_ENTER: Final = """
insert into stale (id, topic, source, partition, max_age, lane, at) select * from unnest($1::stale_row[])
on conflict (id, topic, source, partition) do nothing
"""
_LEAVE: Final = "delete from stale where id = any($1::bigint[])"
_AGES: Final = "select distinct id, max_age from stale where id = any($1::bigint[])"
# A step from place to place and age to age, whatever waits at each.
_REACHED: Final = """
with recursive place(topic, source, partition, max_age) as (
    (select topic, source, partition, max_age from stale order by topic, source, partition, max_age limit 1)
    union all
    select n.* from place p cross join lateral (
        select s.topic, s.source, s.partition, s.max_age from stale s
        where (s.topic, s.source, s.partition, s.max_age) > (p.topic, p.source, p.partition, p.max_age)
        order by s.topic, s.source, s.partition, s.max_age limit 1
    ) n
)
select p.topic, p.source, p.partition, p.max_age from place p
cross join lateral (
    select w.as_of from fact_watermark w
    where w.topic = p.topic and w.source = p.source and w.partition = p.partition offset 0
) w
where $1::timestamptz - w.as_of < p.max_age
"""
_TURN_OF: Final = """
with gone as (
    delete from stale where id = any($1::bigint[]) returning id, lane, at
)
insert into frozen (id, held_by, lane, at) select distinct on (id) id, $2::bigint, lane, at from gone
on conflict (id) do nothing
"""
_TURN: Final = """
with picked as (
    select s.id, s.lane, s.at
    from unnest($1::text[], $2::text[], $3::int[], $4::interval[]) as p(topic, source, partition, max_age)
    cross join lateral (
        select s.id, s.lane, s.at from stale s
        where s.topic = p.topic and s.source = p.source and s.partition = p.partition and s.max_age = p.max_age
        order by s.lane, s.at, s.id limit $5 for update skip locked
    ) s
), gone as (
    delete from stale where id = any (array(select id from picked))
)
insert into frozen (id, held_by, lane, at) select distinct on (id) id, $6::bigint, lane, at from picked
on conflict (id) do nothing
"""


async def note(connection: Connection, moves: Sequence[Move]) -> None:
    """Keeps the rows in step with these moves; no statement where nothing is or was stale.

    The rows in `frozen` go after those here, for `turn` locks them in that order.
    """
    if leaving := [move.was.id for move in moves if is_stale(move.was)]:
        await connection.execute(_LEAVE, leaving)
        await frozen.leave(connection, leaving)
    if entering := [move for move in moves if move.queue is not None and is_stale(move)]:
        await _enter(connection, entering)


def is_stale(each: Move | Situation) -> bool:
    return each.state is ReminderState.HELD and each.reason is Reason.STALE_FACTS


async def _enter(connection: Connection, entering: Sequence[Move]) -> None:
    known = await freshness.of(connection, [move.was.id for move in entering])
    rows = [
        (move.was.id, *place, move.max_fact_age, move.was.lane, move.resume_at or move.now)
        for move in entering
        for place in sorted(known[move.was.id].places)
    ]
    await connection.execute(_ENTER, rows)


async def ages(connection: Connection, reminders: Collection[int]) -> dict[int, dt.timedelta]:
    """How old the facts of those that are held here may be."""
    return {row[0]: row[1] for row in await connection.fetch(_AGES, list(reminders))}


async def turn_of(connection: Connection, reminders: Sequence[int]) -> None:
    """These have been told of: they wait for their turn.  The caller holds the borrowers' locks."""
    await connection.execute(_TURN_OF, reminders, freezes.OF_NONE)


async def turn(connection: Connection, now: dt.datetime, limit: int = 500) -> bool:
    """Whom watermarks have reached waits for his turn, up to `limit` of each place and age; whether there may be more.

    Repeatable by any number of processes.  It takes no borrower's lock: who waits for his turn is looked at again under
    that, and what is stale again by then is held again.
    """
    reached = await connection.fetch(_REACHED, now)
    if not reached:
        return False
    columns = [list(column) for column in zip(*reached, strict=True)]
    done = await connection.execute(_TURN, *columns, limit, freezes.OF_NONE)
    return int(done.rsplit(" ", 1)[1]) >= limit
