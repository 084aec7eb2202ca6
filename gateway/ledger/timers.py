"""Timers: receipt windows that close, silence after which the next contact is tried, what is held and looked at again.

What a freeze holds has its timer at `not_after` and leaves by `releases`.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from gateway.ledger import follow, freezes, moves, queueing, situations, streams, subjects, writing
from gateway.ledger.database import Connection
from gateway.ledger.standing import Move, Queue, Rules
from schemas.vocabulary import Reason, ReminderState

_RIPE: Final = """
select t.id, l.subject from (select t.id, t.at from timer t where t.at <= $1 order by t.at, t.id limit $2) t
cross join lateral (select l.subject from live l where l.id = t.id offset 0) l order by t.at, t.id
"""


async def fire(connection: Connection, now: dt.datetime, rules: Rules, limit: int = 200) -> list[Move]:
    """Moves up to `limit` reminders whose timer is ripe at business time `now`; repeatable."""
    in_force = await freezes.read_shared(connection, now)
    ripe = await connection.fetch(_RIPE, now, limit)
    held = await subjects.lock(connection, (row[1] for row in ripe))
    planned = []
    changes: list[writing.AttemptChange] = []
    found = await situations.read(connection, [row[0] for row in ripe])
    frozen = await freezes.holders(connection, found, in_force, rules)
    flowing = await streams.flowing(connection, found.values(), now, rules)
    for was in found.values():
        if was.queue is not Queue.TIMER or was.at > now:
            continue
        if was.state is ReminderState.AWAITING or was.reason is Reason.RECEIPTS_UNHEALTHY:
            move = follow.wake(was, now, rules, healthy=was.id in flowing)
            planned.append(move)
            if move.queue is None:
                changes += [writing.change_of(each, now) for each in follow.close_open(was, now)]
        elif now >= was.not_after:
            planned.append(follow.expire(was, now))
            changes += [writing.change_of(each, now) for each in follow.close_open(was, now)]
        elif was.id in frozen or was.reason is Reason.FROZEN:
            # The second: held by a process of the version before, which looks at each again and again.
            planned.append(queueing.freeze(was, now, frozen.get(was.id, freezes.OF_NONE)))
        elif was.subject in held:
            planned.append(queueing.hold(was, Reason.STOP_UNREADABLE, now, now + rules.freeze_recheck))
        else:
            planned.append(queueing.release(was, now))
    planned += await moves.apply(connection, planned, changes)
    return planned
