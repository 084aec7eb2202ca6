"""Attempts of unknown outcome, for people: which there are, and settling one by what the provider's console says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from gateway.ledger import follow, manual, moves, situations, subjects
from gateway.ledger.database import Connection
from gateway.ledger.follow import LADDER_CHANNEL, Attempt, Move, Queue, Rules, Situation
from gateway.ledger.pages import Page
from schemas.vocabulary import AttemptState, Channel, Failure, Found, Reason, ReminderState

# The provider's ids of a message whose outcome is unknown come with receipts that settle nothing, and only with them.
_LIST: Final = """
with page as (
    select u.id, u.since from unsettled u where (u.since, u.id) > ($1, $2) order by u.since, u.id limit $3
)
select p.since, a.id, a.intended_at, a.reminder, a.provider, a.channel, a.rung, a.code, l.lender, l.state::text, l.at,
       array(select distinct r.ref from receipt r where r.attempt = a.id and r.ref is not null order by r.ref) as refs
from page p join live l on l.id = p.id join attempt a on a.reminder = p.id and a.state = 'unknown'
order by p.since, p.id, a.id
"""
_PLACE: Final = "select since from unsettled where id = $1"
_OWNER: Final = "select reminder, subject from attempt where id = $1"
_NOTE: Final = """
insert into settlement (attempt, reminder, at, author, reason, was, became, reminder_was, reminder_became)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


class Unknown(NamedTuple):
    """An attempt of unknown outcome.  `since` is when the first unknown one of its reminder was intended; `looked_at`
    when its reminder is looked at next: when it awaits the last word, that is the end of its receipt window."""

    since: dt.datetime
    attempt: int
    intended_at: dt.datetime
    reminder: int
    provider: str
    channel: str
    rung: int
    code: str | None
    lender: str
    state: str
    looked_at: dt.datetime
    refs: Sequence[str]


async def oldest(connection: Connection, after: tuple[dt.datetime, int] | None, limit: int) -> Page[Unknown]:
    """Those that living reminders wait on, of at most `limit` reminders, the oldest first; `after` is the (since,
    reminder) where the page before ended."""
    since, reminder = after or (_BEFORE_ALL, 0)
    rows = [Unknown(*row) for row in await connection.fetch(_LIST, since, reminder, limit)]
    return Page(rows, limit)


async def place(connection: Connection, reminder: int) -> tuple[dt.datetime, int] | None:
    """Where a reminder stands in the list; None when it waits on nothing any more."""
    since = await connection.fetchval(_PLACE, reminder)
    return None if since is None else (since, reminder)


_BEFORE_ALL: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


_BECOMES: Final[dict[Found, tuple[AttemptState, Failure | None]]] = {
    Found.DELIVERED: (AttemptState.DELIVERED, None),
    Found.UNDELIVERED: (AttemptState.UNDELIVERED, None),
    # As for a message of which the worker knows that no byte left.
    Found.NOT_SENT: (AttemptState.NOT_SENT, Failure.TRANSIENT),
    Found.UNCONFIRMED: (AttemptState.UNCONFIRMED, Failure.AMBIGUOUS),
}
CODE: Final = "by_hand"


class Settled(Struct, frozen=True, gc=False):
    """What came of it.  `was` is the attempt's state: unless it was unknown, nothing was done.

    The reminder's states before and after; `contact` is the channel that is tried next, from `at` on, when one is, and
    `again` whether that is the same contact.
    """

    attempt: int
    reminder: int
    was: AttemptState
    reminder_was: str
    reminder_becomes: str
    contact: Channel | None = None
    again: bool = False
    at: dt.datetime | None = None

    @property
    def done(self) -> bool:
        return self.was is AttemptState.UNKNOWN


async def settle(
    connection: Connection, attempt: int, found: Found, author: str, reason: str, now: dt.datetime, rules: Rules
) -> Settled | None:
    """Settles an attempt of unknown outcome, as a receipt that says the same would: what follows is `follow`'s to say.

    Under the borrower's lock, so that of this and a receipt one is first; what is not unknown any more stays as it is.
    None when there is no such attempt.  Who did it, why, and how things stood is kept in the same transaction.
    """
    owner = await connection.fetchrow(_OWNER, attempt)  # of an attempt these never change
    if owner is None:
        return None
    reminder, subject = owner
    await subjects.lock(connection, [subject])
    was = (await situations.read(connection, [reminder]))[reminder]
    mine = was.find(attempt)
    assert mine is not None
    stood = _standing(was.state, was.reason)
    if mine.state is not AttemptState.UNKNOWN:
        return Settled(attempt, reminder, mine.state, stood, stood)
    state, failure = _BECOMES[found]
    mine.become(state, failure, CODE, now)
    move = _move(was, mine, found, now, rules)
    becomes = stood if move is None else _standing(move.state, move.reason)
    planned = [] if move is None else [move]
    await moves.apply(connection, planned, [moves.change_of(mine, now)], (), [was])
    note: tuple[Any, ...] = (
        attempt, reminder, now, author, reason, AttemptState.UNKNOWN, state, stood, becomes,
    )  # fmt: skip
    await connection.execute(_NOTE, *note)
    await manual.count(connection, (), planned)
    next_ = _next(was, move)
    return Settled(
        attempt,
        reminder,
        AttemptState.UNKNOWN,
        stood,
        becomes,
        None if next_ is None else LADDER_CHANNEL[was.ladder[next_[0]]],
        next_ is not None and next_[0] == mine.rung,
        None if next_ is None else next_[1],
    )


def _move(was: Situation, attempt: Attempt, found: Found, now: dt.datetime, rules: Rules) -> Move | None:
    if found is Found.UNCONFIRMED:
        return follow.give_up(was, now)
    # No jitter: who has looked does not want to wait.
    return follow.after_attempts(was, [attempt], now, rules, jitter=0.0)


def _next(was: Situation, move: Move | None) -> tuple[int, dt.datetime] | None:
    """The contact (by its place in the ladder) that is tried now, or was to be tried anyway, and from when on."""
    if move is None:
        waits = was.state in (ReminderState.SCHEDULED, ReminderState.HELD)
        return (was.rung, was.at) if waits else None
    return (move.rung, move.at) if move.queue is Queue.DUE else None


def _standing(state: ReminderState, reason: Reason | None) -> str:
    return f"{state} ({reason})" if reason is not None else str(state)
