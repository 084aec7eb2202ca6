"""Canaries: planted names, numbers, tokens, links and words appear sealed or at the vendor, and nowhere else."""

import base64
import datetime as dt
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest

from gateway.dev.settings import LENDER_THAT_ASKS
from gateway.intake.letters import unseal
from gateway.personal import SEALED_FIELD
from schemas.messages import OPTED_OUT, REPLIED
from tests.stack.canaries import AMOUNT, LINK, NAME, WORD, assert_nowhere_else, found, sealer_of
from tests.stack.gateway import address, cancelled, requested
from tests.stack.scene import Scene, rule, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

OVERRIDES = {
    "log_level": "debug",
    "providers": {name: {"receipt_window_hours": 3 / 3600, "read_timeout_seconds": 1} for name in ("twilio", "aliyun")},
}
NUMBERS = range(7_654_000, 7_654_012)


def planted() -> list[str]:
    """Everything personal that goes in, as it is written, and as a phone book or a URL would write it."""
    words = [NAME, NAME.split()[1], LINK, "canary-link", AMOUNT, "7,654,321", WORD]
    for number in NUMBERS:
        sms, voice = address("sms", number), address("voice", number)
        words += [sms[1:], sms[3:], voice[1:], voice[3:], address("push", number)[:-4]]
    return words


def canary(number: int, channels: Iterable[str] = ("sms",), **changes: Any) -> dict[str, Any]:
    event = requested(number, list(channels), **changes)
    event["data"]["borrower"]["name"] = NAME
    event["data"]["debt"]["amount"] = AMOUNT
    event["data"]["params"]["pay_url"] = LINK
    return event


async def test_nothing_personal_leaves_but_to_the_vendor(scene: Scene, postgres: Any) -> None:
    n = NUMBERS
    scene.perform(
        rule(n[1], "twilio", action="error", code="21211"),
        rule(n[2], "twilio", action="hang", receipts={"lost": True}),
        rule(n[3], "fcm", action="error", code="INVALID_ARGUMENT"),
        rule(n[4], "aliyun", action="truncate"),
        rule(n[5], "aliyun", action="error", status=502),
        {"vendor": "twilio_voice", "recipient": address("voice", n[11]), "callee": {"keys": ["1", "9"]}},
    )
    good = [
        canary(n[0]),
        canary(n[1], ["sms", "voice"]),
        canary(n[2], ["sms"]),
        canary(n[3], ["push"]),
        canary(n[4], ["voice"]),
        canary(n[5], ["voice"]),
        canary(n[11], ["voice"], lender=LENDER_THAT_ASKS),
        canary(n[10], send_at=(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()),
    ]
    await scene.world.publish(good)
    await scene.world.publish(list(bad()))
    for number in (n[0], n[1], n[11]):
        assert await scene.ended(number) == ("delivered", None)
    await says_something_back(scene)
    await forged_callbacks(scene)
    # Faults: the ledger refuses one, then goes away with work in hand.
    await scene.sql(f"alter table reminder add constraint t check (debt <> 'debt-{n[6]}') not valid")
    await scene.world.publish([canary(n[6])])
    await scene.caught_up()
    scene.perform(rule(n[7], "twilio", latency=[1, 1]))
    await scene.world.publish([canary(n[7]), canary(n[8], ["push"])])
    await scene.reached(n[7], "sending")
    await postgres.kill()
    await scene.world.publish([canary(n[9])])
    await postgres.launch()
    for number in (n[2], n[3], n[4], n[5], n[7], n[8], n[9]):
        await until(lambda number=number: settled(scene, number), f"end of {number}")  # type: ignore[misc]
    await scene.relayed()

    said = postgres.process.log.read_bytes()
    tables = await assert_nowhere_else(scene, planted(), said, f"debt-{n[6]}")
    assert tables >= {
        "attempt", "deadletter", "decision", "ending", "inbox", "live", "receipt", "reminder", "reply", "subject",
    }  # fmt: skip


async def says_something_back(scene: Scene) -> None:
    """A reply that repeats everything, and a key press in a call."""
    words = f"{NAME}: {AMOUNT} {LINK} {WORD}"
    letter = {"vendor": "twilio", "number": address("sms", NUMBERS[0]), "content": words}
    control = f"{scene.world.simulator.urls.control}/reply"
    async with aiohttp.ClientSession() as session, session.post(control, json=letter) as response:
        assert response.status == 200
    await scene.heard(REPLIED)
    await scene.heard(OPTED_OUT)


@pytest.mark.parametrize("word", ["+8613907654000", "abc/def+ghi=", "Canaria Vogelsang", "0123456789abcdef01234567"])
async def test_a_word_is_found_in_whatever_dress(word: str) -> None:
    """The sweep would pass for ever if it could not see."""
    raw = word.encode()
    dresses = [raw, json.dumps({"a": word}).encode(), quote(word).encode(), quote_plus(word).encode()]
    dresses += [base64.b64encode(b"x" * n + raw + b"y") for n in range(3)]
    dresses += [b"\\x" + (b"x" + raw).hex().encode()]
    for dress in dresses:
        assert found([word], b"before " + dress + b" after") != [], dress
    assert found([word], b"before " + raw[:-1] + b" after") == []


async def settled(scene: Scene, number: int) -> Any:
    row = await scene.state(number)
    return row if row is not None and (row["ended"] or row["state"] == "held") else None


def bad() -> Iterable[bytes]:
    """Bad records that carry canaries where careless code would quote them."""
    number = NUMBERS[0]
    phone = address("sms", number)
    base = canary(number + 100)
    base["data"]["contacts"] = [{"channel": "sms", "address": phone}]

    def changed(**changes: Any) -> bytes:
        return json.dumps(base | {"data": base["data"] | changes}).encode()

    yield json.dumps(base).encode()[:-1]
    yield changed(**{phone: NAME})
    yield changed(contacts=[{"channel": WORD, "address": phone}])
    yield changed(contacts=[{"channel": "sms", "address": phone + " " + NAME}])
    yield changed(stage=NAME)
    yield changed(params={NAME: phone})
    yield changed(params={WORD: LINK})
    yield changed(borrower=base["data"]["borrower"] | {"ref": phone, "name": NAME})
    yield changed(not_after=NAME)
    yield changed(lender=phone)
    yield changed(template=address("voice", number)[1:])
    yield json.dumps(base | {"source": phone}).encode()
    yield json.dumps(base | {"id": phone[1:]}).encode()
    yield json.dumps(base | {"type": NAME}).encode()
    yield json.dumps(cancelled(number + 200, {"kind": NAME, "ref": phone})).encode()
    conflicting = canary(number)
    conflicting["data"]["borrower"]["name"] = NAME + " II"
    yield json.dumps(conflicting).encode()


async def forged_callbacks(scene: Scene) -> None:
    settings = scene.gateway.settings
    base, token = settings.tree["http"]["public_url"], settings.environ["GATEWAY_CALLBACK_TOKEN"]
    phone = address("sms", NUMBERS[0])
    bodies: list[Any] = [{"MessageSid": phone, "From": phone, "Body": NAME}, NAME, json.dumps([{"out_id": phone}])]
    async with aiohttp.ClientSession() as session:
        for provider in ("twilio", "aliyun", NAME):
            for path in (token, token + "/" + phone[1:], phone):
                for body in bodies:
                    async with session.post(f"{base}/callbacks/{provider}/{path}", data=body):
                        pass
        async with session.post(f"{base}/events/push", data=NAME, headers={"Authorization": f"Bearer {phone}"}):
            pass


async def test_the_seals_hold_what_is_nowhere_else(scene: Scene) -> None:
    """The sweep above would also pass on a gateway that forgets everything."""
    sealer, number = sealer_of(scene), NUMBERS[0]
    (row,) = await scene.sql("select id, sealed from reminder where request_id = $1", f"request-{number}")
    facts = sealer.open(row["sealed"], row["id"], SEALED_FIELD)
    assert {NAME, LINK, AMOUNT, address("sms", number)[1:]} <= set(found(planted(), facts))
    (sent,) = await scene.sql(
        "select attempt, sealed from decision where reminder = $1 and verdict = 'send'", row["id"]
    )
    text = sealer.open(sent["sealed"], sent["attempt"], "attempt")
    assert {"canary-link", "7,654,321", address("sms", number)[1:]} <= set(found(planted(), text))
    letters = await scene.sql("select id, sealed from deadletter")
    assert all(found(planted(), unseal(each["sealed"], each["id"], sealer).value or b"") for each in letters)
    assert len(letters) == len(list(bad())) + 1
