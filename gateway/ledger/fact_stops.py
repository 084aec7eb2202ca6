"""Facts that stop: they end what waits, answer for what may have left, and leave tombstones for what comes later.

The borrower's lock is held, and all of it is in the transaction that keeps the facts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from gateway.ledger import follow, merged, moves, outbox, situations, stops, tombstones
from gateway.ledger.commands import Cause
from gateway.ledger.database import Connection
from gateway.ledger.standing import Move, Rules, Situation
from gateway.ledger.states import NO_CONTACT
from gateway.ledger.tombstones import Stones
from schemas.vocabulary import Reason, ReminderState

_LIVING: Final = """
select l.id, l.subject, r.debt, r.instalment, r.state_as_of
from unnest($1::bytea[]) as i(subject)
cross join lateral (select l.id, l.subject from live l where l.subject = i.subject offset 0) l
cross join lateral (select * from reminder r where r.id = l.id offset 0) r
"""


class _Living(Struct, frozen=True, gc=False):
    id: int
    subject: bytes
    debt: str
    instalment: int | None
    state_as_of: dt.datetime


async def write(
    connection: Connection,
    changed: Mapping[bytes, Stones],
    by: Mapping[bytes, Cause],
    planned: Collection[int],
    now: dt.datetime,
    rules: Rules,
) -> list[Move]:
    """Obeys what facts have changed, by borrower, for all that was requested: `planned` are those that was not.

    `by` are the facts that are answered.
    """
    await tombstones.replace(connection, changed)
    whom = [subject for subject, each in changed.items() if each.buried]
    if not whom:
        return []
    reasons: dict[int, Reason] = {}
    for row in await connection.fetch(_LIVING, whom):
        mine = _Living(*row)
        if mine.id not in planned and (reason := tombstones.stopped(mine, changed[mine.subject].buried.items())):
            reasons[mine.id] = reason
    found = await situations.read(connection, reasons)
    ended = [(was, reasons[was.id], by[was.subject]) for was in found.values()]
    return await end(connection, ended, now, rules)


async def end(
    connection: Connection, stopped: Sequence[tuple[Situation, Reason, Cause]], now: dt.datetime, rules: Rules
) -> list[Move]:
    """Ends what is to be none any more.  What may have left already is answered, where somebody has stopped it.

    What is closed already stays as it is, and is not answered again.
    """
    made: list[Move] = []
    late: list[tuple[int, int, bytes, str | None]] = []
    leaving = await merged.leaving(connection, [was.id for was, _, _ in stopped if was.reason is Reason.MERGED_INTO])
    for was, reason, cause in stopped:
        if was.closed is not None:
            continue
        move, too_late = follow.cancel(was, reason, now, rules)
        if move is not None:
            made.append(move)
        # A plan that is another stops nothing: what has left only goes no further.
        if (too_late or was.id in leaving) and reason is not Reason.REPLANNED:
            late.append((was.id, cause.id, stops.too_late(was, now), cause.traceparent))
    made += await moves.apply(connection, made)
    await outbox.add(connection, late)
    return made


def under_way(was: Situation) -> bool:
    """Whether anybody was, or may have been, contacted already: such a reminder is not made anew."""
    return was.state is ReminderState.SENDING or any(each.state not in NO_CONTACT for each in was.attempts)
