"""Who is told of in whose message: one row per reminder that another one's message tells of, too.

A row outlasts the suppression of its reminder: a later contact of the leader tells of it again, and it is the evidence.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct, structs

from gateway.ledger import freshness
from gateway.ledger.database import Connection


class Slices(Struct, frozen=True):
    """What a freeze can name about a reminder that another one's message tells of: it leaves by that one's channel."""

    source: str
    lender: str
    product: str | None
    template: str
    stage: str

    @property
    def facts(self) -> dict[str, str | None]:
        return structs.asdict(self)


class Told(Struct, frozen=True):
    """A reminder whose message is another's, with its sealed facts as they are now; `along` when they stand in it.

    `fresh_at` is as of when these are known to be complete.  It `waits` until the other one has told somebody.
    """

    reminder: int
    sealed: bytes
    along: bool
    debt: str
    instalment: int
    stage: str
    slices: Slices
    occasion: str
    fresh_at: dt.datetime | None
    waits: bool


Row: TypeAlias = tuple[int, int, bool]  # reminder, leader, along

_JOIN: Final = """
insert into merged (reminder, leader, along) select * from unnest($1::bigint[], $2::bigint[], $3::boolean[])
on conflict (reminder) do update set leader = excluded.leader, along = excluded.along
"""
_LEAVE: Final = "delete from merged where reminder = any($1::bigint[]) returning leader"
_UNTELL: Final = """
delete from merged where ctid = any (array(
    select m.row from unnest($1::bigint[]) as i(id)
    cross join lateral (select m.ctid as row, m.leader from merged m where m.reminder = i.id offset 0) m
    cross join lateral (select 1 from live l where l.id = m.leader offset 0) l
)) returning leader
"""
_LET_GO: Final = """
delete from merged where ctid = any (array(
    select m.row from unnest($1::bigint[], $2::timestamptz[]) as i(leader, at)
    cross join lateral (select m.ctid as row, m.reminder from merged m where m.leader = i.leader offset 0) m
    cross join lateral (
        select 1 from live l where l.id = m.reminder and l.state = 'held' and l.reason = 'merged_into'
            and l.not_after <= coalesce(i.at, 'infinity') offset 0
    ) l
)) returning reminder
"""
_WAITING: Final = """
select distinct m.reminder from unnest($1::bigint[]) as i(leader)
cross join lateral (select m.reminder from merged m where m.leader = i.leader offset 0) m
cross join lateral (
    select 1 from live l where l.id = m.reminder and l.state = 'held' and l.reason = 'merged_into' offset 0
) l order by m.reminder
"""
_LEAVING: Final = """
select m.reminder from unnest($1::bigint[]) as i(id)
cross join lateral (select m.reminder, m.leader from merged m where m.reminder = i.id offset 0) m
cross join lateral (select 1 from live l where l.id = m.leader and l.state = 'sending' offset 0) l
"""
_LEADERS: Final = """
select distinct m.leader from unnest($1::bigint[]) as i(id)
cross join lateral (select m.leader from merged m where m.reminder = i.id offset 0) m order by m.leader
"""
_TOLD: Final = f"""
select m.leader, r.id, coalesce(v.sealed, r.sealed), m.along, r.debt, r.instalment, r.stage, r.occasion,
       (select max(f.fresh_at) from ({freshness.TOLD}) f), coalesce(l.lives, false),
       r.source, r.lender, r.product, r.template, r.stage
from (select distinct * from unnest($1::bigint[])) as i(leader)
cross join lateral (select * from merged m where m.leader = i.leader offset 0) m
cross join lateral (select * from reminder r where r.id = m.reminder offset 0) r
left join lateral (select true as lives from live l where l.id = m.reminder offset 0) l on true
left join lateral (select v.sealed from revision v where v.reminder = m.reminder offset 0) v on true
order by m.leader, m.reminder
"""  # noqa: S608  joins a constant of the ledger


async def join(connection: Connection, rows: Sequence[Row]) -> None:
    await connection.execute(_JOIN, *(list(column) for column in zip(*rows, strict=True)))


async def leave(connection: Connection, reminders: Collection[int]) -> list[int]:
    """These are told of by nobody else any more; returns who led them."""
    return [row[0] for row in await connection.fetch(_LEAVE, reminders)] if reminders else []


async def untell(connection: Connection, reminders: Collection[int]) -> list[int]:
    """No later message tells of these; returns who led them.  Of a leader that has ended the rows stay as evidence."""
    return [row[0] for row in await connection.fetch(_UNTELL, reminders)] if reminders else []


async def let_go(connection: Connection, leaders: Mapping[int, dt.datetime | None]) -> list[int]:
    """Those that still wait on these, and where a time is given cannot wait so long, are told of by nobody any more;
    returns them.
    """
    if not leaders:
        return []
    return [row[0] for row in await connection.fetch(_LET_GO, list(leaders), list(leaders.values()))]


async def waiting(connection: Connection, leaders: Collection[int]) -> list[int]:
    """Those that wait until somebody is told by one of these."""
    return [row[0] for row in await connection.fetch(_WAITING, leaders)] if leaders else []


async def leaving(connection: Connection, reminders: Collection[int]) -> frozenset[int]:
    """Those of these whose leader's message may be leaving in this moment."""
    return frozenset(row[0] for row in await connection.fetch(_LEAVING, reminders)) if reminders else frozenset()


async def leaders(connection: Connection, reminders: Collection[int]) -> list[int]:
    return [row[0] for row in await connection.fetch(_LEADERS, reminders)] if reminders else []


async def told(connection: Connection, leaders: Collection[int]) -> dict[int, list[Told]]:
    """By leader, the reminders whose contact is its own, too."""
    found: dict[int, list[Told]] = {}
    for row in await connection.fetch(_TOLD, leaders):
        leader, reminder, sealed, along, debt, instalment, stage, occasion, fresh_at, waits, *slices = row
        told = Told(reminder, sealed, along, debt, instalment, stage, Slices(*slices), occasion, fresh_at, waits)
        found.setdefault(leader, []).append(told)
    return found
