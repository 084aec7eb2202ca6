"""The one writer of reminder states.

`apply` takes planned moves and writes each as one unit: the state, the queue row it leaves and the one it takes, the
ending, the freed stage key, the event.  Every row is guarded by the seq and state it was planned from and by the
transition table.  The borrower's lock keeps everybody out but a claim; if that was first, the transaction is refused
and planned again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from gateway.ids import to_reference
from gateway.ledger import frozen, merged, queueing, situations, stale
from gateway.ledger.database import Conflict, Connection
from gateway.ledger.standing import LIFTED, Attempt, Move, Queue, Situation
from gateway.ledger.states import NO_CONTACT
from schemas.messages import EVENTS_TOPIC, AttemptSummary, ReminderStatus
from schemas.vocabulary import AttemptState, Failure, Reason, ReminderState


class LostGuard(Conflict):
    """A move was planned from a row that is no longer there: a claim took it meanwhile.  Plan again."""


# Writes find their rows by one index probe per input row, through LATERAL ... LIMIT 1 and the row's ctid.  A plain join
# leaves the order to the planner, and on a queue whose statistics say "empty" it compares every row with every input.
#
# One statement for everything that a group does to one kind of move: what it does to attempts rides along.
_RIDERS: Final = """
raised as (
    update attempt a set state = s.state, failure = s.failure, code = s.code,
        outcome_at = coalesce(a.outcome_at, s.at),
        final_at = case when s.settled then s.at else a.final_at end
    from (
        select i.*, x.row
        from unnest($3::attempt_row[]) as i
        cross join lateral (select a.ctid as row from attempt a where a.id = i.id limit 1) x
    ) s
    where a.ctid = s.row and attempt_moves(a.state, s.state)
    returning 1
), refs as (
    insert into provider_ref (provider, ref, attempt)
    select * from unnest($4::provider_ref[]) on conflict (provider, ref) do nothing
)"""
_QUEUE_ROWS: Final = """
undue as (
    delete from due where ctid = any (array(
        select q.row from i cross join lateral (
            select d.ctid as row from due d where d.lane = i.lane and d.due_at = i.was_at and d.id = i.id limit 1
        ) q where i.leaves = 'due')) returning 1
), unclaimed as (
    delete from claim where ctid = any (array(
        select q.row from i cross join lateral (select c.ctid as row from claim c where c.id = i.id limit 1) q
        where i.leaves = 'claim')) returning 1
), untimed as (
    delete from timer where ctid = any (array(
        select q.row from i cross join lateral (
            select t.ctid as row from timer t where t.at = i.was_at and t.id = i.id limit 1
        ) q where i.leaves = 'timer')) returning 1
)"""
_COUNTS: Final = """
select (select count(*) from moved),
       (select count(*) from undue) + (select count(*) from unclaimed) + (select count(*) from untimed),
       (select count(*) from i where leaves is not null),
       (select count(*) from raised)
"""

_ADVANCE: Final = f"""
with i as (
    select * from unnest($1::advanced_row[])
), moved as (
    update live l set state = s.state, reason = s.reason, at = s.at, rung = s.rung, tries = s.tries,
        rescues = s.rescues, closed = s.closed, resume_at = s.resume_at,
        seq = l.seq + case when s.event is null then 0 else 1 end
    from (select i.*, x.row from i cross join lateral (
        select l.ctid as row from live l where l.id = i.id and l.seq = i.seq and l.state = i.was limit 1) x) s
    where l.ctid = s.row and reminder_moves(l.state, s.state)
    returning 1
), {_QUEUE_ROWS}, dues as (
    insert into due (lane, due_at, id) select i.lane, i.at, i.id from i where i.enters = 'due'
), timers as (
    insert into timer (at, id) select i.at, i.id from i where i.enters = 'timer'
), events as (
    insert into outbox (bucket, reminder, seq, id, topic, payload, traceparent)
    select i.id & 255, i.id, i.seq + 1, 0, $2, i.event, i.traceparent from i where i.event is not null
), {_RIDERS}
{_COUNTS}
"""  # noqa: S608  joins constants of this file

_END: Final = f"""
with i as (
    select * from unnest($1::ended_row[])
), moved as (
    delete from live where ctid = any (array(
        select x.row from i cross join lateral (
            select l.ctid as row from live l where l.id = i.id and l.seq = i.seq and l.state = i.was limit 1
        ) x where reminder_moves(i.was, i.state))) returning 1
), endings as (
    insert into ending (reminder, state, reason, seq, at) select i.id, i.state, i.reason, i.seq + 1, i.at from i
), {_QUEUE_ROWS}, events as (
    insert into outbox (bucket, reminder, seq, id, topic, payload, traceparent)
    select i.id & 255, i.id, i.seq + 1, 0, $2, i.event, i.traceparent from i
), {_RIDERS}
{_COUNTS}
"""  # noqa: S608

_CORRECT: Final = f"""
with i as (
    select * from unnest($1::ended_row[])
), moved as (
    update ending e set state = s.state, reason = s.reason, seq = e.seq + 1
    from (select i.*, x.row from i cross join lateral (
        select e.ctid as row from ending e where e.reminder = i.id and e.seq = i.seq and e.state = i.was limit 1) x) s
    where e.ctid = s.row and (e.state = s.state or reminder_moves(e.state, s.state))
    returning 1
), events as (
    insert into outbox (bucket, reminder, seq, id, topic, payload, traceparent)
    select i.id & 255, i.id, i.seq + 1, 0, $2, i.event, i.traceparent from i
), {_RIDERS}
select (select count(*) from moved), 0, 0, (select count(*) from raised)
"""  # noqa: S608

# When no reminder moves.
_RIDERS_ALONE: Final = f"""
with i as (
    select * from unnest($1::ended_row[])
), {_RIDERS}
select 0, 0, 0, (select count(*) from raised), $2::text
"""  # noqa: S608

# The business key is free again when nobody was, or may have been, contacted under it.  Where a plan may want a contact
# under it that borrower is planned anew.
_FREE_STAGE: Final = """
with freed as (
    delete from stage_key s using reminder r
    where r.id = any($1::bigint[]) and s.key = r.stage_key and s.reminder = r.id
      and not exists (select 1 from attempt a where a.reminder = r.id and a.state not in ('not_sent', 'rejected'))
    returning r.id, r.subject, r.debt
)
insert into replan (reminder, subject)
select f.id, f.subject from freed f
where f.id = any($2::bigint[])
  and exists (select 1 from debt_fact d where d.subject = f.subject and d.debt = f.debt)
on conflict (reminder) do nothing
"""

_UNSETTLED: Final = """
insert into unsettled (id, since) select * from unnest($1::bigint[], $2::timestamptz[]) on conflict (id) do nothing
"""
_SETTLED: Final = "delete from unsettled where id = any($1::bigint[])"

# Attempt id, new state, failure, the provider's own code, when.
AttemptChange: TypeAlias = tuple[int, AttemptState, Failure | None, str | None, dt.datetime]
Ref: TypeAlias = tuple[str, str, int]  # provider, its message id, attempt

_STILL_OPEN: Final = frozenset({AttemptState.INTENDED, AttemptState.UNKNOWN, AttemptState.ACCEPTED, AttemptState.SENT})

# Nobody was told, as far as it is known: of what is intended only the sender can say.
_UNTOLD: Final = NO_CONTACT | {AttemptState.INTENDED}
_KEEPS_STAGE: Final = frozenset({ReminderState.DELIVERED, ReminderState.UNCONFIRMED})

_encode = msgspec.json.Encoder().encode


async def apply(
    connection: Connection,
    moves: Iterable[Move],
    attempts: Sequence[AttemptChange] = (),
    refs: Sequence[Ref] = (),
    changed: Iterable[Situation] = (),
) -> list[Move]:
    """Writes moves, at most one per reminder, changes of attempts, at most one each, and providers' message ids.

    `changed` are the reminders whose attempts change, also where they do not move themselves.  Returns the moves that
    followed, of reminders that share a message with these.

    Raises LostGuard when something no longer fits; then nothing is kept.  Message ids are kept in any order of arrival.
    """
    advance: list[Move] = []
    end: list[Move] = []
    correct: list[Move] = []
    for move in moves:
        (correct if move.correction else end if move.queue is None else advance).append(move)
    riders = _Riders([(*change, change[1] not in _STILL_OPEN) for change in attempts], sorted(set(refs)))
    touched = {move.was.id: move.was for move in (*advance, *end)} | {each.id: each for each in changed}
    await _note_unsettled(connection, touched.values(), {move.was.id for move in end})
    await stale.note(connection, [*advance, *end])
    await frozen.note(connection, [*advance, *end])
    if advance:
        await _run(connection, _ADVANCE, [_advance_row(move) for move in advance], riders)
    if end:
        await _run(connection, _END, [_end_row(move) for move in end], riders)
    if correct:
        await _run(connection, _CORRECT, [_end_row(move) for move in correct], riders)
    if riders.attempts or riders.refs:
        await _run(connection, _RIDERS_ALONE, [], riders)
    if free := [move for move in end if move.state not in _KEEPS_STAGE and move.reason is not Reason.MERGED_INTO]:
        again = [move.was.id for move in free if _leaves_a_gap(move)]
        await connection.execute(_FREE_STAGE, [move.was.id for move in free], again)
    return await _of_one_message(connection, [*advance, *end])


async def _of_one_message(connection: Connection, made: Sequence[Move]) -> list[Move]:
    """What waits on a leader is suppressed once somebody was told, or may have been, and goes by itself when the leader
    ends or is held before, or is put off for too long.  What waits no more is told of no more.
    """
    of_plans = [each for each in made if each.was.occasion is not None]
    told = [each.was.id for each in of_plans if any(a.state not in _UNTOLD for a in each.was.attempts)]
    over: dict[int, dt.datetime | None] = {each.was.id: None for each in of_plans if _leads_no_more(each)}
    over |= {each.was.id: each.at for each in of_plans if _is_put_off(each)}
    left = [each.was.id for each in made if _is_merged(each.was) and each.reason is not Reason.MERGED_INTO]
    if not told and not over and not left:
        return []
    now = made[0].now
    along = await situations.read(connection, await merged.waiting(connection, told))
    ended = [queueing.merged(was, now) for was in along.values()]
    ended += await apply(connection, ended)
    leaders = await merged.leave(connection, left)
    followers = await merged.let_go(connection, over)
    # Who has led is taken out of the hands he is in; where he waits himself by now he goes on waiting.
    planned = [
        move
        for was in (await situations.read(connection, [*leaders, *followers])).values()
        if (move := queueing.release(was, now) if was.id in followers else queueing.revise(was, now)) is not None
    ]
    return [*ended, *planned, *await apply(connection, planned)]


def _leaves_a_gap(move: Move) -> bool:
    """Whether a plan may want a contact in its place: it was on its way by another plan, or for upstream itself.

    Who cancels a request has not stopped the plan.
    """
    return move.was.occasion is None or move.was.closed in LIFTED


def _leads_no_more(move: Move) -> bool:
    if move.queue is None:
        return True
    return move.state is ReminderState.HELD and move.reason is not Reason.MERGED_INTO


def _is_put_off(move: Move) -> bool:
    return move.state is ReminderState.SCHEDULED and move.at > move.now


def _is_merged(was: Situation) -> bool:
    return was.state is ReminderState.HELD and was.reason is Reason.MERGED_INTO


async def _note_unsettled(connection: Connection, touched: Iterable[Situation], ended: Collection[int]) -> None:
    """Keeps the list of living reminders that have an attempt of unknown outcome."""
    enter, leave = [], []
    for each in touched:
        alive = each.queue is not None and each.id not in ended
        unknown = alive and any(attempt.state is AttemptState.UNKNOWN for attempt in each.attempts)
        if unknown and not each.unsettled:
            enter.append(each)
        elif each.unsettled and not unknown:
            leave.append(each.id)
    if enter:
        await connection.execute(_UNSETTLED, [each.id for each in enter], [_since(each) for each in enter])
    if leave:
        await connection.execute(_SETTLED, leave)


def _since(was: Situation) -> dt.datetime:
    return min(each.intended_at for each in was.attempts if each.state is AttemptState.UNKNOWN)


@dataclass(slots=True)
class _Riders:
    """What goes with the first statement that is run."""

    attempts: list[tuple[Any, ...]]
    refs: list[Ref]


async def _run(connection: Connection, sql: str, rows: Sequence[tuple[Any, ...]], riders: _Riders) -> None:
    found = await connection.fetchrow(sql, rows, EVENTS_TOPIC, riders.attempts, riders.refs)
    moved, left, expected, raised = found[:4]
    if moved != len(rows) or left != expected or raised != len(riders.attempts):
        raise LostGuard(
            f"{len(rows)} planned, {moved} moved; {expected} queue rows expected, {left} found; "
            f"{len(riders.attempts)} attempts planned, {raised} moved"
        )
    riders.attempts, riders.refs = [], []


def _advance_row(move: Move) -> tuple[Any, ...]:
    was = move.was
    stays = move.queue is was.queue and (move.at == was.at or move.queue is Queue.CLAIM)
    return (
        was.id, was.seq, was.state, move.state, move.reason, _place(was), move.at,
        None if stays else was.queue, None if stays else move.queue,
        move.rung, move.tries, move.rescues, move.closed, move.resume_at, event_of(move) if move.emit else None,
        was.lane, was.traceparent,
    )  # fmt: skip


def _end_row(move: Move) -> tuple[Any, ...]:
    was = move.was
    return (
        was.id, was.seq, was.state, move.state, move.reason, _place(was), move.at, was.queue, event_of(move), was.lane,
        was.traceparent,
    )  # fmt: skip


def _place(was: Situation) -> dt.datetime | None:
    """What finds the queue row besides its id; a claim needs nothing else."""
    return None if was.queue is Queue.CLAIM else was.at


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


def change_of(attempt: Attempt, now: dt.datetime) -> AttemptChange:
    """The change that an attempt has gone through by `become`."""
    return (attempt.id, attempt.state, attempt.failure, attempt.code, now)
