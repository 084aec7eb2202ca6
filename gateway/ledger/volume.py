"""The volume brake: what is intended is counted by slice, in the transaction of the intent, and bounded by the quotas.

One row per slice that has a quota, locked once per group and in one order, behind the borrowers.  So the count is exact
across processes, and what it allows is what was written.  Without quotas there is no statement.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.ledger.database import Connection
from gateway.ledger.quotas import Breach, QuotaRule, Quotas, Slice, Span, Volume, VolumeKind

# Makes what is missing and locks all, in the order of their keys: two groups wait for each other in one order only.
_LOCK: Final = """
insert into volume (kind, value, hour, day)
select i.kind, i.value, $3, $4 from unnest($1::text[], $2::text[]) as i(kind, value) order by i.kind, i.value
on conflict (kind, value) do update set kind = excluded.kind
returning kind, value, hour, day, hour_sent, day_sent, day_spent, over
"""
_STORE: Final = """
update volume v set hour = i.hour, day = i.day, hour_sent = i.hour_sent, day_sent = i.day_sent,
    day_spent = i.day_spent, over = string_to_array(i.over, ' ')
from unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::text[]) as i(kind, value, hour, day, hour_sent, day_sent, day_spent, over)
where v.kind = i.kind and v.value = i.value
"""
_BEGIN_ANEW: Final = """
update volume set over = '{}',
    hour_sent = case when 'per_hour' = any (over) then 0 else hour_sent end,
    day_sent = case when 'per_day' = any (over) then 0 else day_sent end,
    day_spent = case when 'spend_per_day' = any (over) then 0 else day_spent end
where kind = $1 and value = $2 and over <> '{}'
"""
_RUN_OUT: Final = "select exists (select 1 from volume where kind = $1 and value = $2 and over <> '{}')"
_READ: Final = """
select kind, value, hour, day, hour_sent, day_sent, day_spent, over from volume order by kind, value limit 1000
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One attempt: what it counts against, and what it costs in millionths."""

    attempt: int
    source: str
    lender: str
    cost: int


@dataclass(slots=True)
class Bounded:
    """`over` are attempts that must not be made, each with the breaches that say why; `dear` those that cost more than
    a whole cap by themselves, which is no fault of the others.

    The rows are locked; `store` writes what became of it.
    """

    over: dict[int, tuple[Breach, ...]] = field(default_factory=dict)
    dear: set[int] = field(default_factory=set)
    volumes: dict[Slice, Volume] = field(default_factory=dict)
    counts: dict[int, tuple[int, list[Slice]]] = field(default_factory=dict)  # what it costs, against what it counts

    async def store(self, connection: Connection, intended: Collection[int]) -> None:
        """Counts the attempts that were written, of those that fitted."""
        if not self.volumes:
            return
        for attempt in intended:
            cost, slices = self.counts.get(attempt, (0, ()))
            for slice_ in slices:
                self.volumes[slice_].add(cost)
        await connection.execute(_STORE, *_columns(self.volumes))


async def bound(connection: Connection, loads: Sequence[Load], quotas: Quotas, now: dt.datetime) -> Bounded:
    """Which of these fit into what is left of the quotas, in this order; behind the first that does not, none of its
    slice does.
    """
    asked = {load.attempt: quotas.of(load.source, load.lender) for load in loads}
    slices = list({slice_ for each in asked.values() for slice_ in each})
    if not slices:
        return Bounded()
    span = quotas.span(now)
    volumes = await _locked(connection, slices, span)
    # Reckoned with on a copy: what is lost on the way to its row is not counted.
    planned = {slice_: replace(each) for slice_, each in volumes.items()}
    broken: dict[Slice, Breach] = {}
    bounded = Bounded(volumes=volumes)
    for load in loads:
        wanted = asked[load.attempt]
        if any(quota.spend_per_day is not None and load.cost > quota.spend_per_day for quota in wanted.values()):
            bounded.dear.add(load.attempt)
            continue
        for slice_, quota in wanted.items():
            if slice_ not in broken and (rules := planned[slice_].broken_by(load.cost, quota)):
                broken[slice_] = _breach(slice_, rules, span)
                volumes[slice_].over.update(rules)
        if why := tuple(broken[slice_] for slice_ in wanted if slice_ in broken):
            bounded.over[load.attempt] = why
            continue
        for slice_ in wanted:
            planned[slice_].add(load.cost)
        bounded.counts[load.attempt] = (load.cost, list(wanted))
    return bounded


async def begin_anew(connection: Connection, kind: str, value: str) -> None:
    """The quotas of this slice that have run out begin anew; the others go on counting."""
    await connection.execute(_BEGIN_ANEW, kind, value)


async def run_out(connection: Connection, kind: str, value: str) -> bool:
    """Whether a quota of this slice has run out and nobody has begun it anew."""
    found: bool = await connection.fetchval(_RUN_OUT, kind, value)
    return found


async def read(connection: Connection) -> dict[Slice, Volume]:
    """What the slices with quotas have used, a thousand at most."""
    return _volumes(await connection.fetch(_READ))


async def _locked(connection: Connection, slices: Sequence[Slice], span: Span) -> dict[Slice, Volume]:
    names = [list(column) for column in zip(*slices, strict=True)]
    found = _volumes(await connection.fetch(_LOCK, *names, span.hour, span.day))
    for each in found.values():
        each.roll(span)
    return found


def _volumes(rows: Iterable[Any]) -> dict[Slice, Volume]:
    return {
        (kind, value): Volume(hour, day, hour_sent, day_sent, day_spent, {QuotaRule(each) for each in over})
        for kind, value, hour, day, hour_sent, day_sent, day_spent, over in rows
    }


def _breach(slice_: Slice, rules: Sequence[QuotaRule], span: Span) -> Breach:
    kind, value = slice_
    return Breach(VolumeKind(kind), value, tuple(rules), max(span.end(rule) for rule in rules))


def _columns(volumes: Mapping[Slice, Volume]) -> list[list[object]]:
    rows = [
        (kind, value, each.hour, each.day, each.hour_sent, each.day_sent, each.day_spent, " ".join(sorted(each.over)))
        for (kind, value), each in sorted(volumes.items())
    ]
    return [list(column) for column in zip(*rows, strict=True)]
