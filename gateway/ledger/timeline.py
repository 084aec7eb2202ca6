"""One reminder's whole story, for people: what was decided, tried, received and told.  No personal data in it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from gateway.ids import from_reference, request_key, to_reference
from gateway.ledger import situations
from gateway.ledger.database import Connection
from gateway.ledger.follow import Situation

_BY_REQUEST: Final = "select reminder from inbox where key = $1"
_REMINDER: Final = """
select source, request_id, lender, borrower, debt, instalment, product, stage, step, template, lane, send_at,
       not_after, received_at, topic, partition, "offset" from reminder where id = $1
"""
_DECISIONS: Final = "select at, verdict, rule, attempt from decision where reminder = $1 order by at"
_ATTEMPTS: Final = """
select a.id, a.channel, a.provider, a.state, a.failure, a.code, a.intended_at, a.outcome_at, a.final_at,
       (select ref from provider_ref p where p.attempt = a.id limit 1)
from attempt a where a.reminder = $1 order by a.id
"""
_RECEIPTS: Final = """
select received_at, provider, kind, state, code, disposition, attempt from receipt
where attempt = any($1::bigint[]) order by id
"""
_PUSH_PROVIDER: Final = "select provider from attempt where id = $1 and channel = 'push'"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline."""

    at: dt.datetime
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """`facts` are ids and times; `entries` are in the order of time."""

    reminder: str
    situation: Situation
    facts: dict[str, Any]
    entries: list[Entry]


async def find(connection: Connection, reference: str | None, source: str | None, request_id: str | None) -> int | None:
    """A reminder's id from its own reference, or from the source and id of its request."""
    if reference is not None:
        return from_reference(reference)
    found: int | None = await connection.fetchval(_BY_REQUEST, request_key(source or "", request_id or ""))
    return found


async def read(connection: Connection, reminder: int) -> Timeline | None:
    """The story of a reminder, or None when there is no such reminder."""
    found = (await situations.read(connection, [reminder])).get(reminder)
    if found is None:
        return None
    facts = dict(await connection.fetchrow(_REMINDER, reminder))
    entries = [Entry(facts["received_at"], "accepted", f"{facts['topic']}/{facts['partition']}/{facts['offset']}")]
    for row in await connection.fetch(_DECISIONS, reminder):
        entries.append(Entry(row[0], f"decided: {row[1]}", f"rule {row[2]}"))
    attempts = await connection.fetch(_ATTEMPTS, reminder)
    for row in attempts:
        label = f"{row[1]} by {row[2]}, attempt {to_reference(row[0])}"
        entries.append(Entry(row[6], "intended", label))
        if row[7] is not None:
            why = " ".join(str(each) for each in (row[4], row[5], row[9]) if each)
            entries.append(Entry(row[8] or row[7], f"attempt {row[3]}", f"{label} {why}".strip()))
    for row in await connection.fetch(_RECEIPTS, [row[0] for row in attempts]):
        what = row[3] or row[2]
        entries.append(Entry(row[0], f"receipt {what}", f"{row[1]} {row[4]}: {row[5] or 'waiting'}"))
    if found.queue is None:
        entries.append(Entry(found.at, f"ended: {found.state}", found.reason or ""))
    return Timeline(to_reference(reminder), found, facts, sorted(entries, key=lambda each: each.at))


async def push_provider(connection: Connection, attempt: int) -> str | None:
    """The provider a push attempt went through, or None when it is no push of ours."""
    found: str | None = await connection.fetchval(_PUSH_PROVIDER, attempt)
    return found
