"""Stops beat sends: early, before the request itself, in time, and too late."""

import datetime as dt
import json
from typing import Any

import asyncpg
import pytest

from gateway.ids import subject_key
from gateway.ledger import stops
from tests.stack.gateway import cancelled, requested
from tests.stack.scene import SOURCE, Scene, rule, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = {"sms": "twilio", "push": "fcm", "voice": "aliyun"}
OVERRIDES = {
    "lenders": {"other": {"name": "Other Bank", "default_locale": "en", "routes": ROUTES}},
    "providers": {"twilio": {"receipt_window_hours": 5 / 3600}},
}
BORROWER = {"kind": "borrower"}


def soon(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


def later(number: int, **changes: Any) -> dict[str, Any]:
    """A request that waits for its time, long enough to be cancelled."""
    return requested(number, ["sms", "voice"], send_at=soon(3600), **changes)


def of_request(number: int) -> dict[str, str]:
    return {"kind": "request", "source": SOURCE, "id": f"request-{number}"}


def of_debt(number: int) -> dict[str, str]:
    return {"kind": "debt", "ref": f"debt-{number}"}


async def test_early_by_request_debt_and_borrower(scene: Scene) -> None:
    scopes = {1: of_request(1), 2: of_debt(2), 3: BORROWER}
    await scene.world.publish([later(number) for number in scopes])
    for number in scopes:
        await scene.reached(number, "scheduled")
    await scene.world.publish([cancelled(number, scope) for number, scope in scopes.items()])
    for number, scope in scopes.items():
        assert await scene.ended(number) == ("cancelled", f"cancelled_{scope['kind']}")
        assert await scene.attempts(number) == []
        seen = [(each["seq"], each["state"]) for each in await scene.told(number, 2)]
        assert seen == [(1, "scheduled"), (2, "cancelled")]


async def test_a_stop_reaches_only_what_it_names(scene: Scene) -> None:
    """One borrower with two debts at one lender, and a namesake at another."""
    same = {"borrower": {"ref": "borrower-10"}}
    await scene.world.publish([later(10), later(11, **same), later(12, lender="other", **same), later(13)])
    for number in (10, 11, 12, 13):
        await scene.reached(number, "scheduled")
    await scene.world.publish([cancelled(10, of_debt(10))])
    assert await scene.ended(10) == ("cancelled", "cancelled_debt")
    await scene.world.publish([cancelled(10, BORROWER)])
    assert await scene.ended(11) == ("cancelled", "cancelled_borrower")
    for number in (12, 13):
        assert (await scene.reached(number, "scheduled"))["seq"] == 1


async def test_a_stop_of_another_borrowers_request_holds_both(scene: Scene) -> None:
    """One of the two names is wrong and nobody here can say which: a dead letter, and nothing leaves meanwhile."""
    await scene.world.publish([later(14), later(15), later(16)])
    for number in (14, 15, 16):
        await scene.reached(number, "scheduled")
    await scene.world.publish([cancelled(14, of_request(15))])
    for number in (14, 15):
        assert (await scene.reached(number, "held"))["reason"] == "stop_unreadable"
    await scene.reached(16, "scheduled")
    letter = await scene.value("select reason || ' ' || field from deadletter order by id desc limit 1")
    assert letter == "unreadable_stop data.borrower_ref"


async def test_one_batch_keeps_a_borrowers_order(scene: Scene) -> None:
    """Request, cancel, request again for the same stage: the second one lives."""
    again = requested(17, ["sms"], send_at=soon(3600))
    first, second = again | {"id": "request-17-a"}, again | {"id": "request-17-b"}
    cancel = cancelled(17, {"kind": "request", "source": SOURCE, "id": "request-17-a"})
    await scene.world.publish([first, cancel, second])
    await scene.caught_up()
    states = await scene.sql(
        "select r.request_id, coalesce(l.state, e.state)::text as state, coalesce(l.reason, e.reason) as reason"
        " from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id"
        " where r.debt = 'debt-17' order by r.id"
    )
    assert [tuple(row) for row in states] == [
        ("request-17-a", "cancelled", "cancelled_request"),
        ("request-17-b", "scheduled", None),
    ]


async def test_a_tombstone_waits_for_the_request(scene: Scene) -> None:
    scopes = {20: of_request(20), 21: of_debt(21), 22: BORROWER}
    requests = [requested(number) for number in scopes]
    await scene.world.publish([cancelled(number, scope) for number, scope in scopes.items()])
    await scene.caught_up()
    await scene.world.publish(requests)
    for number, scope in scopes.items():
        assert await scene.ended(number) == ("cancelled", f"cancelled_{scope['kind']}")
        (event,) = await scene.told(number, 1)
        assert (event["seq"], event["state"]) == (1, "cancelled")
        assert scene.sent(number) == []


async def test_a_stop_older_than_the_debts_state_does_not_match(scene: Scene) -> None:
    old = soon(-3600)
    await scene.world.publish([cancelled(30, of_debt(30), as_of=old), cancelled(31, BORROWER, as_of=old)])
    await scene.caught_up()
    await scene.world.publish([requested(30), requested(31), later(32), later(33)])
    await scene.reached(32, "scheduled")
    await scene.reached(33, "scheduled")
    await scene.world.publish([cancelled(32, of_debt(32), as_of=old), cancelled(33, of_request(33), as_of=old)])
    # A request is named by its id: its debt's state does not matter.
    assert await scene.ended(33) == ("cancelled", "cancelled_request")
    assert await scene.ended(30) == ("delivered", None)
    assert await scene.ended(31) == ("delivered", None)
    assert (await scene.reached(32, "scheduled"))["seq"] == 1


async def test_in_time_between_a_refusal_and_the_next_try(scene: Scene) -> None:
    scene.perform(rule(40, "aliyun", action="error", code="Throttling.User", status=429, retry_after=60))
    await scene.world.publish([requested(40, ["voice", "sms"])])

    async def refused() -> bool:
        return await scene.ladder(40) == [("voice", "rejected", "throttled")]

    await until(refused, "refusal")
    await scene.reached(40, "scheduled")
    # Due, but the circuit of its provider is open: it is claimed and deferred again and again.
    await scene.world.publish([requested(41, ["voice"])])
    await scene.reached(41, "scheduled")
    await scene.world.publish([cancelled(40, BORROWER), cancelled(41, BORROWER)])
    assert await scene.ended(40) == ("cancelled", "cancelled_borrower")
    assert await scene.ended(41) == ("cancelled", "cancelled_borrower")
    assert scene.sent(40) + scene.sent(41) == []
    assert await scene.attempts(41) == []


async def test_too_late_ends_by_its_attempt(scene: Scene) -> None:
    slow = {"delay": [1.5, 1.5]}
    scene.perform(
        rule(50, "twilio", receipts={"outcome": "delivered", **slow}),
        rule(51, "twilio", receipts={"outcome": "undelivered", **slow}),
        rule(52, "twilio", receipts={"lost": True}),
    )
    numbers = (50, 51, 52)
    await scene.world.publish([requested(number, ["sms", "voice"]) for number in numbers])
    for number in numbers:
        await scene.reached(number, "awaiting")
    await scene.world.publish([cancelled(number, of_debt(number)) for number in numbers])
    for number in numbers:
        answer = await scene.answer(number, "too_late")
        assert [each["state"] for each in answer["attempts"]] == ["accepted"]
        assert (await scene.state(number))["ended"] is False  # type: ignore[index]
    assert await scene.ended(50) == ("delivered", None)
    assert await scene.ended(51) == ("undelivered", "ladder_closed")
    assert await scene.ended(52) == ("unconfirmed", "no_receipt")
    for number in numbers:
        assert scene.sent(number) == ["twilio"]


async def test_too_late_while_the_request_is_out(scene: Scene) -> None:
    """The vendor thinks for a second; whether it then refuses decides."""
    scene.perform(
        rule(60, "twilio", latency=[1.5, 1.5]),
        rule(61, "twilio", latency=[1.5, 1.5], action="error", code="21211"),
    )
    await scene.world.publish([requested(60, ["sms", "voice"]), requested(61, ["sms", "voice"])])
    for number in (60, 61):
        await scene.reached(number, "sending")
    await scene.world.publish([cancelled(60, BORROWER), cancelled(61, BORROWER)])
    for number in (60, 61):
        await scene.answer(number, "too_late")
    assert await scene.ended(60) == ("delivered", None)
    assert scene.sent(60) == ["twilio"]
    # Proof that nobody was contacted: then the stop has the last word, and the ladder goes no further.
    assert await scene.ended(61) == ("cancelled", "cancelled_borrower")
    assert scene.sent(61) == []


async def test_too_late_after_the_end(scene: Scene) -> None:
    await scene.world.publish([requested(70)])
    assert await scene.ended(70) == ("delivered", None)
    await scene.world.publish([cancelled(70, of_request(70))])
    await scene.answer(70, "too_late")
    assert await scene.ended(70) == ("delivered", None)


async def test_an_unreadable_stop_holds_what_it_names(scene: Scene) -> None:
    unreadable = cancelled(80, BORROWER, as_of="yesterday")
    nameless = cancelled(82, BORROWER, as_of="yesterday")
    del nameless["data"]["borrower_ref"]
    await scene.world.publish([later(80), later(81), later(82), later(83)])
    for number in (80, 81, 82, 83):
        await scene.reached(number, "scheduled")
    # The second names nobody: then the record's key does.  The third is not even JSON, so it may have been a stop.
    values = [json.dumps(unreadable).encode(), json.dumps(nameless).encode(), b"{cut off"]
    await scene.world.publish(values, [b"borrower-80", b"borrower-82", b"borrower-83"])
    for number in (80, 82, 83):
        assert (await scene.reached(number, "held"))["reason"] == "stop_unreadable"
    await scene.reached(81, "scheduled")
    await scene.relayed()
    assert sorted(each["reason"] for each in await scene.deadletters())[:2] == ["not_json", "unreadable_stop"]
    # What comes for him later is held too, and not sent.
    await scene.world.publish([requested(84, borrower={"ref": "borrower-80"})])
    assert (await scene.reached(84, "held"))["reason"] == "stop_unreadable"
    assert await scene.attempts(84) == []


async def test_a_hold_keeps_the_time_at_which_the_reminder_was_to_go(scene: Scene) -> None:
    at = soon(3600)
    await scene.world.publish([requested(85, send_at=at), requested(86, send_at=at)])
    for number in (85, 86):
        await scene.reached(number, "scheduled")
    await scene.world.publish([cancelled(85, BORROWER, as_of="never"), cancelled(87, BORROWER, as_of="never")])
    assert (await scene.reached(85, "held"))["reason"] == "stop_unreadable"
    await scene.caught_up()
    await scene.world.publish([requested(87, send_at=at)])  # born held
    assert (await scene.reached(87, "held"))["reason"] == "stop_unreadable"
    await released(scene, 85)
    await released(scene, 87)
    planned = dt.datetime.fromisoformat(at)
    for number in (85, 87):
        await scene.reached(number, "scheduled")
        assert await scene.value("select due_at from due where id = $1", (await scene.state(number))["id"]) == planned  # type: ignore[index]
    assert scene.sent(85) + scene.sent(87) == []


async def released(scene: Scene, number: int) -> None:
    """Somebody has looked: the hold is lifted, and the reminder looked at now instead of in half a minute."""
    connection = await asyncpg.connect(scene.world.dsn)
    try:
        async with connection.transaction():
            assert await stops.released(connection, subject_key("acme", f"borrower-{number}"))
            id_ = (await scene.state(number))["id"]  # type: ignore[index]
            await connection.execute("update live set at = now() where id = $1", id_)
            await connection.execute("update timer set at = now() where id = $1", id_)
    finally:
        await connection.close()


async def test_a_hold_ends_when_somebody_has_looked(scene: Scene) -> None:
    unreadable = cancelled(90, BORROWER, as_of="yesterday")
    await scene.world.publish([later(89), json.dumps(unreadable).encode()], [b"borrower-89", b"borrower-90"])
    await scene.world.publish([requested(90)])
    await scene.caught_up()
    # Nobody was known under that name when the stop came; whoever comes under it is held all the same.
    assert (await scene.reached(90, "held"))["reason"] == "stop_unreadable"
    await released(scene, 90)
    assert await scene.ended(90) == ("delivered", None)
