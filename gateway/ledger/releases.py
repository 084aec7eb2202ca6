"""Releases: what a freeze has held leaves by and by when it is over, by one timetable for all processes.

So does what was held for facts that are fresh again, see `stale`.

Urgent before bulk, then by when it was to go.  Every reminder whose time has come gets the timetable's next free place,
`release_per_second` places a second, and is due then.  What is to go later goes when it was to, without a place.  What
is past its `not_after` ends expired, and what another freeze covers is held by that one.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.ledger import follow, freezes, frozen, moves, queueing, situations, subjects, writing
from gateway.ledger.database import Connection
from gateway.ledger.standing import Move, Queue, Rules, Situation
from schemas.vocabulary import Reason, ReminderState

# The first place is behind the moment by which every process has heard that the freeze is over; places are given
# out for longer than a round of recovery takes.
LEAD: Final = dt.timedelta(seconds=2)
AHEAD: Final = dt.timedelta(seconds=5)

# Who finds another process at it leaves it to that one.
_NEXT: Final = "select greatest(next_at, $1) from release_pace for update skip locked"
_TAKE: Final = "update release_pace set next_at = $1"
_TURN: Final = """
select f.id, f.subject, f.missed from unnest($1::bigint[]) as h(freeze_id)
cross join unnest(enum_range(null::lane)) as n(lane)
cross join lateral (
    select w.id, w.lane, w.at, true as missed, l.subject from (
        select id, lane, at from frozen where held_by = h.freeze_id and lane = n.lane and at <= $2
        order by at, id limit $3
    ) w left join lateral (select l.subject from live l where l.id = w.id offset 0) l on true
    union all
    select w.id, w.lane, w.at, false, l.subject from (
        select id, lane, at from frozen where held_by = h.freeze_id and lane = n.lane and at > $2
        order by at, id limit $4
    ) w left join lateral (select l.subject from live l where l.id = w.id offset 0) l on true
) f
order by f.missed desc, f.lane, f.at, f.id
"""


@dataclass(frozen=True, slots=True)
class Released:
    """The moves, and whether there may be more to do at once."""

    moves: list[Move]
    more: bool


async def release(connection: Connection, now: dt.datetime, rules: Rules, limit: int = 200) -> Released:
    """Moves up to `limit` reminders that no freeze in force holds any more; repeatable by any number of processes."""
    in_force = await freezes.read_shared(connection, now)
    ended = await frozen.ended(connection, in_force.ids)
    if not ended:
        return Released([], more=False)
    free_at = await connection.fetchval(_NEXT, now + LEAD)
    if free_at is None:
        return Released([], more=False)
    rate = rules.release_per_second
    horizon = (now + LEAD + AHEAD - free_at).total_seconds()
    # One at least where there is a horizon: with few places a second the next free one is the only one before it.
    places = 0 if horizon <= 0 else min(max(math.floor(horizon * rate), 1), limit)
    rows = await connection.fetch(_TURN, ended, now, places, limit)
    missed = [row[:2] for row in rows if row[2]][:places]
    turn = [*missed, *(row[:2] for row in rows if not row[2])][:limit]
    timetable = _Timetable(free_at, dt.timedelta(seconds=1 / rate))
    planned = await _move(connection, turn, now, in_force, rules, timetable)
    if timetable.taken:
        await connection.execute(_TAKE, timetable.next_at)
    return Released(planned, more=len(turn) >= limit)


@dataclass(slots=True)
class _Timetable:
    free_at: dt.datetime
    step: dt.timedelta
    taken: int = 0

    @property
    def next_at(self) -> dt.datetime:
        return self.free_at + self.taken * self.step

    def take(self) -> dt.datetime:
        place = self.next_at
        self.taken += 1
        return place


async def _move(
    connection: Connection,
    turn: Sequence[tuple[int, bytes | None]],
    now: dt.datetime,
    in_force: freezes.Freezes,
    rules: Rules,
    timetable: _Timetable,
) -> list[Move]:
    unreadable = await subjects.lock(connection, (subject for _, subject in turn if subject is not None))
    found = await situations.read(connection, [reminder for reminder, _ in turn])
    held = {id_: was for id_, was in found.items() if _waits(was)}
    # Left behind by a process of a version that knew nothing of these rows.
    if gone := [reminder for reminder, _ in turn if reminder not in held]:
        await frozen.leave(connection, gone)
    holders = await freezes.holders(connection, held, in_force, rules)
    planned: list[Move] = []
    changes: list[writing.AttemptChange] = []
    for reminder, _ in turn:
        was = held.get(reminder)
        if was is None:
            continue
        if now >= was.not_after:
            planned.append(follow.expire(was, now))
            changes += [writing.change_of(each, now) for each in follow.close_open(was, now)]
        elif was.id in holders:
            planned.append(queueing.freeze(was, now, holders[was.id]))
        elif was.subject in unreadable:
            planned.append(queueing.hold(was, Reason.STOP_UNREADABLE, now, now + rules.freeze_recheck))
        elif was.resume_at is not None and was.resume_at > now:
            planned.append(queueing.release(was, now))
        else:
            planned.append(queueing.release(was, now, timetable.take()))
    planned += await moves.apply(connection, planned, changes)
    return planned


def _waits(was: Situation) -> bool:
    reasons = (Reason.FROZEN, Reason.STALE_FACTS)
    return was.state is ReminderState.HELD and was.reason in reasons and was.queue is Queue.TIMER
