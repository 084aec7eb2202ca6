"""The one writer of reminder states.

`apply` takes planned moves and writes each as one unit: the state, the queue row it leaves and the one it takes, the
ending, the freed stage key, the event.  Every row is guarded by the seq and state it was planned from and by the
transition table; if a guard fails the borrower's lock was not held, and the whole transaction is refused.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from gateway.ids import to_reference
from gateway.ledger.database import Connection
from gateway.ledger.follow import Attempt, Move, Queue
from schemas.messages import EVENTS_TOPIC, AttemptSummary, ReminderStatus
from schemas.vocabulary import AttemptState, Failure, ReminderState


class LostGuard(RuntimeError):
    """A move was planned from a state that is no longer there.  The transaction must not commit."""


_ADVANCE: Final = """
with i as (
    select * from unnest(
        $1::bigint[], $2::int[], $3::reminder_state[], $4::reminder_state[], $5::text[], $6::timestamptz[],
        $7::timestamptz[], $8::text[], $9::text[], $10::smallint[], $11::smallint[], $12::smallint[], $13::text[],
        $14::bytea[], $15::lane[]
    ) as t(id, seq, was, state, reason, was_at, at, was_queue, queue, rung, tries, rescues, closed, event, lane)
), moved as (
    update live l set state = i.state, reason = i.reason, at = i.at, rung = i.rung, tries = i.tries,
        rescues = i.rescues, closed = i.closed, seq = l.seq + case when i.event is null then 0 else 1 end
    from i where l.id = i.id and l.seq = i.seq and l.state = i.was and reminder_moves(l.state, i.state)
    returning l.id, l.seq
), undue as (
    delete from due d using i where i.was_queue = 'due' and d.lane = i.lane and d.due_at = i.was_at and d.id = i.id
        and (i.queue <> 'due' or i.at <> i.was_at) returning 1
), unclaimed as (
    delete from claim c using i where i.was_queue = 'claim' and i.queue <> 'claim' and c.id = i.id returning 1
), untimed as (
    delete from timer t using i where i.was_queue = 'timer' and t.at = i.was_at and t.id = i.id
        and (i.queue <> 'timer' or i.at <> i.was_at) returning 1
), dues as (
    insert into due (lane, due_at, id) select i.lane, i.at, i.id from i
    where i.queue = 'due' and (i.was_queue <> 'due' or i.at <> i.was_at)
), timers as (
    insert into timer (at, id) select i.at, i.id from i
    where i.queue = 'timer' and (i.was_queue <> 'timer' or i.at <> i.was_at)
), events as (
    insert into outbox (bucket, reminder, seq, id, topic, payload)
    select i.id & 255, i.id, i.seq + 1, 0, $16, i.event from i where i.event is not null
)
select (select count(*) from moved),
       (select count(*) from undue) + (select count(*) from unclaimed) + (select count(*) from untimed),
       (select count(*) from i where i.queue <> i.was_queue or (i.at <> i.was_at and i.queue <> 'claim'))
"""

_END: Final = """
with i as (
    select * from unnest(
        $1::bigint[], $2::int[], $3::reminder_state[], $4::reminder_state[], $5::text[], $6::timestamptz[],
        $7::timestamptz[], $8::text[], $9::bytea[], $10::lane[]
    ) as t(id, seq, was, state, reason, was_at, at, was_queue, event, lane)
), gone as (
    delete from live l using i
    where l.id = i.id and l.seq = i.seq and l.state = i.was and reminder_moves(l.state, i.state)
    returning l.id
), endings as (
    insert into ending (reminder, state, reason, seq, at) select i.id, i.state, i.reason, i.seq + 1, i.at from i
), undue as (
    delete from due d using i where i.was_queue = 'due' and d.lane = i.lane and d.due_at = i.was_at and d.id = i.id
    returning 1
), unclaimed as (
    delete from claim c using i where i.was_queue = 'claim' and c.id = i.id returning 1
), untimed as (
    delete from timer t using i where i.was_queue = 'timer' and t.at = i.was_at and t.id = i.id returning 1
), events as (
    insert into outbox (bucket, reminder, seq, id, topic, payload)
    select i.id & 255, i.id, i.seq + 1, 0, $11, i.event from i
)
select (select count(*) from gone),
       (select count(*) from undue) + (select count(*) from unclaimed) + (select count(*) from untimed),
       (select count(*) from i)
"""

# The business key is free again when nobody was, or may have been, contacted under it.
_FREE_STAGE: Final = """
delete from stage_key s using reminder r
where r.id = any($1::bigint[]) and s.key = r.stage_key and s.reminder = r.id
  and not exists (select 1 from attempt a where a.reminder = r.id and a.state not in ('not_sent', 'rejected'))
"""

_CORRECT: Final = """
with i as (
    select * from unnest($1::bigint[], $2::int[], $3::reminder_state[], $4::reminder_state[], $5::text[], $6::bytea[])
        as t(id, seq, was, state, reason, event)
), raised as (
    update ending e set state = i.state, reason = i.reason, seq = e.seq + 1
    from i where e.reminder = i.id and e.seq = i.seq and e.state = i.was
      and (e.state = i.state or reminder_moves(e.state, i.state))
    returning e.reminder
), events as (
    insert into outbox (bucket, reminder, seq, id, topic, payload)
    select i.id & 255, i.id, i.seq + 1, 0, $7, i.event from i
)
select (select count(*) from raised), 0, 0
"""

_ATTEMPTS: Final = """
update attempt a set state = i.state, failure = i.failure, code = i.code,
    outcome_at = coalesce(a.outcome_at, i.at),
    final_at = case when i.settled then i.at else a.final_at end
from unnest($1::bigint[], $2::attempt_state[], $3::text[], $4::text[], $5::timestamptz[], $6::boolean[])
    as i(id, state, failure, code, at, settled)
where a.id = i.id and attempt_moves(a.state, i.state)
returning a.id
"""

_REFS: Final = """
insert into provider_ref (provider, ref, attempt)
select * from unnest($1::text[], $2::text[], $3::bigint[]) on conflict (provider, ref) do nothing
"""

# Attempt id, new state, failure, the provider's own code, when.
AttemptChange: TypeAlias = tuple[int, AttemptState, Failure | None, str | None, dt.datetime]

_STILL_OPEN: Final = frozenset({AttemptState.INTENDED, AttemptState.UNKNOWN, AttemptState.ACCEPTED, AttemptState.SENT})

_KEEPS_STAGE: Final = frozenset({ReminderState.DELIVERED, ReminderState.UNCONFIRMED})

_encode = msgspec.json.Encoder().encode


async def apply(connection: Connection, moves: Iterable[Move]) -> None:
    """Writes the moves, at most one per reminder.  Raises LostGuard when one no longer fits; then nothing is kept."""
    advance: list[Move] = []
    end: list[Move] = []
    correct: list[Move] = []
    for move in moves:
        (correct if move.correction else end if move.queue is None else advance).append(move)
    if advance:
        await _run(connection, _ADVANCE, advance, _advance_row, EVENTS_TOPIC)
    if end:
        await _run(connection, _END, end, _end_row, EVENTS_TOPIC)
        if free := [move.was.id for move in end if move.state not in _KEEPS_STAGE]:
            await connection.execute(_FREE_STAGE, free)
    if correct:
        await _run(connection, _CORRECT, correct, _correct_row, EVENTS_TOPIC)


async def _run(connection: Connection, sql: str, moves: Sequence[Move], row: Any, topic: str) -> None:
    columns = (list(column) for column in zip(*map(row, moves), strict=True))
    moved, left, expected = await connection.fetchrow(sql, *columns, topic)
    if moved != len(moves) or left != expected:
        raise LostGuard(f"{len(moves)} planned, {moved} moved; {expected} queue rows expected, {left} found")


def _advance_row(move: Move) -> tuple[Any, ...]:
    was = move.was
    assert was.queue is not None
    assert move.queue is not None
    return (
        was.id, was.seq, was.state, move.state, move.reason, was.at, move.at, was.queue, move.queue,
        move.rung, move.tries, move.rescues, move.closed, event_of(move) if move.emit else None, was.lane,
    )  # fmt: skip


def _end_row(move: Move) -> tuple[Any, ...]:
    was = move.was
    return (
        was.id, was.seq, was.state, move.state, move.reason, was.at, move.at, was.queue or Queue.DUE,
        event_of(move), was.lane,
    )  # fmt: skip


def _correct_row(move: Move) -> tuple[Any, ...]:
    was = move.was
    return (was.id, was.seq, was.state, move.state, move.reason, event_of(move))


def event_of(move: Move) -> bytes:
    """The `reminder.status.v1` of a move, without `seq`: the relay adds it from its own column."""
    was = move.was
    return _encode(
        ReminderStatus(
            lender=was.lender,
            source=was.source,
            request_id=was.request_id,
            at=move.now,
            reminder=to_reference(was.id),
            state=move.state,
            reason=move.reason,
            correction=move.correction,
            attempts=tuple(map(summary_of, was.attempts)),
        )
    )


def summary_of(attempt: Attempt) -> AttemptSummary:
    return AttemptSummary(
        id=to_reference(attempt.id),
        channel=attempt.channel,
        provider=attempt.provider,
        state=attempt.state,
        intended_at=attempt.intended_at,
        failure=attempt.failure,
        final_at=attempt.final_at,
    )


async def move_attempts(
    connection: Connection,
    changes: Sequence[AttemptChange],
) -> set[int]:
    """Raises attempts to new states, one change per attempt; returns the ids that moved.  A rank is never lowered."""
    if not changes:
        return set()
    ids, states, failures, codes, ats = (list(column) for column in zip(*changes, strict=True))
    settled = [state not in _STILL_OPEN for state in states]
    return {row[0] for row in await connection.fetch(_ATTEMPTS, ids, states, failures, codes, ats, settled)}


async def keep_refs(connection: Connection, refs: Sequence[tuple[str, str, int]]) -> None:
    """Remembers (provider, its message id, attempt), whatever the order of arrival."""
    if refs:
        await connection.execute(_REFS, *(list(column) for column in zip(*refs, strict=True)))
