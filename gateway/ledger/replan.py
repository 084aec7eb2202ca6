"""Who is planned anew without a new fact: something else was under way in the place of a plan's reminder, and has
reached nobody.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from gateway.ledger import freezes, plans, subjects
from gateway.ledger.commands import Cause, Origin
from gateway.ledger.database import Connection
from gateway.ledger.plans import Written
from gateway.ledger.standing import Rules
from gateway.ledger.wanted import Planner

_WAITING: Final = "select reminder from replan where reminder > $1 order by reminder limit $2"
_CAUSE: Final = """
select topic, partition, "offset", id, source, subject, lender, borrower, traceparent from reminder where id = $1
"""
# One plan is all of a borrower's.
_TAKE: Final = "delete from replan where subject = $1 returning reminder"
_FORGET: Final = "delete from replan where reminder = $1"


async def waiting(connection: Connection, after: int = 0, limit: int = 200) -> list[int]:
    """Reminders whose borrowers are to be planned anew, in the order of their ids, behind `after`."""
    return [row[0] for row in await connection.fetch(_WAITING, after, limit)]


async def plan(connection: Connection, reminder: int, now: dt.datetime, rules: Rules, planner: Planner) -> Written:
    """Plans the borrower of this reminder anew; repeatable by any number of processes.

    Raises FactsBroken, KeyUnknown and LenderGone as plans do; then he waits further.
    """
    row = await connection.fetchrow(_CAUSE, reminder)
    if row is None:  # kept no longer
        await connection.execute(_FORGET, reminder)
        return Written()
    cause = Cause(Origin(*row[:3]), *row[3:])
    in_force = await freezes.read_shared(connection, now)
    await subjects.lock(connection, [cause.subject])
    if not await connection.fetch(_TAKE, cause.subject):
        return Written()
    return await plans.again(connection, cause, now, in_force, rules, planner)
