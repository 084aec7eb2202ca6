"""The brakes in a running gateway: what quotas hold, what it says, and how the rest leaves when somebody lifts it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, Final

import asyncpg
import pytest

from gateway.ledger import freezes
from tests.integration.test_expiry import soon
from tests.stack.gateway import requested
from tests.stack.scene import Scene, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FITS: Final = 4
RATE: Final = 5
OVERRIDES: Final = {
    "dispatch": {"release_per_second": RATE},
    "brakes": {"currency": "CNY", "lenders": {"acme": {"per_day": FITS, "spend_per_day": "100"}}},
    "providers": {name: {"price": "0.05"} for name in ("twilio", "fcm", "aliyun")},
}


async def test_what_exceeds_a_quota_is_held_told_and_leaves_paced_once_lifted(scene: Scene) -> None:
    numbers = range(1, FITS + 7)
    await scene.world.publish([requested(number, send_at=soon(0.5)) for number in numbers])

    async def braked() -> bool:
        counts = await scene.sql("select count(*) n from live where state = 'held' and reason = 'frozen'")
        return bool(counts[0]["n"] == len(numbers) - FITS)

    await until(braked, "held reminders")
    [freeze] = await scene.sql('select id, kind, value, author, reason, until from "freeze"')
    assert tuple(freeze)[1:5] == ("lender", "acme", "volume brake", "per_day used up")
    assert freeze["until"].astimezone(dt.UTC).time() == dt.time()
    assert await scene.value("select count(*) from attempt") == FITS
    assert await scene.metric("volume_brakes_total", kind="lender", rule="per_day") == 1
    [said] = [each for each in scene.gateway.child.tail(100_000).splitlines() if '"volume_brake"' in each]
    told: dict[str, Any] = json.loads(said[said.index("{") :])
    assert (told["level"], told["lender"], told["reason"]) == ("error", "acme", ["per_day"])
    # The price of a segment, times its segments, as the evidence has them.
    segments = await scene.value("select sum((inputs->>'segments')::int) from decision where verdict = 'send'")
    assert await scene.value("select day_spent from volume where kind = 'lender'") == segments * 50_000 > 0

    connection = await asyncpg.connect(scene.world.dsn)
    try:
        async with connection.transaction():
            now = await connection.fetchval("select clock_timestamp()")
            assert await freezes.lift(connection, "lender", "acme", reason="a test", author="me", now=now)
    finally:
        await connection.close()
    # It has its whole quota once more, and not a message beyond that.
    await until(lambda: quota_again(scene), "the quota used up again")
    assert await scene.value("select count(*) from attempt") == 2 * FITS
    left = await scene.sql("select intended_at from attempt order by intended_at")
    assert (left[-1][0] - left[FITS][0]).total_seconds() > (FITS - 2) / RATE, "a burst"
    assert await scene.value("select count(*) from freeze_audit where act = 'freeze'") == 2


async def quota_again(scene: Scene) -> bool:
    return bool(await scene.value('select count(*) = 1 from "freeze" where until > now() and lifted_at is null'))
