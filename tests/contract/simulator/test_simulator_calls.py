"""Twilio Voice: what its own library sends is accepted, what it parses it can read; and misbehaviour on order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from simulator_bench import Bench, FarEnd, Start
from simulator_talk import EVERY, PHONE, VOICE
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse

from gateway.dev.simulator import Action, Rule


def twilio(bench: Bench, token: str | None = None) -> Client:
    secrets = bench.simulator.credentials
    client = Client(secrets.twilio_account_sid, token or secrets.twilio_auth_token)
    client.api.base_url = bench.base
    return client


async def create(client: Client, **fields: Any) -> Any:
    given = {"to": PHONE, "from_": "+14155550000", "twiml": "<Response/>", **fields}
    return await asyncio.to_thread(lambda: client.calls.create(**{n: v for n, v in given.items() if v is not None}))


async def test_the_vendors_library_calls(start: Start) -> None:
    bench = await start()
    said = VoiceResponse()
    said.say("您好 M-7Q", language="zh-CN")
    asked = said.gather(num_digits=1, action="http://127.0.0.1:9/cb/SECRET/1")
    asked.say("Press <1>.")
    call = await create(
        twilio(bench),
        twiml=said,
        status_callback="http://127.0.0.1:9/cb/SECRET/REF1",
        status_callback_event=EVERY,
        machine_detection="Enable",
        timeout=30,
        time_limit=600,
    )
    assert call.sid.startswith("CA")
    assert len(call.sid) == 34
    assert (call.status, call.direction, call.to, call._from) == ("queued", "outbound-api", PHONE, "+14155550000")
    assert abs((datetime.now(UTC) - call.date_created).total_seconds()) < 60
    assert (call.start_time, call.duration, call.answered_by) == (None, None, None)
    assert call.subresource_uris["recordings"] == call.uri.replace(".json", "/Recordings.json")
    (line,) = bench.lines("accepted")
    assert {name: line[name] for name in ("vendor", "id", "recipient", "text_or_template", "reference", "marker")} == {
        "vendor": "twilio_voice",
        "id": call.sid,
        "recipient": PHONE,
        "text_or_template": "您好 M-7Q\nPress <1>.",
        "reference": "REF1",
        "marker": "M-7Q",
    }
    assert line["params"] == {
        "From": "+14155550000", "Timeout": "30", "TimeLimit": "600", "MachineDetection": "Enable",
        "StatusCallbackEvent": EVERY,
    }  # fmt: skip
    await bench.simulator.settled()
    assert "SECRET" not in bench.log.read_text(), "the path tokens of the URLs are secrets"


BAD_FIELDS: list[tuple[dict[str, Any], int]] = [
    ({"to": ""}, 21201),
    ({"to": "alice"}, 21211),
    ({"to": "+123"}, 21217),
    ({"to": "+01415555010"}, 21217),
    ({"from_": ""}, 21213),
    ({"from_": "14155550000"}, 21212),
    ({"twiml": None}, 21205),
    ({"url": "ftp://x/y"}, 21205),
    ({"url": "Hello"}, 21205),
    ({"twiml": f"<Response><Say>{'x' * 4000}</Say></Response>"}, 32018),
    ({"twiml": "<Response><Say>a & b</Say></Response>"}, 12100),
    ({"twiml": "<Response><Sing/></Response>"}, 12200),
    ({"method": "PUT"}, 21209),
    ({"status_callback_method": "get"}, 21209),
    ({"status_callback": "http://[/y"}, 21609),
    ({"status_callback_event": ["completed", "hungup"]}, 21626),
    ({"timeout": 0}, 21208),
    ({"timeout": 601}, 21208),
    ({"time_limit": -1}, 21200),
    ({"machine_detection": "Maybe"}, 21200),
    ({"send_digits": "1"}, 20001),
    ({"async_amd": "true"}, 20001),
]


async def test_bad_fields_are_refused(start: Start) -> None:
    bench = await start()
    client = twilio(bench)
    for fields, code in BAD_FIELDS:
        with pytest.raises(TwilioRestException) as refused:
            await create(client, **fields)
        assert (fields, refused.value.status, refused.value.code) == (fields, 400, code)
    assert [line["code"] for line in bench.lines("refused")] == [str(code) for _, code in BAD_FIELDS]
    assert not bench.lines("accepted")


async def test_a_wrong_token_is_refused(start: Start) -> None:
    bench = await start()
    with pytest.raises(TwilioRestException) as refused:
        await create(twilio(bench, token="0" * 32))
    assert (refused.value.status, refused.value.code) == (401, 20003)


@pytest.mark.parametrize(("code", "status"), [("21210", 400), ("21215", 400), ("20429", 429), ("20503", 503)])
async def test_scripted_errors_are_read(start: Start, code: str, status: int) -> None:
    bench = await start(Rule(vendor=VOICE, action=Action.ERROR, code=code))
    with pytest.raises(TwilioRestException) as refused:
        await create(twilio(bench))
    assert (refused.value.status, refused.value.code) == (status, int(code))
    assert (await bench.sms())[0] == 201, "messages are another wire"


@pytest.mark.parametrize("action", list(Action))
async def test_misbehaviour_on_order(start: Start, far_end: FarEnd, action: Action) -> None:
    code = {"code": "20429", "after_accept": True} if action is Action.ERROR else {}
    bench = await start(Rule(vendor=VOICE, action=action, seconds=0.1, latency=(0.05, 0.05), **code))
    answered = None
    with suppress(aiohttp.ClientError):
        answered = (await bench.call(StatusCallback=f"{far_end.base}/cb/REF"))[0]
    await bench.simulator.settled()
    assert answered == {Action.ANSWER: 201, Action.ERROR: 429}.get(action)
    called = action.accepts or action is Action.ERROR
    assert len(bench.lines("accepted")) == len(bench.lines("call")) == len(far_end.calls) == called
    assert len(bench.lines("dropped")) == (not called)


async def test_a_call_may_begin_before_its_answer(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(latency=(0.2, 0.2)))
    calling = asyncio.create_task(bench.call(StatusCallback=f"{far_end.base}/cb/REF"))
    await bench.logged("receipt")
    assert not calling.done()
    assert (await calling)[0] == 201
