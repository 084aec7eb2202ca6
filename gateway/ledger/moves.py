"""The one way in which reminders move: what is planned is written, and what follows from it for others is, too.

`apply` takes planned moves; `writing` has the statements.  The borrower's lock keeps everybody out but a claim; if that
was first, the transaction is refused and planned again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from gateway.ledger import frozen, merged, queueing, situations, stale, writing
from gateway.ledger.database import Connection
from gateway.ledger.standing import LIFTED, Move, Situation
from gateway.ledger.states import NO_CONTACT
from gateway.ledger.writing import AttemptChange, Ref
from schemas.vocabulary import AttemptState, Reason, ReminderState

# The business key is free again when nobody was, or may have been, contacted under it.  Where a plan may want a contact
# under it that borrower is planned anew; so is who may have got other contacts while the last of those he had failed.
_FREE_STAGE: Final = """
with freed as (
    delete from stage_key s using (
        select r.id, r.subject, r.debt, k.row from unnest($1::bigint[]) as i(id)
        cross join lateral (select * from reminder r where r.id = i.id offset 0) r
        cross join lateral (
            select s.ctid as row from stage_key s where s.key = r.stage_key and s.reminder = r.id offset 0
        ) k
        left join lateral (
            select true as contacted from attempt a
            where a.reminder = r.id and a.state not in ('not_sent', 'rejected') limit 1
        ) a on true
        where a.contacted is null
    ) r where s.ctid = r.row
    returning r.id, r.subject, r.debt
)
insert into replan (reminder, subject)
select f.id, f.subject from freed f
left join lateral (select true as revised from revision v where v.reminder = f.id offset 0) v on true
cross join lateral (select 1 from debt_fact d where d.subject = f.subject and d.debt = f.debt offset 0) d
where f.id = any($2::bigint[]) or (f.id = any($3::bigint[]) and v.revised)
on conflict (reminder) do nothing
"""

_UNSETTLED: Final = """
insert into unsettled (id, since) select * from unnest($1::bigint[], $2::timestamptz[]) on conflict (id) do nothing
"""
_SETTLED: Final = "delete from unsettled where id = any($1::bigint[])"

# Nobody was told, as far as it is known: of what is intended only the sender can say.
_UNTOLD: Final = NO_CONTACT | {AttemptState.INTENDED}
_KEEPS_STAGE: Final = frozenset({ReminderState.DELIVERED, ReminderState.UNCONFIRMED})


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
    touched = {move.was.id: move.was for move in (*advance, *end)} | {each.id: each for each in changed}
    await _note_unsettled(connection, touched.values(), {move.was.id for move in end})
    await stale.note(connection, [*advance, *end])
    await frozen.note(connection, [*advance, *end])
    await writing.write(connection, advance, end, correct, attempts, refs)
    if free := [move for move in end if move.state not in _KEEPS_STAGE and move.reason is not Reason.MERGED_INTO]:
        again = [move.was.id for move in free if _leaves_a_gap(move)]
        exhausted = [move.was.id for move in free if move.reason is Reason.CONTACTS_EXHAUSTED]
        await connection.execute(_FREE_STAGE, [move.was.id for move in free], again, exhausted)
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
