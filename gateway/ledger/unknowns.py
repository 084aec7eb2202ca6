"""Attempts of unknown outcome, for people: which there are, and settling one by what the provider's console says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from gateway.ledger import follow, freezes, manual, moves, situations, subjects, writing
from gateway.ledger.database import Connection
from gateway.ledger.pages import Page
from gateway.ledger.standing import LADDER_CHANNEL, Attempt, Move, Queue, Rules, Situation
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
_MINE: Final = """
select reminder_was, reminder_became from settlement where attempt = $1 and author = $2 and at = $3 and became = $4
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
    `again` whether that is the same contact.  As things stand now nothing of it leaves where it `expires` before, which
    is then its `not_after`; where it is `frozen` by this kind and value; or behind a stop that is `unreadable`.
    """

    attempt: int
    reminder: int
    was: AttemptState
    reminder_was: str
    reminder_becomes: str
    contact: Channel | None = None
    again: bool = False
    at: dt.datetime | None = None
    expires: dt.datetime | None = None
    frozen: tuple[str, str] | None = None
    unreadable: bool = False

    @property
    def done(self) -> bool:
        return self.was is AttemptState.UNKNOWN


async def settle(
    connection: Connection, attempt: int, found: Found, author: str, reason: str, now: dt.datetime, rules: Rules
) -> Settled | None:
    """Settles an attempt of unknown outcome, as a receipt that says the same would: what follows is `follow`'s to say.

    Under the borrower's lock, so that of this and a receipt one is first; what is not unknown any more stays as it is.
    None when there is no such attempt.  Who did it, why, and how things stood is kept in the same transaction.
    Repeatable: what the same author has done at the same `now` is told as done, since the answer to it was lost.
    """
    owner = await connection.fetchrow(_OWNER, attempt)  # of an attempt these never change
    if owner is None:
        return None
    reminder, subject = owner
    held = bool(await subjects.lock(connection, [subject]))
    was = (await situations.read(connection, [reminder]))[reminder]
    mine = was.find(attempt)
    assert mine is not None
    stood = _standing(was.state, was.reason)
    if mine.state is not AttemptState.UNKNOWN:
        kept = await connection.fetchrow(_MINE, attempt, author, now, _BECOMES[found][0])
        if kept is None:
            return Settled(attempt, reminder, mine.state, stood, stood)
        done = Settled(attempt, reminder, AttemptState.UNKNOWN, *kept)
        return await _with_contact(connection, done, was, mine, _next_since(was, done), held, now, rules)
    state, failure = _BECOMES[found]
    mine.become(state, failure, CODE, now)
    move = _move(was, mine, found, now, rules)
    becomes = stood if move is None else _standing(move.state, move.reason)
    planned = [] if move is None else [move]
    planned += await moves.apply(connection, planned, [writing.change_of(mine, now)], (), [was])
    note: tuple[Any, ...] = (
        attempt, reminder, now, author, reason, AttemptState.UNKNOWN, state, stood, becomes,
    )  # fmt: skip
    await connection.execute(_NOTE, *note)
    await manual.count(connection, (), planned)
    done = Settled(attempt, reminder, AttemptState.UNKNOWN, stood, becomes)
    return await _with_contact(connection, done, was, mine, _next(was, move), held, now, rules)


async def _with_contact(
    connection: Connection,
    done: Settled,
    was: Situation,
    mine: Attempt,
    next_: tuple[int, dt.datetime | None] | None,
    held: bool,
    now: dt.datetime,
    rules: Rules,
) -> Settled:
    """With the contact that is tried next, and what will keep it from leaving, as dispatch will find it."""
    if next_ is None:
        return done
    rung, at = next_
    done = replace(done, contact=LADDER_CHANNEL[was.ladder[rung]], again=rung == mine.rung, at=at)
    if now >= was.not_after:
        return replace(done, expires=was.not_after)
    # Read without the lock that orders freezes, which comes before the borrower's: it is told, nothing hangs on it.
    in_force = await freezes.read(connection, now)
    if by := await freezes.holders(connection, {was.id: replace(was, rung=rung)}, in_force, rules):
        return replace(done, frozen=next(key for key, freeze in in_force.slices.items() if freeze == by[was.id]))
    if held:
        return replace(done, unreadable=True)
    return replace(done, expires=was.not_after) if at is not None and at >= was.not_after else done


def _move(was: Situation, attempt: Attempt, found: Found, now: dt.datetime, rules: Rules) -> Move | None:
    if found is Found.UNCONFIRMED:
        return follow.give_up(was, now)
    # No jitter: who has looked does not want to wait.
    return follow.after_attempts(was, [attempt], now, rules, jitter=0.0)


def _next(was: Situation, move: Move | None) -> tuple[int, dt.datetime | None] | None:
    """The contact (by its place in the ladder) that is tried now, or was to be tried anyway, and from when on."""
    if move is None:
        if was.state not in _WAITS:
            return None
        # The timer of what is frozen stands at its end.
        return was.rung, was.resume_at if was.reason is Reason.FROZEN else was.at
    return (move.rung, move.at) if move.queue is Queue.DUE else None


def _next_since(was: Situation, done: Settled) -> tuple[int, dt.datetime | None] | None:
    """The same for what was done before: a worker may have taken it up since."""
    if was.state in _WAITS:
        return _next(was, None)
    waited = done.reminder_becomes.split(" ", 1)[0] in _WAITS
    return (was.rung, None) if waited and was.queue is not None else None


_WAITS: Final = frozenset({ReminderState.SCHEDULED, ReminderState.HELD})


def _standing(state: ReminderState, reason: Reason | None) -> str:
    return f"{state} ({reason})" if reason is not None else str(state)
