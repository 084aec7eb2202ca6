"""What follows a failure: the next contact, another try of the same one, or nothing at all."""

import datetime as dt
from typing import Any

import pytest

from tests.stack.gateway import requested
from tests.stack.scene import Scene, rule, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW = {"receipt_window_hours": 3 / 3600, "read_timeout_seconds": 1}
OVERRIDES = {"providers": {"twilio": WINDOW, "fcm": WINDOW, "aliyun": WINDOW}}
LADDER = ("push", "sms", "voice")


async def test_each_definite_failure_takes_the_next_contact(scene: Scene) -> None:
    scene.perform(rule(1, "fcm", action="error", code="UNREGISTERED"), rule(1, "twilio", action="error", code="21211"))
    await scene.world.publish([requested(1, LADDER)])
    assert await scene.ended(1) == ("delivered", None)
    assert await scene.ladder(1) == [
        ("push", "rejected", "bad_recipient"),
        ("sms", "rejected", "bad_recipient"),
        ("voice", "answered", None),
    ]
    assert scene.sent(1) == ["aliyun"]
    last = (await scene.told(1, 3))[-1]
    assert [(each["channel"], each["state"]) for each in last["attempts"]] == [
        ("push", "rejected"), ("sms", "rejected"), ("voice", "answered"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "outcome", "state"),
    [(11, "undelivered", "undelivered"), (12, "failed", "undelivered")],
)
async def test_a_bad_receipt_takes_the_next_contact(scene: Scene, number: int, outcome: str, state: str) -> None:
    scene.perform(rule(number, "twilio", receipts={"outcome": outcome}))
    await scene.world.publish([requested(number, ["sms", "voice"])])
    assert await scene.ended(number) == ("delivered", None)
    assert [each[:2] for each in await scene.ladder(number)] == [("sms", state), ("voice", "answered")]
    assert scene.sent(number) == ["twilio", "aliyun"]


@pytest.mark.parametrize(("number", "outcome"), [(21, "busy"), (22, "no_answer")])
async def test_nobody_at_the_phone_takes_the_next_contact(scene: Scene, number: int, outcome: str) -> None:
    scene.perform(rule(number, "aliyun", receipts={"outcome": outcome}))
    await scene.world.publish([requested(number, ["voice", "sms"])])
    assert await scene.ended(number) == ("delivered", None)
    assert [each[:2] for each in await scene.ladder(number)] == [("voice", outcome), ("sms", "delivered")]


async def test_a_declined_call_is_not_redialled(scene: Scene) -> None:
    declined = {"receipts": {"outcome": "declined"}}
    scene.perform(rule(31, "aliyun", **declined), rule(32, "aliyun", **declined))
    await scene.world.publish([requested(31, ["voice", "voice", "sms"]), requested(32, ["voice", "voice"])])
    assert await scene.ended(31) == ("delivered", None)
    assert [each[:2] for each in await scene.ladder(31)] == [("voice", "declined"), ("sms", "delivered")]
    assert await scene.ended(32) == ("undelivered", "contacts_exhausted")
    assert scene.sent(32) == ["aliyun"]


async def test_throttled_tries_the_same_contact_not_before_the_vendor_says(scene: Scene) -> None:
    scene.perform(rule(41, "twilio", action="error", code="20429", retry_after=2, times=1))
    await scene.world.publish([requested(41, ["sms", "voice"])])
    assert await scene.ended(41) == ("delivered", None)
    first, second = await scene.attempts(41)
    assert (first["channel"], first["state"], first["failure"]) == ("sms", "rejected", "throttled")
    assert (second["channel"], second["state"]) == ("sms", "delivered")
    assert second["intended_at"] - first["intended_at"] >= dt.timedelta(seconds=2)


async def test_transient_tries_the_same_contact(scene: Scene) -> None:
    scene.perform(rule(42, "fcm", action="error", code="UNAVAILABLE", times=2))
    await scene.world.publish([requested(42, ["push", "sms"])])
    assert await scene.ended(42) == ("delivered", None)
    assert await scene.ladder(42) == [
        ("push", "rejected", "transient"), ("push", "rejected", "transient"), ("push", "delivered", None),
    ]  # fmt: skip


async def test_a_refused_connection_is_proof_and_nothing_is_lost(scene: Scene) -> None:
    scene.world.simulator.refuse(1.5)
    await scene.world.publish([requested(43, ["sms", "voice"])])
    assert await scene.ended(43, 40) == ("delivered", None)
    assert scene.sent(43) == ["twilio"]
    *before, last = await scene.ladder(43)
    assert last == ("sms", "delivered", None)
    assert set(before) <= {("sms", "not_sent", "transient")}


UNKNOWN: dict[int, tuple[dict[str, Any], list[str]]] = {
    51: ({"action": "hang", "receipts": {"lost": True}}, ["twilio"]),
    52: ({"action": "reset", "receipts": {"lost": True}}, ["twilio"]),
    53: ({"action": "stall"}, []),
    54: ({"action": "drop"}, []),
    55: ({"action": "truncate", "receipts": {"lost": True}}, ["twilio"]),
    56: ({"action": "error", "status": 502}, []),
}


async def test_unknown_never_takes_the_next_contact(scene: Scene) -> None:
    scene.perform(*(rule(number, "twilio", **misbehaves) for number, (misbehaves, _) in UNKNOWN.items()))
    await scene.world.publish([requested(number, ["sms", "voice", "push"]) for number in UNKNOWN])
    for number, (_, accepted) in UNKNOWN.items():
        assert await scene.ended(number) == ("unconfirmed", "outcome_unknown"), number
        assert await scene.ladder(number) == [("sms", "unconfirmed", "ambiguous")], number
        assert scene.sent(number) == accepted, number
        states = [(each["state"], each.get("reason")) for each in await scene.told(number, 3)]
        assert states == [
            ("scheduled", None), ("awaiting", "outcome_unknown"), ("unconfirmed", "outcome_unknown"),
        ]  # fmt: skip


async def test_a_receipt_settles_unknown(scene: Scene) -> None:
    bad = {"outcome": "undelivered", "delay": [1.5, 1.6]}
    scene.perform(
        rule(61, "twilio", action="hang", receipts={"delay": [1.5, 1.6]}),
        rule(62, "twilio", action="hang", receipts=bad),
    )
    await scene.world.publish([requested(61, ["sms", "voice"]), requested(62, ["sms", "voice"])])
    assert await scene.ended(61) == ("delivered", None)
    assert scene.sent(61) == ["twilio"]
    # Known to have failed, it is a failure like any other.
    assert await scene.ended(62) == ("delivered", None)
    assert [each[:2] for each in await scene.ladder(62)] == [("sms", "undelivered"), ("voice", "answered")]


async def test_contacts_exhausted(scene: Scene) -> None:
    scene.perform(
        rule(71, "twilio", action="error", code="21614"),
        rule(71, "aliyun", action="error", code="isv.MOBILE_NUMBER_ILLEGAL"),
        rule(71, "fcm", action="error", code="UNREGISTERED"),
    )
    await scene.world.publish([requested(71, LADDER)])
    assert await scene.ended(71) == ("undelivered", "contacts_exhausted")
    assert [each[0] for each in await scene.ladder(71)] == list(LADDER)
    assert scene.sent(71) == []


async def test_opted_out_suppresses_at_once(scene: Scene) -> None:
    scene.perform(rule(72, "twilio", action="error", code="21610"))
    await scene.world.publish([requested(72, ["sms", "voice"])])
    assert await scene.ended(72) == ("suppressed", "opted_out")
    assert scene.sent(72) == []


async def test_a_bug_of_ours_holds(scene: Scene) -> None:
    scene.perform(rule(73, "twilio", action="error", code="21603"))
    await scene.world.publish([requested(73, ["sms", "voice"])])
    row = await scene.reached(73, "held")
    assert row["reason"] == "bug"
    assert scene.sent(73) == []


async def test_bad_configuration_defers_and_opens_the_circuit(scene: Scene) -> None:
    scene.perform(rule(81, "aliyun", action="error", code="isv.AMOUNT_NOT_ENOUGH"))
    await scene.world.publish([requested(81, ["voice", "sms"])])

    async def refused() -> bool:
        return await scene.ladder(81) == [("voice", "rejected", "bad_config")]

    await until(refused, "refusal")
    await scene.world.publish([requested(82, ["voice", "sms"])])

    async def deferred() -> list[Any]:
        return await scene.sql("select 1 from decision where verdict = 'defer' and rule = 'provider_busy'")

    await until(deferred, "verdict that the provider has to wait")
    for number in (81, 82):
        row = await scene.reached(number, "scheduled")
        assert row["rung"] == 0
        assert scene.sent(number) == []
    assert await scene.attempts(82) == []
    assert await scene.metric("circuit_state", provider="aliyun", scope="account") == 1
