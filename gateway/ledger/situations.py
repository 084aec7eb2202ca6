"""Reads reminders as they stand.  Call it under the borrower's lock when a move will follow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

from gateway.ledger.database import Connection
from gateway.ledger.follow import Attempt, Queue, Situation
from schemas.vocabulary import AttemptState, Channel, Failure, Lane, Reason, ReminderState

_REMINDERS = """
select r.id, r.subject, r.lender, r.source, r.request_id, r.lane, r.ladder, r.not_after,
       l.state, l.reason, l.seq, l.at, l.rung, l.tries, l.rescues, l.attempt, l.closed,
       c.worker, c.token, e.state, e.reason, e.seq, e.at
from unnest($1::bigint[]) as i(id)
join reminder r on r.id = i.id
left join live l on l.id = i.id
left join claim c on c.id = i.id
left join ending e on e.reminder = i.id
"""

_ATTEMPTS = """
select reminder, id, rung, channel, provider, state, intended_at, failure, final_at
from attempt where reminder = any($1::bigint[]) order by id
"""

# Enum constructors cost more than a dict: these run for every row.
REMINDER_STATE: Final = {state.value: state for state in ReminderState}
ATTEMPT_STATE: Final = {state.value: state for state in AttemptState}
CHANNEL: Final = {channel.value: channel for channel in Channel}
FAILURE: Final[dict[str | None, Failure | None]] = {None: None} | {failure.value: failure for failure in Failure}
REASON: Final[dict[str | None, Reason | None]] = {None: None} | {reason.value: reason for reason in Reason}
LANE: Final = {lane.value: lane for lane in Lane}


async def attempts_of(connection: Connection, reminders: Iterable[int]) -> dict[int, list[Attempt]]:
    """Every attempt of these reminders, oldest first."""
    found: dict[int, list[Attempt]] = {}
    for row in await connection.fetch(_ATTEMPTS, list(reminders)):
        found.setdefault(row[0], []).append(
            Attempt(row[1], row[2], CHANNEL[row[3]], row[4], ATTEMPT_STATE[row[5]], row[6], FAILURE[row[7]], row[8])
        )
    return found


async def read(connection: Connection, reminders: Iterable[int]) -> dict[int, Situation]:
    """The situation of each reminder that exists, by id."""
    ids = list(set(reminders))
    rows = await connection.fetch(_REMINDERS, ids)
    attempts = await attempts_of(connection, ids)
    situations = {}
    for row in rows:
        (id_, subject, lender, source, request_id, lane, ladder, not_after) = row[:8]
        (state, reason, seq, at, rung, tries, rescues, attempt, closed, worker, token) = row[8:19]
        mine = tuple(attempts.get(id_, ()))
        if state is None:
            ended = REMINDER_STATE[row[19]]
            situations[id_] = Situation(
                id_, subject, lender, source, request_id, LANE[lane], ladder, not_after,
                ended, REASON[row[20]], row[21], row[22], None, attempts=mine,
            )  # fmt: skip
            continue
        situations[id_] = Situation(
            id_, subject, lender, source, request_id, LANE[lane], ladder, not_after,
            REMINDER_STATE[state], REASON[reason], seq, at, queue_of(state, worker),
            rung, tries, rescues, attempt, REASON[closed], worker, token, mine,
        )  # fmt: skip
    return situations


def queue_of(state: str, worker: int | None) -> Queue:
    """The queue a live row's state implies; the invariant that exactly one row stands there is tested, not assumed."""
    if worker is not None:
        return Queue.CLAIM
    return Queue.DUE if state == "scheduled" else Queue.TIMER


def utc(value: dt.datetime) -> dt.datetime:
    return value.astimezone(dt.UTC)
