"""What freezes hold: one row per reminder, beside its timer, under the freeze that was found first.

While a freeze is in force its reminders cost nothing: no timer looks at them before `not_after`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from gateway.ledger.database import Connection
from gateway.ledger.standing import Move
from schemas.vocabulary import Lane, Reason, ReminderState

Row: TypeAlias = tuple[int, int, Lane, dt.datetime]  # reminder, freeze, lane, when it was to go

_ENTER: Final = """
insert into frozen (id, held_by, lane, at) select * from unnest($1::frozen_row[])
on conflict (id) do update set held_by = excluded.held_by, at = excluded.at
"""
# A step from freeze to freeze, whatever each of them holds.
_HOLDERS: Final = """
with recursive holder(freeze_id) as (
    (select held_by from frozen order by held_by limit 1)
    union all
    select (select f.held_by from frozen f where f.held_by > h.freeze_id order by f.held_by limit 1)
    from holder h where h.freeze_id is not null
)
select freeze_id from holder where freeze_id is not null and freeze_id <> all($1::bigint[])
"""
# The cap is written out: the planner would take the limit for a large one if it were a parameter.
_WAITING: Final = "select count(*) from (select from frozen where held_by = any($1::bigint[]) limit 10001) as first"
_LEAVE: Final = "delete from frozen where id = any($1::bigint[])"


async def enter(connection: Connection, rows: Sequence[Row]) -> None:
    await connection.execute(_ENTER, rows)


async def leave(connection: Connection, reminders: Sequence[int]) -> None:
    await connection.execute(_LEAVE, reminders)


async def ended(connection: Connection, in_force: Sequence[int]) -> list[int]:
    """The ids under which something is held that no freeze in force has."""
    return [row[0] for row in await connection.fetch(_HOLDERS, in_force)]


async def waiting(connection: Connection, in_force: Sequence[int]) -> int:
    """How many no freeze holds any more and have not had their turn, at most `freezes.HELD_CAP`."""
    over = await ended(connection, in_force)
    n: int = await connection.fetchval(_WAITING, over) if over else 0
    return n


async def note(connection: Connection, moves: Iterable[Move]) -> None:
    """Keeps the rows in step with these moves; no statement where no freeze has a part in them."""
    entering: list[Row] = []
    leaving: list[int] = []
    for move in moves:
        was = move.was
        if move.queue is not None and move.state is ReminderState.HELD and move.reason is Reason.FROZEN:
            entering.append((was.id, move.freeze, was.lane, move.resume_at or move.now))
        elif was.state is ReminderState.HELD and was.reason is Reason.FROZEN:
            leaving.append(was.id)
    if entering:
        await enter(connection, entering)
    if leaving:
        await leave(connection, leaving)
