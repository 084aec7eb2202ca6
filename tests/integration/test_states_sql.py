"""The state tables in SQL are those of gateway/ledger/states.py, pair by pair."""

from itertools import product
from typing import Any

import asyncpg

from gateway.ledger.states import ATTEMPT_RANK, attempt_moves, reminder_moves
from schemas.vocabulary import AttemptState, ReminderState


async def pairs(database: str, query: str, *args: Any) -> dict[Any, Any]:
    connection = await asyncpg.connect(database)
    try:
        return {
            row[:-1] if len(row) > 2 else row[0]: row[-1] for row in map(tuple, await connection.fetch(query, *args))
        }
    finally:
        await connection.close()


async def test_the_types_hold_exactly_the_vocabulary(database: str) -> None:
    found = await pairs(
        database,
        "select t.typname || '.' || e.enumlabel, 1 from pg_enum e join pg_type t on t.oid = e.enumtypid "
        "where t.typname in ('attempt_state', 'reminder_state')",
    )
    assert set(found) == {f"attempt_state.{each}" for each in AttemptState} | {
        f"reminder_state.{each}" for each in ReminderState
    }


async def test_every_pair_of_attempt_states(database: str) -> None:
    found = await pairs(
        database,
        "select a::text, b::text, attempt_moves(a, b) from unnest(enum_range(null::attempt_state)) a, "
        "unnest(enum_range(null::attempt_state)) b",
    )
    assert found == {(str(a), str(b)): attempt_moves(a, b) for a, b in product(AttemptState, repeat=2)}


async def test_every_rank(database: str) -> None:
    found = await pairs(database, "select a::text, attempt_rank(a) from unnest(enum_range(null::attempt_state)) a")
    assert found == {str(state): rank for state, rank in ATTEMPT_RANK.items()}


async def test_every_pair_of_reminder_states(database: str) -> None:
    found = await pairs(
        database,
        "select a::text, b::text, reminder_moves(a, b) from unnest(enum_range(null::reminder_state)) a, "
        "unnest(enum_range(null::reminder_state)) b",
    )
    assert found == {(str(a), str(b)): reminder_moves(a, b) for a, b in product(ReminderState, repeat=2)}
