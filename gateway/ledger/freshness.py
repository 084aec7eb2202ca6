"""Freshness: as of when what is known of a debt is known to be complete.

`fresh_at` of a debt is the later of its last event, or of one of its borrower's by the same source, and the watermark
of that event's source and partition.  A watermark is moved by records and heartbeats of its source alone, never into
the future and never back: silence is not freshness.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from gateway.ledger.commands import Command, Heartbeat, Letter, Told
from gateway.ledger.database import Connection
from schemas.repayments import RepaymentPlanned, RepaymentRescheduled

_RAISE: Final = """
insert into fact_watermark (topic, source, partition, as_of, beats)
select * from unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::boolean[])
on conflict (topic, source, partition) do update
    set as_of = excluded.as_of, beats = fact_watermark.beats or excluded.beats
    where fact_watermark.as_of < excluded.as_of
"""
_WATERMARKS: Final = """
select topic, source, partition, as_of, beats from fact_watermark order by as_of, topic, source, partition limit $1
"""
# The later event counts: an old one that is told again may stand in a partition of before the topic grew.  What is in
# doubt ($2: but for a plan) stays as old as it is.
_TOLD_BORROWERS: Final = """
update borrower_fact b set source = s.source, topic = s.topic, partition = s.partition, told_at = s.told_at
from (
    select i.*, x.row from unnest($1::told_row[]) i cross join lateral (
        select b.ctid as row from borrower_fact b
        where b.subject = i.subject and (b.told_at is null or b.told_at < i.told_at) limit 1
    ) x
) s where b.ctid = s.row
"""
_TOLD_DEBTS: Final = """
update debt_fact d set source = s.source, topic = s.topic, partition = s.partition, told_at = s.told_at
from (
    select i.*, x.row from unnest($1::told_row[]) i cross join lateral (
        select d.ctid as row from debt_fact d
        where d.subject = i.subject and d.debt = i.debt and (d.told_at is null or d.told_at < i.told_at)
            and ($2 or d.source is distinct from '') limit 1
    ) x
) s where d.ctid = s.row
"""

# Nobody's heartbeats speak for what stands at this source.
_DOUBT: Final = """
update debt_fact d set source = '' where d.ctid = any (array(
    select d.row from unnest($1::bytea[], $2::text[], $3::text[]) as i(subject, debt, source)
    cross join lateral (
        select d.ctid as row from debt_fact d where d.subject = i.subject
            and d.debt = coalesce(i.debt, d.debt) and d.source = coalesce(i.source, d.source) offset 0
    ) d))
"""

_TRUST: Final = """
update debt_fact set source = $3, topic = $4, partition = $5 where subject = $1 and debt = $2 and source = ''
"""

# What was told last of the debt of `r`, and by the same source of its borrower, and up to when that is known to be
# complete.  What another source knows of him says nothing of his payments.
TOLD: Final = """
select t.topic, t.source, t.partition, greatest(t.told_at, w.as_of) as fresh_at
from (select * from debt_fact d where d.subject = r.subject and d.debt = r.debt offset 0) d
left join lateral (select * from borrower_fact b where b.subject = d.subject offset 0) b on b.source = d.source
cross join lateral (
    values (d.topic, d.source, d.partition, d.told_at), (b.topic, b.source, b.partition, b.told_at)
) t (topic, source, partition, told_at)
left join lateral (
    select w.as_of from fact_watermark w
    where w.topic = t.topic and w.source = t.source and w.partition = t.partition offset 0
) w on true
where t.told_at is not null
"""
_OF: Final = f"""
select r.id, f.* from unnest($1::bigint[]) as i(id)
cross join lateral (select * from reminder r where r.id = i.id offset 0) r cross join lateral ({TOLD}) f
"""  # noqa: S608  joins constants of this file

Place: TypeAlias = tuple[str, str, int]  # topic, source, partition


class Freshness(Struct, frozen=True, gc=False):
    """`fresh_at` is None where nothing was told; `places` are those whose watermarks would raise it."""

    fresh_at: dt.datetime | None = None
    places: frozenset[Place] = frozenset()


class Watermark(NamedTuple):
    """`beats` says whether the source has ever sent a heartbeat there: who never did is not missed."""

    topic: str
    source: str
    partition: int
    as_of: dt.datetime
    beats: bool


def watermarks(commands: Iterable[Command], read_at: dt.datetime) -> list[Watermark]:
    """How far these records raise the watermarks of their sources: at most to the moment they are read."""
    found: dict[Place, Watermark] = {}
    for each in commands:
        if isinstance(each, Told | Heartbeat):
            as_of = min(each.fact.as_of if isinstance(each, Told) else each.as_of, read_at)
            place = (each.origin.topic, each.source, each.origin.partition)
            was = found.get(place, Watermark(*place, as_of, beats=False))
            found[place] = Watermark(*place, max(was.as_of, as_of), was.beats or isinstance(each, Heartbeat))
    return sorted(found.values())


async def raise_watermarks(connection: Connection, raised: Sequence[Watermark]) -> None:
    """In the order of their keys; a partition has one reader, so nobody waits here for long."""
    if raised:
        await connection.execute(_RAISE, *(list(column) for column in zip(*raised, strict=True)))


async def oldest(connection: Connection, limit: int) -> list[Watermark]:
    """The watermarks, the oldest first."""
    return [Watermark(*row) for row in await connection.fetch(_WATERMARKS, limit)]


async def note_told(connection: Connection, told: Sequence[Told], read_at: dt.datetime) -> None:
    """Keeps where the last event of each debt and borrower stood.  Their rows are there and their locks are held."""
    last: dict[tuple[bytes, str | None, bool], Told] = {}
    for each in told:
        key = (each.subject, getattr(each.fact, "debt", None), is_plan(each))
        if key not in last or last[key].fact.as_of < each.fact.as_of:
            last[key] = each
    of_borrowers: list[tuple[object, ...]] = []
    of_debts: list[tuple[object, ...]] = []
    plans: list[tuple[object, ...]] = []
    for (subject, debt, plan), each in last.items():
        rows = of_borrowers if debt is None else plans if plan else of_debts
        as_of = min(each.fact.as_of, read_at)
        rows.append((subject, debt, each.source, each.origin.topic, each.origin.partition, as_of))
    if plans:
        await connection.execute(_TOLD_DEBTS, plans, True)
    if of_debts:
        await connection.execute(_TOLD_DEBTS, of_debts, False)
    if of_borrowers:
        await connection.execute(_TOLD_BORROWERS, of_borrowers)


def is_plan(each: Told) -> bool:
    return isinstance(each.fact, RepaymentPlanned | RepaymentRescheduled)


async def doubt(connection: Connection, letters: Sequence[Letter], told: Sequence[Told]) -> None:
    """What these could not say may be of these debts: until they are planned anew nothing makes them fresher.

    `told` are facts of the same batch; the borrowers' locks are held.
    """
    last = {(each.subject, getattr(each.fact, "debt", None)): each.origin.offset for each in told if is_plan(each)}
    rows = [
        (subject, debt, letter.source)
        for letter in letters
        for subject, debt in letter.doubts
        if last.get((subject, debt), -1) < letter.origin.offset
    ]
    if rows:
        await connection.execute(_DOUBT, *(list(column) for column in zip(*rows, strict=True)))


async def trust(connection: Connection, told: Sequence[Told]) -> None:
    """What left these debts in doubt is known now; the borrowers' locks are held."""
    for each in told:
        if (debt := getattr(each.fact, "debt", None)) is not None:
            place = (each.source, each.origin.topic, each.origin.partition)
            await connection.execute(_TRUST, each.subject, debt, *place)


async def of(connection: Connection, reminders: Collection[int]) -> dict[int, Freshness]:
    """Of planned reminders.  Under the borrower's lock only the watermarks can move, and only up."""
    found: dict[int, Freshness] = {each: Freshness() for each in reminders}
    for reminder, topic, source, partition, fresh_at in await connection.fetch(_OF, list(reminders)):
        was = found[reminder]
        later = fresh_at if was.fresh_at is None else max(was.fresh_at, fresh_at)
        found[reminder] = Freshness(later, was.places | {(topic, source, partition)})
    return found
