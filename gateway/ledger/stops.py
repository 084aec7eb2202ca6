"""Stops beat sends: tombstones for what comes later, moves for what is here, holds for what could not be read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from gateway.ids import to_reference
from gateway.ledger import follow, merged, moves, outbox, queueing, situations, subjects, tombstones, writing
from gateway.ledger.commands import Stop
from gateway.ledger.database import Connection
from gateway.ledger.standing import Move, Rules, Situation
from schemas.messages import ReminderStatus
from schemas.vocabulary import Answer, Reason, ReminderState

_BY_REQUEST: Final = """
select r.id from inbox i
cross join lateral (select r.id from reminder r where r.id = i.reminder and r.subject = $2 offset 0) r where i.key = $1
"""
_LIVING: Final = """
select l.id from live l
cross join lateral (select r.state_as_of, r.debt from reminder r where r.id = l.id offset 0) r
where l.subject = $1 and r.state_as_of <= $2 and ($3::text is null or r.debt = $3)
"""
_LIVE_OF: Final = "select id from live where subject = any($1::bytea[])"

_encode = msgspec.json.Encoder().encode


async def write(connection: Connection, stops: Sequence[Stop], now: dt.datetime, rules: Rules) -> list[Move]:
    """Applies stops whose subjects are locked, in their order: tombstone, moves, answers."""
    await tombstones.bury(connection, [(each.subject, each.kind, each.value, each.as_of) for each in stops])
    made: list[Move] = []
    for stop in stops:
        made += await _cancel(connection, stop, await _named(connection, stop), now, rules)
    return made


async def _named(connection: Connection, stop: Stop) -> list[int]:
    if stop.request_key is not None:
        rows = await connection.fetch(_BY_REQUEST, stop.request_key, stop.subject)
    else:
        debt = stop.value if stop.kind == "debt" else None
        rows = await connection.fetch(_LIVING, stop.subject, stop.as_of, debt)
    return [row[0] for row in rows]


async def _cancel(
    connection: Connection, stop: Stop, reminders: list[int], now: dt.datetime, rules: Rules
) -> list[Move]:
    planned = []
    late = []
    found = await situations.read(connection, reminders)
    leaving = await merged.leaving(connection, [was.id for was in found.values() if was.reason is Reason.MERGED_INTO])
    for was in found.values():
        move, has_left = follow.cancel(was, stop.reason, now, rules)
        if move is not None:
            planned.append(move)
        if has_left or was.id in leaving:
            late.append(was)
    planned += await moves.apply(connection, planned)
    await outbox.add(
        connection,
        [
            # One answer per stop and reminder, also when the stop is read twice.
            (was.id, stop.id, too_late(was, now), stop.traceparent)
            for was in late
        ],
    )
    return planned


def too_late(was: Situation, now: dt.datetime) -> bytes:
    """The answer to a stop of what may have left already."""
    return _encode(
        ReminderStatus(
            lender=was.lender,
            source=was.source,
            request_id=was.request_id,
            at=now,
            answer=Answer.TOO_LATE,
            reminder=to_reference(was.id),
            attempts=tuple(map(writing.summary_of, was.attempts)),
        )
    )


async def opt_out(
    connection: Connection, since: Mapping[bytes, dt.datetime], now: dt.datetime, rules: Rules
) -> list[Move]:
    """These borrowers want no more reminders of their lender: what is here is stopped, what comes is born suppressed.

    Unless they have agreed again after they had said so.  The caller holds their locks.
    """
    if not since:
        return []
    out = await tombstones.opt_out(connection, since)
    rows = await connection.fetch(_LIVE_OF, sorted(out))
    found = (await situations.read(connection, [row[0] for row in rows])).values()
    planned = [move for was in found if (move := follow.cancel(was, Reason.OPTED_OUT, now, rules)[0]) is not None]
    planned += await moves.apply(connection, planned)
    return planned


async def hold_unreadable(
    connection: Connection, keys: Collection[bytes], now: dt.datetime, rules: Rules
) -> list[Move]:
    """Holds these subjects for a stop that could not be read.  Losing a stop is worse than losing a reminder."""
    if not keys:
        return []
    await subjects.hold(connection, sorted(keys), now)
    rows = await connection.fetch(_LIVE_OF, sorted(keys))
    planned = [
        queueing.hold(was, Reason.STOP_UNREADABLE, now, now + rules.freeze_recheck)
        for was in (await situations.read(connection, [row[0] for row in rows])).values()
        if was.state is ReminderState.SCHEDULED
    ]
    planned += await moves.apply(connection, planned)
    return planned


async def released(connection: Connection, key: bytes) -> bool:
    """Lifts a subject's hold after somebody has looked; the timers release its reminders."""
    await subjects.lock(connection, [key])
    return await subjects.clear(connection, key)
