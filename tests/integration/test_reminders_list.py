"""Reminders by borrower, debt, lender, state: pages of them, and no more looked at than is said."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateway.ids import first_id_at, stage_key, subject_key
from gateway.ledger import reminders
from gateway.ledger.commands import Request
from gateway.ledger.database import Database
from gateway.ledger.pages import Range
from gateway.ledger.reminders import Which
from schemas.vocabulary import AttemptState, ReminderState
from tests.integration.by_hand import HOUR, Hand, hand

ALL, ANY = Range(), Which()


@pytest.fixture
async def mine(database: str) -> AsyncIterator[Hand]:
    async with hand(database) as made:
        yield made


async def ids(mine: Hand, within: Range = ALL, which: Which = ANY, limit: int = 50, of: str | None = None) -> list[int]:
    keys = [] if of is None else [subject_key("acme", of)]
    return [each.id for each in (await reminders.newest(mine.connection, within, which, limit, keys)).rows]


async def three(mine: Hand) -> tuple[Request, Request, Request]:
    """One that waits for its time, one that is delivered, one that is held for a stop nobody could read."""
    sending = await mine.sending()
    await mine.record(sending, AttemptState.ACCEPTED)
    await mine.receipt(sending, AttemptState.DELIVERED)
    held = await mine.born(send_at=mine.now + HOUR, debt="mortgage")
    await mine.read(mine.unreadable(held))
    waits = await mine.born("sv", send_at=mine.now + HOUR, source="other")
    return waits, sending.request, held


async def test_by_what_people_know(mine: Hand) -> None:
    waits, delivered, held = await three(mine)
    names = {waits.id: "waits", delivered.id: "delivered", held.id: "held"}

    async def found(of: str | None = None, **which: Any) -> list[str]:
        return [names[each] for each in await ids(mine, which=Which(**which), of=of)]

    assert await found() == ["waits", "held", "delivered"]
    for states, expected in (
        ({"scheduled"}, ["waits"]),
        ({"held", "scheduled"}, ["waits", "held"]),
        ({"delivered"}, ["delivered"]),
        ({"delivered", "held"}, ["held", "delivered"]),
        ({"expired"}, []),
    ):
        assert await found(states=frozenset(map(ReminderState, states))) == expected
    assert await found(reason="stop_unreadable") == ["held"]
    assert await found(lender="acme") == ["waits", "held", "delivered"]
    assert await found(lender="harbour") == []
    assert await found(debt="mortgage") == ["held"]
    assert await found(source="other") == ["waits"]
    assert await found(borrower=held.borrower) == ["held"]
    assert await found(borrower=delivered.borrower, of=delivered.borrower) == ["delivered"]
    assert await found(borrower=delivered.borrower, of=delivered.borrower, debt="mortgage") == []

    rows = (await reminders.newest(mine.connection, ALL, ANY, 50)).rows
    assert [(each.state, each.reason, each.rung, each.contacts) for each in rows] == [
        ("scheduled", None, 0, ["sms", "voice"]),
        ("held", "stop_unreadable", 0, ["sms"]),
        ("delivered", None, None, ["sms"]),
    ]
    assert rows[0].at == waits.send_at
    assert (rows[1].borrower, rows[1].debt, rows[1].request_id) == (held.borrower, "mortgage", held.request_id)


async def test_pages(mine: Hand) -> None:
    born = [(await mine.born(send_at=mine.now + HOUR)).id for _ in range(5)][::-1]
    same = [
        (await mine.born(borrower="b", debt=f"d{n}", stage_key=stage_key("acme", "b", f"d{n}", None, "d3", ""))).id
        for n in range(5)
    ][::-1]
    for everything, of in ((same + born, None), (same, "b")):
        seen: list[int] = []
        within = ALL
        while page := await ids(mine, within, limit=2, of=of):
            assert len(page) <= 2
            seen += page
            within = Range(high=page[-1])
        assert seen == everything
    now = dt.datetime.now(dt.UTC)
    assert await ids(mine, Range.of(now - HOUR, None)) == same + born
    assert await ids(mine, Range.of(now + HOUR, None)) == []
    assert await ids(mine, Range.of(None, now - HOUR)) == []
    assert Range.of(now, now, 7) == Range(first_id_at(int(now.timestamp() * 1000)), 7)


@pytest.mark.parametrize(
    "states", [frozenset(), frozenset({ReminderState.SCHEDULED}), frozenset({ReminderState.CANCELLED})]
)
async def test_no_more_is_looked_at_than_is_said(
    mine: Hand, states: frozenset[ReminderState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is further back is found from where it was told that it had been looked."""
    born = [await mine.born(send_at=mine.now + HOUR, source="rare" if n == 0 else "core") for n in range(6)]
    if ReminderState.CANCELLED in states:
        for each in born:
            await mine.read(mine.stop(each))
    monkeypatch.setattr(reminders, "LOOKED_AT", 4)
    rare = Which(states, source="rare")
    first = await reminders.newest(mine.connection, ALL, rare, 5)
    assert (first.rows, first.looked_to) == ([], born[1].id + 1)
    on = await reminders.newest(mine.connection, Range(high=first.looked_to or 0), rare, 5)
    assert ([each.id for each in on.rows], on.looked_to) == ([born[0].id], None)
    # A borrower's are found wherever they are.
    found = await reminders.newest(mine.connection, ALL, rare, 5, [born[0].subject])
    assert ([each.id for each in found.rows], found.looked_to) == ([born[0].id], None)


async def test_each_page_is_found_by_an_index(database: str) -> None:
    """As the service's own connections plan it, whatever the table holds."""
    ledger = Database(database, size=1, statement_timeout_ms=10_000)
    await ledger.open()
    try:
        async with ledger.connection() as connection:
            for sql, index in (
                (reminders._OF_BORROWER, "subject_id_idx"),
                (reminders._PAGES["live"], "live_pkey"),
                (reminders._PAGES["ending"], "ending_pkey"),
                (reminders._PAGES["reminder"], "_pkey"),
            ):
                plan = await plan_of(connection, sql)
                assert index in plan, plan
                assert "Seq Scan" not in plan, plan
    finally:
        await ledger.close()


async def plan_of(connection: asyncpg.Connection, sql: str) -> str:
    types = "bigint, bigint, text[], text, text, text, text, text, bigint" + (", bytea[]" if "$10" in sql else "")
    values = "0, 9223372036854775807, null, null, null, null, null, null, 10" + (", '{}'" if "$10" in sql else "")
    await connection.execute(f"prepare asked ({types}) as {sql}")
    plan = await connection.fetch(f"explain execute asked ({values})")
    await connection.execute("deallocate asked")
    return "\n".join(row[0] for row in plan)
