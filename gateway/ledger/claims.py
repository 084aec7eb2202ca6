"""Claim: due rows become this worker's, under a token that later guards the intent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct

from gateway.ledger import freshness
from gateway.ledger.database import Connection
from gateway.ledger.situations import LANE, REASON
from gateway.ledger.standing import LADDER_CHANNEL
from schemas.vocabulary import Channel, Lane, Reason

Place: TypeAlias = tuple[dt.datetime, int]  # in a lane's queue: when it is due, and its id
FRONT: Final[Place] = (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), 0)

# Urgent first; bulk takes what is left of the limit, and no more than its own.
_CLAIM: Final = f"""
with alive as (
    select 1 from worker where id = $1 and lease_until > clock_timestamp()
), urgent as (
    select ctid as row, lane, due_at, id from due
    where lane = 'urgent' and due_at <= $2 and (due_at, id) >= ($6, $7) and exists (select 1 from alive)
    order by due_at, id limit $3 for update skip locked
), bulk as (
    select ctid as row, lane, due_at, id from due
    where lane = 'bulk' and due_at <= $2 and (due_at, id) >= ($8, $9) and exists (select 1 from alive)
    order by due_at, id limit least($4, $3 - (select count(*) from urgent)) for update skip locked
), picked as (
    select * from urgent union all select * from bulk
), gone as (
    delete from due where ctid = any (array(select row from picked))
), taken as (
    insert into claim (id, worker, lane, due_at, token) select p.id, $1, p.lane, p.due_at, $5 from picked p
)
select r.id, r.subject, r.lender, r.source, r.request_id, r.product, r.stage, r.template, r.lane, r.ladder, l.rung,
       l.attempts, l.tries, r.not_after, coalesce(v.sealed, r.sealed), p.due_at, l.closed,
       r.traceparent, l.occasion, t.fresh_at, r.borrower, r.debt, r.instalment
from picked p
cross join lateral (select * from live l where l.id = p.id offset 0) l
cross join lateral (select * from reminder r where r.id = p.id offset 0) r
left join lateral (select v.sealed from revision v where v.reminder = p.id offset 0) v on true
left join lateral (
    select max(f.fresh_at) as fresh_at from ({freshness.TOLD}) f where l.occasion is not null
) t on true
order by p.lane, p.due_at, p.id
"""  # noqa: S608  joins constants of ours

_OLDEST: Final = (
    "select lane, min(due_at), count(*) from (select lane, due_at from due where due_at <= $1) d group by lane"
)
_HELD: Final = "select id, token from claim where worker = $1"


class Claimed(Struct, frozen=True, gc=False):
    """A reminder in this worker's hands, with what it takes to decide, render and route.

    `fresh_at` is as of when what is known of its debt was complete when it was claimed; of what is planned only.
    """

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
    sealed: bytes
    due_at: dt.datetime
    token: int
    closed: Reason | None = None
    traceparent: str | None = None
    occasion: str | None = None
    fresh_at: dt.datetime | None = None
    borrower: str = ""
    debt: str = ""
    instalment: int | None = None

    def __repr__(self) -> str:
        return f"Claimed({self.id}, {self.stage}, {self.ladder}, {self.rung})"

    @property
    def channel(self) -> Channel:
        return LADDER_CHANNEL[self.ladder[self.rung]]

    def facts(self, provider: str | None) -> dict[str, str | None]:
        """What a freeze can name about this contact."""
        return {
            "source": self.source,
            "lender": self.lender,
            "product": self.product,
            "stage": self.stage,
            "template": self.template,
            "channel": self.channel,
            "provider": provider,
        }


async def claim(
    connection: Connection,
    worker: int,
    now: dt.datetime,
    limit: int,
    of_bulk: int,
    token: int,
    since: Mapping[Lane, Place] | None = None,
) -> list[Claimed]:
    """Up to `limit` rows due at business time `now`, urgent ones first, then the oldest; `of_bulk` at most of bulk.

    Of a lane that has a place in `since` none before it: what is gone stays in the index until vacuum has been, and a
    look from the front passes all of it.  Nothing for a worker whose lease ended.

    One statement, so it commits by itself.  If the answer is lost the rows are in nobody's memory: `forgotten` finds
    them.
    """
    since = since or {}
    places = (*since.get(Lane.URGENT, FRONT), *since.get(Lane.BULK, FRONT))
    rows = await connection.fetch(_CLAIM, worker, now, limit, of_bulk, token, *places)
    return [Claimed(*_fields(row, token)) for row in rows]


def _fields(row: Any, token: int) -> tuple[Any, ...]:
    return (*row[:8], LANE[row[8]], *row[9:16], token, REASON[row[16]], *row[17:23])


async def held_by(connection: Connection, worker: int) -> dict[int, int]:
    """Token by reminder of every claim this worker has in the ledger."""
    return {row[0]: row[1] for row in await connection.fetch(_HELD, worker)}


async def waiting(connection: Connection, now: dt.datetime) -> dict[Lane, tuple[dt.datetime, int]]:
    """Per lane with overdue rows: the oldest due time and how many there are."""
    return {LANE[row[0]]: (row[1], row[2]) for row in await connection.fetch(_OLDEST, now)}
