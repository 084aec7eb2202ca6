"""Calls that ask, and replies, through a running gateway: real Kafka, real Postgres, the simulated vendor's own log."""

import asyncio
import base64
import datetime as dt
import json
from typing import Any

import aiohttp
import pytest

from gateway.dev.settings import LENDER_THAT_ASKS
from gateway.personal import REPLY_FIELD
from gateway.sealing import Sealer
from schemas.messages import CALLBACK_REQUESTED, OPTED_OUT, REPLIED
from tests.stack.gateway import address, requested
from tests.stack.scene import Scene, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

AMOUNT = "1,234.50"
OURS = "+15005550006"


def call(number: int, *also: str, **changes: Any) -> dict[str, Any]:
    """A request for a call by the lender whose calls ask, in English."""
    return requested(
        number, ["voice", *also], lender=LENDER_THAT_ASKS, borrower={"name": "Grace Miller", "locale": "en"}, **changes
    )


def callee(number: int, **does: Any) -> dict[str, Any]:
    return {"vendor": "twilio_voice", "recipient": address("voice", number), "callee": does}


async def held(scene: Scene, number: int) -> dict[str, Any]:
    """The vendor's line about the one call of this number, once it is over."""
    async with asyncio.timeout(10):
        while True:
            mine = [line for line in scene.log("call") if line["recipient"] == address("voice", number)]
            if mine:
                (line,) = mine
                return line
            await asyncio.sleep(0.05)


def said(line: dict[str, Any]) -> list[str]:
    return [part["text"] for part in line["transcript"] if part["event"] == "say"]


async def test_only_who_says_that_it_is_him_hears_of_the_debt(scene: Scene) -> None:
    numbers = range(100, 104)
    confirms, denies, silent, machine = numbers
    scene.perform(
        callee(confirms, keys=["1", "1"]),
        callee(denies, keys=["2"]),
        callee(silent, keys=[]),
        callee(machine, pickup="machine"),
    )
    await scene.world.publish([call(each) for each in numbers])
    for each in numbers:
        assert await scene.ended(each) == ("delivered", None)
    lines = {each: await held(scene, each) for each in numbers}
    for line in lines.values():
        assert said(line)[0].startswith("Hello, this is an automated service call from Harbour Credit. Are you Grace")
        assert AMOUNT not in said(line)[0]
    debt = said(lines[confirms])[1]
    assert AMOUNT in debt
    assert "M-100" in debt
    assert "official app" in said(lines[confirms])[2], "the ways to pay"
    for other in (denies, silent, machine):
        assert AMOUNT not in " ".join(said(lines[other])), "nobody else hears of it"
    assert said(lines[denies])[-1].startswith("Thank you, and sorry")
    # Asked twice, then what may be heard by anybody.
    assert said(lines[silent])[0] == said(lines[silent])[1]
    assert "There is a notice in your account for today" in said(lines[silent])[-1]
    assert said(lines[machine])[-1] == said(lines[silent])[-1].replace("M-102", "M-103")
    assert {line["ended"] for line in lines.values()} <= {"hangup", "end_of_document"}
    assert [row["state"] for row in await scene.attempts(confirms)] == ["answered_human"]


async def test_a_wish_to_be_called_back_is_told(scene: Scene) -> None:
    scene.perform(callee(110, keys=["1", "2"]))
    await scene.world.publish([call(110)])
    (event,) = await scene.heard(CALLBACK_REQUESTED)
    assert (event["request_id"], event["provider"], event["channel"]) == ("request-110", "twilio_voice", "voice")
    assert said(await held(scene, 110))[-1].startswith("Thank you. A member of our staff will call you back.")


async def test_no_more_means_no_more(scene: Scene) -> None:
    """Also for what was to go later, and for what is asked for afterwards."""
    scene.perform(callee(120, keys=["1", "9"]))
    hence = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)).isoformat()
    later = call(121, "sms", debt={"ref": "later"}, send_at=hence)
    later["data"]["borrower"]["ref"] = "borrower-120"
    await scene.world.publish([later])
    await scene.reached(121, "scheduled")
    await scene.world.publish([call(120, "sms")])
    (event,) = await scene.heard(OPTED_OUT)
    assert event["request_id"] == "request-120"
    assert await scene.ended(121) == ("suppressed", "opted_out")
    again = call(122, debt={"ref": "another"})
    again["data"]["borrower"]["ref"] = "borrower-120"
    assert said(await held(scene, 120))[-1] == "Thank you. We will send you no more of these reminders. Goodbye."
    await scene.world.publish([again])
    assert await scene.ended(122) == ("suppressed", "opted_out")
    # Another lender's reminders are another lender's affair.
    await scene.world.publish([requested(123, ["sms"], borrower={"ref": "borrower-120"})])
    assert await scene.ended(123) == ("delivered", None)
    assert [line for line in scene.log() if line["recipient"] == address("voice", 122)] == []


async def test_a_call_without_a_name_stays_discreet(scene: Scene) -> None:
    event = call(130)
    del event["data"]["borrower"]["name"]
    await scene.world.publish([event])
    assert await scene.ended(130) == ("delivered", None)
    (only,) = said(await held(scene, 130))
    assert "There is a notice in your account for today" in only


async def test_what_was_said_is_kept_with_the_attempt(scene: Scene) -> None:
    scene.perform(callee(140, keys=["1"]))
    await scene.world.publish([call(140)])
    await scene.ended(140)
    spoken = said(await held(scene, 140))
    sealer = sealing(scene)
    (attempt,) = await scene.attempts(140)
    sealed = await scene.value("select sealed from decision where attempt = $1", attempt["id"])
    words = json.loads(sealer.open(sealed, attempt["id"], "attempt"))
    assert words["address"] == address("voice", 140)
    lines = words["dialogue"]
    assert spoken[0] == lines["identity"]
    assert spoken[1] == f"{lines['debt']} {lines['menu']}"
    shown = [tuple(row) for row in await scene.sql("select kind, code from receipt where attempt = $1", attempt["id"])]
    assert ("key", "confirmed") in shown
    assert ("key", "silent") in shown


@pytest.mark.parametrize(("vendor", "lender", "number"), [("twilio", "acme", 150), ("aliyun_sms", "jinhe", 151)])
async def test_a_reply_is_sealed_and_told(scene: Scene, vendor: str, lender: str, number: int) -> None:
    await scene.world.publish([requested(number, ["sms"], lender=lender)])
    assert await scene.ended(number) == ("delivered", None)
    bare = address("sms", number).removeprefix("+86") if vendor == "aliyun_sms" else address("sms", number)
    letter = {"vendor": vendor, "number": bare, "content": "已经还了，谢谢 🙏", "dest_code": OURS}
    control = f"{scene.world.simulator.urls.control}/reply"
    async with aiohttp.ClientSession() as session, session.post(control, json=letter) as response:
        assert response.status == 200, await response.text()

    async def told() -> list[dict[str, Any]]:
        events = [each["data"] for each in await scene.world.read(scene.world.topics.events) if each["type"] == REPLIED]
        return [each for each in events if each.get("request_id") == f"request-{number}"]

    (event,) = await until(told, "the event of the reply")
    (attempt,) = await scene.attempts(number)
    assert (event["provider"], event["channel"]) == (vendor, "sms")
    assert address("sms", number)[1:] not in json.dumps(event)
    (row,) = await scene.sql(
        "select p.* from reply p join receipt r on r.id = p.id where r.attempt = $1", attempt["id"]
    )
    words = json.loads(sealing(scene).open(row["sealed"], row["id"], REPLY_FIELD))
    assert words == {"sender": address("sms", number), "recipient": OURS, "text": letter["content"]}


def sealing(scene: Scene) -> Sealer:
    environ = scene.gateway.settings.environ
    key, index = (base64.b64decode(environ[name]) for name in ("GATEWAY_SEAL_KEY_1", "GATEWAY_INDEX_KEY"))
    return Sealer({1: key}, 1, index)
