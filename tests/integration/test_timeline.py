"""What `show` tells: everything the ledger knows of a reminder, and nothing of its person."""

import asyncio
import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec
import pytest

from gateway.cli.show import pictures
from gateway.ids import to_reference
from gateway.ledger import freezes, receipts, timeline
from gateway.ledger.received import Stored
from gateway.ledger.timeline import Timeline
from schemas.messages import ReminderStatus
from schemas.vocabulary import AttemptState, ReminderState
from tests.stack.gateway import address, cancelled, requested
from tests.stack.scene import SOURCE, Scene, rule, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW = {"receipt_window_hours": 2 / 3600}
OVERRIDES = {"providers": {"twilio": WINDOW, "aliyun": WINDOW}}
ROUTES = {"acme": {"sms": "twilio", "push": "fcm", "voice": "aliyun"}}
BORROWER = {"kind": "borrower"}


def moment(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


async def story(scene: Scene, number: int) -> Timeline:
    connection = await asyncpg.connect(scene.world.dsn)
    try:
        found = await timeline.find(connection, None, SOURCE, f"request-{number}")
        assert found is not None
        told = await timeline.read(connection, found, dt.datetime.now(dt.UTC), ROUTES)
    finally:
        await connection.close()
    assert told is not None
    assert [each.at for each in told.entries] == sorted(each.at for each in told.entries)
    return told


def lines(told: Timeline) -> list[str]:
    return [each.what for each in told.entries]


def details(told: Timeline, what: str) -> list[str]:
    return [each.detail for each in told.entries if each.what == what]


def standing(told: Timeline) -> dict[str, Any]:
    return dict(told.now)


async def test_every_attempt_decision_and_receipt(scene: Scene) -> None:
    scene.perform(rule(1, "twilio", action="error", code="21211"), rule(1, "fcm", receipts={"outcome": "opened"}))
    await scene.world.publish([requested(1, ["sms", "push"])])
    assert await scene.ended(1) == ("delivered", None)
    await scene.world.simulator.settled()
    await scene.relayed()
    told = await story(scene, 1)
    sms, push = told.attempts
    assert (sms.rung, sms.channel, sms.provider, sms.state, sms.why) == (
        0,
        "sms",
        "twilio",
        "rejected",
        "bad_recipient 21211",
    )
    assert (push.rung, push.channel, push.provider, push.state) == (1, "push", "fcm", "delivered")
    assert len(push.refs) == 1
    order = [each for each in lines(told) if not each.startswith("receipt")]
    assert order[:4] == ["accepted", "decided: send", "intended", "attempt rejected"]
    assert order[4:7] == ["decided: send", "intended", "first outcome"]
    assert sorted(order[7:]) == ["attempt delivered", "ended: delivered", "engaged: opened"]
    first, second = details(told, "decided: send")
    for name in (
        "rule none",
        f"attempt {sms.id}",
        "not_after ",
        "due_at ",
        "template ",
        "locale ",
        "segments ",
        "zone_data ",
    ):
        assert name in first
    assert f"attempt {push.id}" in second
    # An opened push was delivered, which the second receipt says once more.
    first, second = details(told, "receipt delivered")
    assert first.startswith(f"fcm, attempt {push.id}")
    assert (first.rpartition(": ")[2], second.rpartition(": ")[2]) == ("applied", "duplicate")
    assert details(told, "receipt opened")[0].endswith(": applied")
    assert standing(told) == {
        "contacts": "sms → push", "debt and stage": "held by this reminder", "events": "3, all on Kafka",
    }  # fmt: skip


async def test_what_was_told_and_not_applied_is_there_too(scene: Scene) -> None:
    scene.perform(rule(5, "twilio", receipts={"reorder": True}))
    await scene.world.publish([requested(5)])
    assert await scene.ended(5) == ("delivered", None)
    await scene.world.simulator.settled()
    await asyncio.sleep(0.3)
    told = await story(scene, 5)
    assert [each.rpartition(": ")[2] for each in details(told, "receipt sent")] == ["out_of_order"]

    # Kept, and not applied: its borrower was locked too long.
    connection = await asyncpg.connect(scene.world.dsn)
    now = dt.datetime.now(dt.UTC)
    (attempt,) = await scene.attempts(5)
    late = Stored(
        id=attempt["id"] + 1, provider="twilio", kind="receipt", code="busy", received_at=now, attempt=attempt["id"],
        state=AttemptState.BUSY,
    )  # fmt: skip
    await receipts.store(connection, [late], now + dt.timedelta(hours=1))
    await connection.close()
    (waits,) = details(await story(scene, 5), "receipt busy")
    assert "busy: waiting, looked at again " in waits


async def test_corrections(scene: Scene) -> None:
    """The window closes first; then comes the last word."""
    slow = {"delay": [6, 6]}
    scene.perform(
        rule(10, "twilio", receipts={"reorder": True, **slow}),
        rule(11, "aliyun", receipts={"outcome": "busy", **slow}),
        rule(12, "twilio", receipts={"lost": True}),
    )
    await scene.world.publish([requested(10), requested(11, ["voice"]), requested(12)])
    for number in (10, 11, 12):
        assert (await scene.ended(number))[0] == "unconfirmed"
    await scene.reached(10, "delivered")
    await scene.reached(11, "undelivered")
    for number, became in ((10, "delivered"), (11, "undelivered (contacts_exhausted)")):
        told = await story(scene, number)
        assert details(told, "ended") == ["corrected later"]
        assert details(told, "corrected") == [became]
        assert lines(told).index("ended") < lines(told).index("corrected")
        assert told.situation.seq == 4
    told = await story(scene, 12)
    assert details(told, "ended: unconfirmed") == ["no_receipt"]
    assert details(told, "corrected") == []


async def test_stops_that_cover_it_and_stops_that_do_not(scene: Scene) -> None:
    old = moment(-3600)
    stops = [
        cancelled(20, {"kind": "debt", "ref": "debt-20"}, as_of=old),
        cancelled(20, {"kind": "debt", "ref": "another"}),
        cancelled(20, {"kind": "request", "source": SOURCE, "id": "another"}),
    ]
    await scene.world.publish([requested(20, send_at=moment(3600)), *stops])
    await scene.reached(20, "scheduled")
    await scene.caught_up()
    told = await story(scene, 20)
    assert details(told, "stop of the debt") == ["older than this request's state_as_of: does not cover it"]
    assert details(told, "stop of the request") == []
    await scene.world.publish([cancelled(20, {"kind": "request", "source": SOURCE, "id": "request-20"}, as_of=old)])
    await scene.ended(20)
    await scene.world.publish([cancelled(20, BORROWER)])
    await scene.caught_up()
    told = await story(scene, 20)
    assert details(told, "stop of the request") == details(told, "stop of the borrower") == ["covers this reminder"]
    assert details(told, "ended: cancelled") == ["cancelled_request"]
    assert standing(told)["debt and stage"] == "free for another request"


async def test_a_hold_its_reason_and_when_it_goes_on(scene: Scene) -> None:
    at = moment(3600)
    await scene.world.publish([requested(30, ["voice", "sms"], send_at=at), requested(31, send_at=at)])
    for number in (30, 31):
        await scene.reached(number, "scheduled")
    await scene.world.publish([json.dumps(cancelled(30, BORROWER, as_of="never")).encode()], [b"borrower-30"])
    await scene.reached(30, "held")
    told = await story(scene, 30)
    now = standing(told)
    assert (told.situation.state, told.situation.reason) == ("held", "stop_unreadable")
    assert now["goes, once released, at"] == dt.datetime.fromisoformat(at)
    assert now["looked at again at"] > dt.datetime.now(dt.UTC)
    assert now["borrower held for a stop nobody could read, since"] < dt.datetime.now(dt.UTC)
    assert now["contact"] == "1 of 2: voice → sms"
    now = standing(await story(scene, 31))
    assert now["due at"] == dt.datetime.fromisoformat(at)
    assert not [name for name in now if "held" in name or "frozen" in name]


async def test_the_freezes_that_cover_it(scene: Scene) -> None:
    connection = await asyncpg.connect(scene.world.dsn)
    try:
        for kind, value in (("provider", "aliyun"), ("provider", "twilio"), ("lender", "acme"), ("stage", "d7")):
            async with connection.transaction():
                now = dt.datetime.now(dt.UTC)
                until_ = now + dt.timedelta(hours=1) if kind == "lender" else None
                assert await freezes.add(connection, kind, value, reason="a test", author="me", now=now, until=until_)
        await scene.world.publish([requested(40, ["voice", "sms"])])
        await scene.reached(40, "held")
        told = await story(scene, 40)
        by = [value for name, value in told.now if name == "frozen by"]
        assert len(by) == 2
        assert "provider aliyun: a test" in by
        assert any(str(each).startswith("lender acme: a test, until ") for each in by)
        not_after = await scene.value("select not_after from live where request_id = 'request-40'")
        assert standing(told)["ends, if still held, at"] == not_after
        await connection.execute('delete from "freeze"')
        assert standing(await story(scene, 40))["frozen by"] == "nothing any more: it waits for its turn"
    finally:
        await connection.execute('delete from "freeze"')
        await connection.close()


async def test_an_unknown_outcome_and_the_worker_that_has_it(scene: Scene) -> None:
    scene.perform(rule(50, "fcm", action="reset", receipts={"lost": True}), rule(51, "twilio", latency=[1.8, 1.8]))
    await scene.world.publish([requested(51)])
    await scene.reached(51, "sending")
    assert "in a worker's hands, due at" in standing(await story(scene, 51))
    await scene.world.publish([requested(50, ["push"])])
    await scene.reached(50, "awaiting")
    told = await story(scene, 50)
    assert standing(told)["outcome unknown since"] == told.attempts[0].intended_at
    assert "waits until" in standing(told)
    assert (told.attempts[0].state, told.attempts[0].failure) == ("unknown", "ambiguous")


async def test_the_other_one_of_the_same_stage(scene: Scene) -> None:
    await scene.world.publish([requested(60)])
    await scene.ended(60)
    await scene.world.publish([requested(60) | {"id": "request-61"}])
    await scene.ended(61)
    told = await story(scene, 61)
    owner = to_reference((await scene.state(60))["id"])  # type: ignore[index]
    assert standing(told)["debt and stage"] == f"held by {owner}"
    assert details(told, "ended: suppressed") == ["duplicate_stage"]


async def test_events_that_are_not_on_kafka_yet(scene: Scene, kafka: Any) -> None:
    async def all_told() -> bool:
        return bool(await scene.value("select count(*) from outbox") == 0)

    await until(all_told, "empty outbox")
    await kafka.kill()
    try:
        id_ = (await scene.state(60))["id"]  # type: ignore[index]
        # The relay may have it in its hands already: then it is on Kafka in the end.
        now, state = dt.datetime.now(dt.UTC), ReminderState.EXPIRED
        event = ReminderStatus("acme", SOURCE, "60", now, reminder=to_reference(id_), state=state)
        payload = msgspec.json.encode(event).decode()
        await scene.sql("insert into outbox (bucket, reminder, seq, id, topic, payload) "
                        f"values ({id_ & 255}, {id_}, 4, 0, 'reminders.events', '{payload}')")  # fmt: skip
        told = await story(scene, 60)
        assert standing(told)["events"] == "3, of which 1 wait for Kafka"
        assert details(told, "event waits for Kafka") == ["seq 4"]
        await scene.sql("delete from outbox")
    finally:
        await kafka.launch()


async def test_nothing_personal_is_in_any_of_it(scene: Scene) -> None:
    """Every story told above, as it is printed."""

    def everything(told: Timeline) -> Iterable[str]:
        from rich.console import Console

        with (console := Console(width=300)).capture() as printed:
            for picture in pictures(told):
                console.print(picture)
        yield printed.get()
        yield repr(told)

    for number in (1, 5, 10, 11, 12, 20, 30, 31, 40, 50, 51, 60, 61):
        words = ["Li Lei", "1234.50", "pay.example.com", f"M-{number}", address("push", number)]
        words += [address(channel, number)[1:] for channel in ("sms", "voice")]
        for text in everything(await story(scene, number)):
            assert [word for word in words if word in text] == []
            assert f"borrower-{number}" in text or number == 61


async def test_a_reminder_that_is_not_there(scene: Scene) -> None:
    connection = await asyncpg.connect(scene.world.dsn)
    assert await timeline.find(connection, None, SOURCE, "nobody") is None
    assert await timeline.read(connection, 1, dt.datetime.now(dt.UTC)) is None
    await connection.close()
