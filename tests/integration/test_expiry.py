"""`not_after`: never sent later, wherever the reminder waits when it passes."""

import asyncio
import datetime as dt

import asyncpg
import pytest

from gateway.ledger import freezes
from tests.stack.gateway import requested
from tests.stack.scene import SOURCE, Scene, rule

pytestmark = pytest.mark.asyncio(loop_scope="module")

OVERRIDES = {"providers": {name: {"receipt_window_hours": 4 / 3600} for name in ("twilio", "fcm", "aliyun")}}


def soon(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


async def test_past_at_intake_is_a_dead_letter(scene: Scene) -> None:
    await scene.world.publish([requested(1, not_after=soon(-1)), requested(2)])
    assert await scene.ended(2) == ("delivered", None)
    assert await scene.state(1) is None
    await scene.relayed()
    (letter,) = await scene.deadletters()
    assert (letter["reason"], letter["field"]) == ("past_not_after", "data.not_after")


async def test_no_provider_may_try_longer(scene: Scene) -> None:
    """What the vendors took says for how long they may try: to its end, also where it has waited for another try."""
    scene.perform(rule(52, "fcm", action="error", code="QUOTA_EXCEEDED", retry_after=2, times=1))
    asked = dt.datetime.now(dt.UTC)
    ends = asked + dt.timedelta(seconds=60)
    channels = {50: "sms", 52: "push"}
    await scene.world.publish(
        [requested(number, [channel], not_after=ends.isoformat()) for number, channel in channels.items()]
    )
    taken = {}
    for number in channels:
        assert await scene.ended(number) == ("delivered", None)
        (taken[number],) = [each for each in scene.log() if each["marker"] == f"M-{number}"]
    (refused,) = [each for each in scene.log("refused") if each.get("marker") == "M-52"]
    again = dt.datetime.fromisoformat(refused["at"]) + dt.timedelta(seconds=2)
    assert 0 < int(taken[50]["params"]["ValidityPeriod"]) <= (ends - asked).total_seconds()
    assert 0 < int(taken[52]["params"]["android"]["ttl"].removesuffix("s")) <= (ends - again).total_seconds()


async def test_what_has_left_is_not_expired(scene: Scene) -> None:
    scene.perform(
        rule(10, "twilio", receipts={"delay": [2, 2]}), rule(11, "twilio", action="hang", receipts={"lost": True})
    )
    await scene.world.publish([requested(number, not_after=soon(3)) for number in (10, 11)])
    assert await scene.ended(10) == ("delivered", None)
    assert await scene.ended(11) == ("unconfirmed", "outcome_unknown")


async def test_passed_while_it_waits_for_another_try(scene: Scene) -> None:
    """The provider asked for a minute; the reminder has three seconds."""
    scene.perform(rule(20, "fcm", action="error", code="QUOTA_EXCEEDED", retry_after=60))
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3)
    await scene.world.publish([requested(20, ["push", "sms"], not_after=ends.isoformat())])
    assert await scene.ended(20) == ("expired", "not_after")
    assert await scene.ladder(20) == [("push", "rejected", "throttled")]
    at = await scene.value("select e.at from ending e join reminder r on r.id = e.reminder where r.request_id = $1",
                           "request-20")  # fmt: skip
    assert at >= ends
    assert [each["state"] for each in await scene.told(20, 2)] == ["scheduled", "expired"]
    # The circuit of the account is open: others of that channel wait unsent, and expire the same way.
    await scene.world.publish([requested(21, ["push"], not_after=soon(2))])
    assert await scene.ended(21) == ("expired", "not_after")
    assert await scene.attempts(21) == []


async def test_passed_while_frozen(scene: Scene) -> None:
    await scene.world.publish([requested(30, not_after=soon(4), send_at=soon(1))])
    await scene.reached(30, "scheduled")
    connection = await asyncpg.connect(scene.world.dsn)
    try:
        async with connection.transaction():
            now = dt.datetime.now(dt.UTC)
            await freezes.add(connection, "source", SOURCE, reason="a test", author="a test", now=now)
        assert (await scene.reached(30, "held"))["reason"] == "frozen"
        await scene.world.publish([requested(31, not_after=soon(2))])
        assert (await scene.reached(31, "held"))["seq"] == 1
        assert await scene.ended(30) == ("expired", "not_after")
        assert await scene.ended(31) == ("expired", "not_after")
        assert scene.sent(30) + scene.sent(31) == []
    finally:
        async with connection.transaction():
            now = dt.datetime.now(dt.UTC)
            await freezes.lift(connection, "source", SOURCE, reason="a test", author="a test", now=now)
        await connection.close()


async def test_never_sent_late_by_a_slow_queue(scene: Scene) -> None:
    """Paused over its `not_after`, the gateway wakes up with the reminder due and does not send it."""
    await scene.world.publish([requested(40, send_at=soon(1.5), not_after=soon(2.5))])
    await scene.reached(40, "scheduled")
    scene.gateway.child.pause()
    await asyncio.sleep(3)
    scene.gateway.child.resume()
    assert await scene.ended(40) == ("expired", "not_after")
    assert scene.sent(40) == []
