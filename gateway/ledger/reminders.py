"""Reminders by what people know of them: a borrower, a debt, a lender, where they stand.  Nothing personal.

Of one borrower everything is found by an index.  Anything else is looked for among the newest rows of the table that
fits the question best, `LOOKED_AT` of them at most: the living ones, the ended ones, or all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.ledger.database import Connection
from gateway.ledger.pages import LOOKED_AT, Page, Range
from gateway.ledger.standing import LADDER_CHANNEL
from schemas.vocabulary import ReminderState

_COLUMNS: Final = """
r.id, coalesce(l.state, e.state)::text as state, coalesce(l.reason, e.reason) as reason, r.lender, r.borrower, r.debt,
r.instalment, r.stage, r.step, r.source, r.request_id, r.received_at, coalesce(l.at, e.at) as at, r.ladder, l.rung
"""
_FILTERS: Final = """
($3::text[] is null or coalesce(l.state, e.state)::text = any($3))
and ($4::text is null or coalesce(l.reason, e.reason) = $4) and ($5::text is null or r.lender = $5)
and ($6::text is null or r.borrower = $6) and ($7::text is null or r.debt = $7) and ($8::text is null or r.source = $8)
"""
# Joins are made in the order they are written; each begins with the table whose newest rows are looked at.
_FROM: Final = {
    "live": "live l join reminder r on r.id = l.id left join ending e on e.reminder = l.id",
    "ending": "ending e join reminder r on r.id = e.reminder left join live l on l.id = e.reminder",
    "reminder": "reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id",
}
_KEY: Final = {"live": "l.id", "ending": "e.reminder", "reminder": "r.id"}


def _page(table: str) -> str:
    key = _KEY[table]
    return f"""
    select {_COLUMNS} from {_FROM[table]}
    where {key} >= $1 and {key} < $2 and {_FILTERS} order by {key} desc limit $9
    """  # noqa: S608  joins constants of this file


_PAGES: Final = {table: _page(table) for table in _FROM}
# All of a borrower's first, which are few: the order and the limit must not make the planner walk the ids instead.
_OF_BORROWER: Final = f"""
with r as materialized (
    select * from reminder where subject = any($10::bytea[]) and id >= $1 and id < $2
)
select {_COLUMNS} from r left join live l on l.id = r.id left join ending e on e.reminder = r.id
where {_FILTERS} order by r.id desc limit $9
"""  # noqa: S608
_FLOORS: Final = {
    table: f"select {column} from {table} where {column} >= $1 and {column} < $2"  # noqa: S608
    f" order by {column} desc offset $3 limit 1"
    for table, column in (("live", "id"), ("ending", "reminder"), ("reminder", "id"))
}


class Listed(NamedTuple):
    """One reminder.  `at` is when it is looked at next, or when it ended; `rung` is None once it has ended."""

    id: int
    state: str
    reason: str | None
    lender: str
    borrower: str
    debt: str
    instalment: int | None
    stage: str
    step: str
    source: str
    request_id: str
    received_at: dt.datetime
    at: dt.datetime
    ladder: str
    rung: int | None

    @property
    def contacts(self) -> list[str]:
        return [LADDER_CHANNEL[each].value for each in self.ladder]


@dataclass(frozen=True, slots=True)
class Which:
    """Which reminders are meant: all of these, where they are given; of the states any."""

    states: frozenset[ReminderState] = frozenset()
    reason: str | None = None
    lender: str | None = None
    borrower: str | None = None
    debt: str | None = None
    source: str | None = None


async def newest(
    connection: Connection, within: Range, which: Which, limit: int, subjects: Collection[bytes] = ()
) -> Page[Listed]:
    """The newest reminders of a range of ids, newest first; with `subjects`, of these borrowers, which is exact."""
    filters = (
        sorted(which.states) or None,
        which.reason,
        which.lender,
        which.borrower,
        which.debt,
        which.source,
        limit,
    )
    if subjects:
        rows = await connection.fetch(_OF_BORROWER, within.low, within.high, *filters, sorted(subjects))
        return Page([Listed(*row) for row in rows], limit)
    table = _table(which.states)
    floor = await connection.fetchval(_FLOORS[table], within.low, within.high, LOOKED_AT)
    low = within.low if floor is None else floor + 1
    rows = await connection.fetch(_PAGES[table], low, within.high, *filters)
    return Page([Listed(*row) for row in rows], limit, None if floor is None else low)


def _table(states: frozenset[ReminderState]) -> str:
    """What is looked through: of the living ones there are fewer, so that as many rows go back further."""
    if not states:
        return "reminder"
    final = {each.final for each in states}
    return "reminder" if len(final) > 1 else "ending" if final == {True} else "live"
