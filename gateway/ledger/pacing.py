"""The pace of a call centre: contacts after which borrowers call take a place of their lender's hour, in the commit of
the intent.

One row per lender and hour, locked once per group and in one order, behind the borrowers and before the volumes.  So
the count is exact across processes.  Where no lender has a call centre there is no statement.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.ledger.database import Connection
from gateway.ledger.standing import Rules, Situation
from gateway.ledger.states import NO_CONTACT
from schemas.vocabulary import Channel

HOUR: Final = dt.timedelta(hours=1)

_LOCK: Final = """
insert into call_centre (lender, hour, n) select i.lender, $2, 0 from unnest($1::text[]) as i(lender) order by i.lender
on conflict (lender, hour) do update set n = call_centre.n
returning lender, n
"""
_TAKE: Final = """
update call_centre c set n = c.n + i.n from unnest($1::text[], $3::int[]) as i(lender, n)
where c.lender = i.lender and c.hour = $2
"""
_GIVE_BACK: Final = """
with i as (
    select lender, hour, count(*)::int as n from unnest($1::text[], $2::timestamptz[]) as i(lender, hour) group by 1, 2
), locked as (
    select c.lender, c.hour from call_centre c join i using (lender, hour) order by 1, 2 for update of c
)
update call_centre c set n = greatest(c.n - i.n, 0) from i join locked using (lender, hour)
where c.lender = i.lender and c.hour = i.hour
"""


@dataclass(frozen=True, slots=True)
class Contact:
    """One attempt that is about to be made."""

    attempt: int
    lender: str
    occasion: str | None
    channel: Channel


@dataclass(slots=True)
class Paced:
    """`full` are attempts for which their lender's hour has no place any more.  The rows are locked; `store` counts."""

    hour: dt.datetime | None = None
    full: frozenset[int] = frozenset()
    places: dict[int, str] = field(default_factory=dict)  # lender by attempt

    async def store(self, connection: Connection, intended: Collection[int]) -> None:
        """Counts the attempts that were written, of those that had a place."""
        taken = Counter(self.places[each] for each in intended if each in self.places)
        if taken:
            await connection.execute(_TAKE, list(taken), self.hour, list(taken.values()))


def is_paced(rules: Rules, lender: str, occasion: str | None, channel: Channel) -> bool:
    climb = rules.climb(occasion)
    return climb is not None and lender in rules.call_centre and climb.paced(channel)


async def pace(connection: Connection, contacts: Sequence[Contact], rules: Rules, now: dt.datetime) -> Paced:
    """Which of these have a place in this hour, in this order."""
    counted = [each for each in contacts if is_paced(rules, each.lender, each.occasion, each.channel)]
    if not counted:
        return Paced()
    hour = hour_of(now)
    rows = await connection.fetch(_LOCK, sorted({each.lender for each in counted}), hour)
    left = {row[0]: rules.call_centre[row[0]] - row[1] for row in rows}
    paced, full = Paced(hour), set()
    for each in counted:
        if left[each.lender] <= 0:
            full.add(each.attempt)
            continue
        left[each.lender] -= 1
        paced.places[each.attempt] = each.lender
    paced.full = frozenset(full)
    return paced


async def give_back(
    connection: Connection, found: Mapping[int, Situation], changed: Mapping[int, Iterable[int]], rules: Rules
) -> None:
    """The places of attempts that certainly reached nobody, by reminder."""
    if not rules.call_centre:
        return
    places = [
        (found[reminder].lender, hour_of(attempt.intended_at))
        for reminder, attempts in changed.items()
        for id_ in attempts
        if (attempt := found[reminder].find(id_)) is not None
        and attempt.state in NO_CONTACT
        and is_paced(rules, found[reminder].lender, found[reminder].occasion, attempt.channel)
    ]
    if places:
        await connection.execute(_GIVE_BACK, [lender for lender, _ in places], [hour for _, hour in places])


def hour_of(now: dt.datetime) -> dt.datetime:
    return now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def next_place(now: dt.datetime, share: float) -> dt.datetime:
    """In the next hour, spread over it by `share` in 0..1: not all of them at its beginning."""
    return hour_of(now) + HOUR * (1 + share)
