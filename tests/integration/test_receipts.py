"""Receipts: early, twice, out of order, late, for nobody; and everything that is no receipt at all."""

import asyncio
import base64
import datetime as dt
import gzip
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from gateway.ids import to_reference
from tests.stack.gateway import requested
from tests.stack.scene import Scene, rule, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW = {"receipt_window_hours": 2 / 3600}
PATIENT = {"receipt_window_hours": 30 / 3600}  # longer than a parked receipt waits for its sweep
OVERRIDES = {
    "providers": {"twilio": WINDOW, "aliyun": PATIENT, "fcm": WINDOW},
    "http": {"max_body_bytes": 4096, "read_timeout_seconds": 1},
}


def url_of(scene: Scene, provider: str, attempt: str = "") -> str:
    token = scene.gateway.settings.environ["GATEWAY_CALLBACK_TOKEN"]
    return (
        f"{scene.gateway.settings.tree['http']['public_url']}/callbacks/{provider}/{token}{attempt and '/' + attempt}"
    )


async def post(url: str, body: Any, headers: Mapping[str, str] | None = None) -> int:
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        await response.read()
        return response.status


def signed(scene: Scene, url: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Headers of a form as Twilio signs it."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    secret = scene.gateway.settings.environ["TWILIO_AUTH_TOKEN"].encode()
    signature = base64.b64encode(hmac.digest(secret, text.encode(), hashlib.sha1)).decode()
    return {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}


async def twilio(scene: Scene, sid: str, status: str, attempt: str = "", **more: str) -> int:
    url = url_of(scene, "twilio", attempt)
    fields = {"MessageSid": sid, "MessageStatus": status, **more}
    return await post(url, urlencode(fields), signed(scene, url, fields))


async def vendor_id(scene: Scene, number: int) -> str:
    async def there() -> str | None:
        return next((each["id"] for each in scene.log() if each["marker"] == f"M-{number}"), None)

    return await until(there, f"message to {number}")


async def dispositions(scene: Scene, number: int) -> list[str]:
    rows = await scene.sql(
        "select r.disposition from receipt r join attempt a on a.id = r.attempt join reminder m on m.id = a.reminder "
        "where m.request_id = $1 order by r.id",
        f"request-{number}",
    )
    return [row[0] for row in rows]


async def test_before_our_own_record(scene: Scene) -> None:
    """The vendor answers only after its receipts: for us the attempt is still intended."""
    scene.perform(rule(1, "twilio", latency=[0.8, 0.8], receipts={"delay": [0, 0]}))
    await scene.world.publish([requested(1, ["sms", "voice"])])
    assert await scene.ended(1) == ("delivered", None)
    await asyncio.sleep(1)
    ((_, state, _),) = await scene.ladder(1)
    assert state == "delivered"  # the answer `accepted`, coming last, moves nothing
    assert await scene.value("select count(*) from provider_ref p join attempt a on a.id = p.attempt "
                             "join reminder r on r.id = a.reminder where r.request_id = 'request-1'") == 1  # fmt: skip
    states = [each["state"] for each in await scene.told(1, 2)]
    assert states[-1] == "delivered"
    assert [each["seq"] for each in await scene.events(1)] == list(range(1, len(states) + 1))


async def test_twice_and_backwards(scene: Scene) -> None:
    scene.perform(rule(10, "twilio", receipts={"copies": 3}), rule(11, "twilio", receipts={"reorder": True}))
    await scene.world.publish([requested(10), requested(11)])
    for number in (10, 11):
        assert await scene.ended(number) == ("delivered", None)
    await scene.world.simulator.settled()
    await asyncio.sleep(0.3)
    # A copy is a replay: answered, and not even kept.
    assert await dispositions(scene, 10) == ["applied", "applied"]
    assert await dispositions(scene, 11) == ["applied", "out_of_order"]
    for number in (10, 11):
        assert [each["state"] for each in await scene.told(number, 3)] == ["scheduled", "awaiting", "delivered"]


async def test_the_same_word_in_another_envelope_is_a_duplicate(scene: Scene) -> None:
    scene.perform(rule(15, "twilio", receipts={"lost": True}))
    await scene.world.publish([requested(15)])
    await scene.reached(15, "awaiting")
    sid = await vendor_id(scene, 15)
    assert await twilio(scene, sid, "delivered") < 300
    assert await scene.ended(15) == ("delivered", None)
    assert await twilio(scene, sid, "delivered", Note="again") < 300

    async def both() -> bool:
        return await dispositions(scene, 15) == ["applied", "duplicate"]

    await until(both, "duplicate")
    # Another last word does not undo the first.
    assert await twilio(scene, sid, "undelivered", ErrorCode="30003") < 300

    async def conflict() -> bool:
        return (await dispositions(scene, 15))[2:] == ["conflict"]

    await until(conflict, "conflict")
    assert await scene.ended(15) == ("delivered", None)


async def test_late_corrects(scene: Scene) -> None:
    """After the window closed: unconfirmed, then raised, and told as a correction."""
    lost = {"receipts": {"lost": True}}
    scene.perform(rule(20, "twilio", **lost), rule(21, "twilio", **lost), rule(22, "twilio", action="hang", **lost))
    await scene.world.publish([requested(20), requested(21), requested(22)])
    for number, reason in ((20, "no_receipt"), (21, "no_receipt"), (22, "outcome_unknown")):
        assert await scene.ended(number) == ("unconfirmed", reason)
    # Of the third we never learnt the vendor's id; the path of its callbacks names the attempt.
    for number, status in ((20, "delivered"), (21, "undelivered"), (22, "delivered")):
        assert await twilio(scene, await vendor_id(scene, number), status, await attempt_of(scene, number)) < 300
        await scene.reached(number, status)
        last = (await scene.told(number, 4))[-1]
        assert (last["seq"], last["state"], last["correction"]) == (4, status, True)
        assert await dispositions(scene, number) == ["late"]


async def attempt_of(scene: Scene, number: int) -> str:
    (attempt,) = await scene.attempts(number)
    return to_reference(attempt["id"])


async def test_for_nobody_yet_is_parked_then_matched(scene: Scene) -> None:
    """A message id that we do not know, because the answer that carried it is still out."""
    scene.perform(rule(30, "aliyun", latency=[1, 1], receipts={"lost": True}))
    await scene.world.publish([requested(30, ["voice"])])
    call = await vendor_id(scene, 30)
    assert await post(url_of(scene, "aliyun"), json.dumps([{"status_code": "200000", "call_id": call}])) == 200

    async def parked() -> list[Any]:
        return await scene.sql(
            "select 1 from receipt r join parked p on p.receipt = r.id "
            "where r.ref = $1 and r.disposition = 'unmatched'",
            call,
        )

    await until(parked, "parked receipt")
    assert await scene.ended(30) == ("delivered", None)
    assert await dispositions(scene, 30) == ["applied"]
    # One that never matches stays parked and moves nothing.
    assert await twilio(scene, "SM" + "0" * 32, "delivered") < 300

    async def unmatched() -> list[Any]:
        return await scene.sql("select 1 from receipt r join parked p on p.receipt = r.id "
                               "where r.ref like 'SM000%' and r.disposition = 'unmatched'")  # fmt: skip

    await until(unmatched, "unmatched receipt")
    # After 72 hours nobody looks for its attempt any more; it is kept.
    assert await scene.sql(
        "update receipt set received_at = received_at - interval '73 hours' where ref like 'SM000%' returning id"
    )

    async def given_up() -> bool:
        return not await unmatched()

    await until(given_up, "end of the search")
    assert await scene.value("select disposition::text from receipt where ref like 'SM000%'") == "unmatched"


async def test_one_bad_element_of_an_array(scene: Scene) -> None:
    scene.perform(*(rule(number, "aliyun", receipts={"lost": True}) for number in (40, 41)))
    await scene.world.publish([requested(number, ["voice"]) for number in (40, 41)])
    for number in (40, 41):
        await scene.reached(number, "awaiting")
    reports = [
        {"status_code": "200000", "call_id": await vendor_id(scene, 40), "out_id": await attempt_of(scene, 40)},
        {"status_code": "surprise", "call_id": "1^2"},
        "not even an object",
        {"status_code": "200002", "call_id": await vendor_id(scene, 41), "out_id": await attempt_of(scene, 41)},
    ]
    assert await post(url_of(scene, "aliyun"), json.dumps(reports)) == 200
    assert await scene.ended(40) == ("delivered", None)
    assert await scene.ended(41) == ("undelivered", "contacts_exhausted")
    assert await scene.value("select count(*) from receipt where disposition = 'invalid'") == 2
    before = await scene.value("select count(*) from receipt")
    assert await post(url_of(scene, "aliyun"), json.dumps(reports)) == 200
    assert await scene.value("select count(*) from receipt") == before  # a replay of the whole array


async def test_what_is_not_a_receipt_changes_nothing(scene: Scene) -> None:
    scene.perform(rule(50, "twilio", receipts={"lost": True}))
    await scene.world.publish([requested(50)])
    await scene.reached(50, "awaiting")
    before = await scene.value("select count(*) from receipt")
    sid = await vendor_id(scene, 50)
    url = url_of(scene, "twilio")
    fields = {"MessageSid": sid, "MessageStatus": "delivered"}
    good = signed(scene, url, fields)
    body = urlencode(fields)
    forged = good | {"X-Twilio-Signature": base64.b64encode(b"x" * 20).decode()}
    assert await post(url, body, forged) == 401
    assert await post(url, body, {"Content-Type": good["Content-Type"]}) == 401
    assert await post(url, urlencode(fields | {"MessageStatus": "read"}), good) == 401
    assert await post(url[:-1] + ("A" if url[-1] != "A" else "B"), body, good) == 404
    assert await post(url.replace("/twilio/", "/nobody/"), body, good) == 404
    assert await post(url, b"x" * 5000, good) == 413
    assert await post(url, gzip.compress(body.encode()), good | {"Content-Encoding": "gzip"}) == 415
    assert await slow_body(url) == 408
    assert await scene.value("select count(*) from receipt") == before
    assert (await scene.state(50))["state"] in ("awaiting", "unconfirmed")  # type: ignore[index]
    for outcome in ("unauthenticated", "too_large", "malformed"):
        assert await scene.metric("callbacks_total", provider="twilio", outcome=outcome) > 0


async def slow_body(url: str) -> int:
    """Promises a body and never sends the end of it."""
    host, _, rest = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reading, writing = await asyncio.open_connection(name, int(port))
    try:
        writing.write(f"POST /{rest} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\nhalf".encode())
        status = await asyncio.wait_for(reading.readline(), 10)
        return int(status.split()[1])
    finally:
        writing.close()


async def test_events_of_the_app(scene: Scene) -> None:
    scene.perform(rule(60, "fcm", receipts={"lost": True}))
    await scene.world.publish([requested(60, ["push"]), requested(61, ["sms"])])
    await scene.reached(60, "awaiting")
    assert await scene.ended(61) == ("delivered", None)
    url = f"{scene.gateway.settings.tree['http']['public_url']}/events/push"
    bearer = {"Authorization": f"Bearer {scene.gateway.settings.environ['GATEWAY_APP_TOKEN']}"}
    now = dt.datetime.now(dt.UTC).isoformat()
    event = {"attempt": await attempt_of(scene, 60), "kind": "opened", "at": now}
    assert await post(url, json.dumps(event)) == 401
    assert await post(url, json.dumps(event), {"Authorization": "Bearer nonsense"}) == 401
    assert await post(url, json.dumps(event | {"kind": "burnt"}), bearer) == 400
    assert await post(url, b"{", bearer) == 400
    assert await post(url, json.dumps(event | {"attempt": "0" * 13}), bearer) == 404
    assert await post(url, json.dumps(event | {"attempt": await attempt_of(scene, 61)}), bearer) == 404
    for _ in range(3):
        assert await post(url, json.dumps(event), bearer) == 204
    assert await scene.ended(60) == ("delivered", None)

    async def engaged() -> list[Any]:
        return await scene.sql("select kind from engagement")

    assert [row[0] for row in await until(engaged, "engagement")] == ["opened"]
    assert await dispositions(scene, 60) == ["applied", "applied"]
