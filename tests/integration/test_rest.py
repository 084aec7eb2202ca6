"""Whether the ledger stands still, by everything that can be under way, and when it will move by itself."""

from __future__ import annotations

import datetime as dt

from gateway.ledger import claims, occasions, outbox, rest
from tests.integration.plans_by_hand import TOPIC, plans
from tests.unit.cadence.facts import paid, planned

MINUTE = dt.timedelta(minutes=1)


async def test_what_is_under_way_and_what_comes_next(database: str) -> None:
    async with plans(database) as mine:
        hand = mine.hand

        async def under_way(now: dt.datetime, published: int = 1) -> dict[str, int]:
            return (await rest.read(hand.connection, TOPIC)).under_way(now, {0: published})

        place = "insert into intake_offset (topic, partition, first, next) values ($1, 0, 0, 0)"
        await hand.connection.execute(place, TOPIC)
        await mine.tell(planned())
        found = await rest.read(hand.connection, TOPIC)
        first = found.next
        assert first is not None
        assert set(found.under_way(first - MINUTE, {0: 2})) == {"outbox"}
        events = await outbox.fetch(hand.connection, 0, 255, 1000)
        await outbox.delete(hand.connection, events)
        assert await under_way(first - MINUTE, 2) == {}
        assert await under_way(first - MINUTE, 5) == {"records not read": 3}
        assert await under_way(first, 2) == {"due": 1}
        worker = await hand.worker()
        assert await claims.claim(hand.connection, worker.id, first, 10, 10, 7)
        assert await under_way(first, 2) == {"claimed": 1}


async def test_of_each_occasion_the_last_reminder_stands(database: str) -> None:
    async with plans(database) as mine:
        await mine.tell(planned())
        await mine.tell(paid(mine.hand.now))
        ends = {
            (each.stage, each.state, each.reason, each.made) for each in await occasions.standing(mine.hand.connection)
        }
        assert ("d7", "cancelled", "paid", 1) in ends
        await mine.tell(paid(mine.hand.now + MINUTE, outstanding="50.00"))
        again = {
            (each.stage, each.state, each.reason, each.made) for each in await occasions.standing(mine.hand.connection)
        }
        assert ("d7", "scheduled", None, 2) in again
        assert len(again) == len(ends)
