"""The head of the queue: a claim costs the same however many rows are gone, and none that enters behind is lost."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from gateway.dispatch.head import Head
from gateway.ledger import claims, intake
from gateway.ledger.accept import Slots
from gateway.ledger.claims import FRONT, Claimed, Place
from schemas.vocabulary import Lane
from tests.integration.by_hand import TOPIC, Hand, hand

GONE = 40_000
SECOND = dt.timedelta(seconds=1)
# Rows that are claimed and gone in whatever way: what is left of each is its entry in the index.
_GONE = """
insert into due select $1::lane, $2::timestamptz - n * interval '1 ms', n from generate_series(1, $3) n
"""


async def pages(it: Hand, worker: int, since: tuple[Place, Place]) -> int:
    """How many pages a claim of ten reads, by Postgres's own count; nothing comes of it."""
    transaction = it.connection.transaction()
    await transaction.start()
    args = (worker, it.now, 10, 10, it.id(), *since[0], *since[1])
    [row] = await it.connection.fetch(f"explain (analyze, buffers, format json) {claims._CLAIM}", *args)
    await transaction.rollback()
    [found] = msgspec.json.decode(row[0])
    return int(found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"])


@pytest.mark.parametrize("lane", list(Lane))
async def test_what_is_gone_costs_a_claim_at_the_head_nothing(database: str, lane: Lane) -> None:
    async with hand(database) as it:
        await it.connection.execute("alter table due set (autovacuum_enabled = off)")
        worker = await it.worker()
        for _ in range(20):
            await it.born(lane=lane)
        before = await pages(it, worker.id, (FRONT, FRONT))
        await it.connection.execute(_GONE, lane.value, it.now, GONE)
        await it.connection.execute("delete from due where id <= $1", GONE)
        place = (it.now, 0)
        found = [await pages(it, worker.id, (FRONT, FRONT)) for _ in range(2)]
        at_head = await pages(it, worker.id, (place, place))
        # Of an index of some four hundred entries a page, all the dead ones; and not one of them.
        assert min(found) > before + GONE // 500
        assert at_head <= before + 5


async def test_what_enters_behind_the_head_is_found_from_the_front(database: str) -> None:
    async with hand(database) as it:
        worker = await it.worker()
        watch = [0.0]
        head = Head(lambda: watch[0])

        async def claim() -> list[int]:
            rows = await claims.claim(it.connection, worker.id, it.now, 10, 10, it.id(), head.begin())
            head.took(rows, plenty=True)
            return [each.id for each in rows]

        first = await it.born()
        it.later(1)
        second = await it.born()
        assert await claim() == [first.id, second.id]
        # By a clock that is behind ours, or put back where it was before.
        it.now -= SECOND
        late = await it.born()
        it.now += SECOND
        urgent = await it.born(lane=Lane.URGENT)
        assert await claim() == [urgent.id]
        watch[0] = 1.0
        assert await claim() == [late.id]


async def test_of_rows_due_at_one_moment_the_head_is_between_two(database: str) -> None:
    async with hand(database) as it:
        worker = await it.worker()
        born = sorted([(await it.born()).id for _ in range(5)])
        head = Head(lambda: 0.0)
        taken: list[Claimed] = []
        for _ in range(3):
            rows = await claims.claim(it.connection, worker.id, it.now, 2, 2, it.id(), head.begin())
            head.took(rows, plenty=True)
            taken += rows
        assert [each.id for each in taken] == born


@pytest.mark.parametrize(("ahead", "fast"), [(0, False), (1, True)])
async def test_the_fast_path_asks_for_nothing_before_the_head(database: str, ahead: int, fast: bool) -> None:
    """A request goes straight on where nothing is known to wait: from the place on, and that row is after it or not."""
    async with hand(database) as it:
        worker = await it.worker()
        waiting = await it.born()
        it.later(2)
        place = (it.now - (2 - ahead) * SECOND, waiting.id)
        slots = Slots(worker.id, it.id(), 5, {Lane.BULK: place})
        request = it.request()

        async def read(connection: Any) -> intake.Result:
            return await intake.write(connection, TOPIC, [request], {0: 99}, it.now, it.rules, slots)

        claimed = [each.id for each in (await it.tx(read)).claimed]
        assert claimed == ([request.id] if fast else [])
