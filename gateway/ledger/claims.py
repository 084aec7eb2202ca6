"""Claim: due rows become this worker's, under a token that later guards the intent."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.ledger.database import Connection
from gateway.ledger.situations import LANE
from schemas.vocabulary import Channel, Lane

_CLAIM: Final = """
with alive as (
    select 1 from worker where id = $1 and lease_until > clock_timestamp()
), picked as (
    select ctid as row, lane, due_at, id from due
    where lane = $2 and due_at <= $3 and exists (select 1 from alive)
    order by due_at, id limit $4 for update skip locked
), gone as (
    delete from due where ctid = any (array(select row from picked))
), taken as (
    insert into claim (id, worker, lane, due_at, token) select p.id, $1, p.lane, p.due_at, $5 from picked p
)
select r.id, r.subject, r.lender, r.source, r.request_id, r.product, r.stage, r.template, r.lane, r.ladder, l.rung,
       l.attempts, l.tries, r.not_after, r.sealed, p.due_at
from picked p join live l on l.id = p.id join reminder r on r.id = p.id
order by p.due_at, p.id
"""

_OLDEST: Final = (
    "select lane, min(due_at), count(*) from (select lane, due_at from due where due_at <= $1) d group by lane"
)
_HELD: Final = "select id, token from claim where worker = $1"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A reminder in this worker's hands, with what it takes to decide, render and route."""

    id: int
    subject: bytes
    lender: str
    source: str
    request_id: str
    product: str | None
    stage: str
    template: str
    lane: Lane
    ladder: str
    rung: int
    attempts: int
    tries: int
    not_after: dt.datetime
    sealed: bytes = field(repr=False)
    due_at: dt.datetime
    token: int

    @property
    def channel(self) -> Channel:
        return _RUNG[self.ladder[self.rung]]


_RUNG: Final = {"s": Channel.SMS, "p": Channel.PUSH, "v": Channel.VOICE}


async def claim(
    connection: Connection, worker: int, lane: Lane, now: dt.datetime, limit: int, token: int
) -> list[Claimed]:
    """Up to `limit` rows due at business time `now`, oldest first.  Nothing for a worker whose lease ended.

    One statement, so it commits by itself.  If the answer is lost the rows are in nobody's memory: `forgotten` finds
    them.
    """
    rows = await connection.fetch(_CLAIM, worker, lane, now, limit, token)
    return [Claimed(*_fields(row, token)) for row in rows]


def _fields(row: Any, token: int) -> tuple[Any, ...]:
    return (*row[:8], LANE[row[8]], *row[9:], token)


async def held_by(connection: Connection, worker: int) -> dict[int, int]:
    """Token by reminder of every claim this worker has in the ledger."""
    return {row[0]: row[1] for row in await connection.fetch(_HELD, worker)}


async def waiting(connection: Connection, now: dt.datetime) -> dict[Lane, tuple[dt.datetime, int]]:
    """Per lane with overdue rows: the oldest due time and how many there are."""
    return {LANE[row[0]]: (row[1], row[2]) for row in await connection.fetch(_OLDEST, now)}
