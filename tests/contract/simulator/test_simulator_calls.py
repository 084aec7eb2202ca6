"""Twilio Voice: what its own library sends and reads, how a call goes, and what its status callbacks say."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from simulator_bench import Bench, FarEnd, Start
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse

from gateway.dev.simulator import Action, Callee, Outcome, Pickup, ReceiptPlan, Rule, Vendor

PHONE = "+14155550100"
EVERY = ["initiated", "ringing", "answered", "completed"]
VOICE = Vendor.TWILIO_VOICE


def twilio(bench: Bench, token: str | None = None) -> Client:
    secrets = bench.simulator.credentials
    client = Client(secrets.twilio_account_sid, token or secrets.twilio_auth_token)
    client.api.base_url = bench.base
    return client


async def create(client: Client, **fields: Any) -> Any:
    given = {"to": PHONE, "from_": "+14155550000", "twiml": "<Response/>", **fields}
    return await asyncio.to_thread(lambda: client.calls.create(**{n: v for n, v in given.items() if v is not None}))


def statuses(end: FarEnd) -> list[str]:
    return [call.form["CallStatus"] for call in end.calls]


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


async def test_callbacks_pass_the_vendors_validator(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    url = f"{far_end.base}/cb/T%2F1/REF1?a=b%20c&d=%E4%BD%A0"
    _, answer = await bench.call(StatusCallback=f"{url}#rc=2&rp=all", StatusCallbackEvent=EVERY)
    await bench.simulator.settled()
    assert statuses(far_end) == ["initiated", "ringing", "in-progress", "completed"]
    validator = RequestValidator(bench.simulator.credentials.twilio_auth_token)
    for number, call in enumerate(far_end.calls):
        assert call.url == url
        form, signature = call.form, call.headers["x-twilio-signature"]
        assert validator.validate(call.url, form, signature)
        assert not validator.validate(call.url, {**form, "CallStatus": "busy"}, signature)
        assert abs((datetime.now(UTC) - parsedate_to_datetime(form.pop("Timestamp"))).total_seconds()) < 60
        assert form == {
            "CallSid": answer["sid"],
            "AccountSid": bench.simulator.credentials.twilio_account_sid,
            "From": "+14155550000",
            "To": PHONE,
            "CallStatus": ["initiated", "ringing", "in-progress", "completed"][number],
            "ApiVersion": "2010-04-01",
            "Direction": "outbound-api",
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(number),
            **({"CallDuration": "0", "Duration": "0", "SipResponseCode": "200"} if number == 3 else {}),
        }
    lines = bench.lines("receipt")
    assert [(line["id"], line["reference"], line["attempt"], line["answer"]) for line in lines] == [
        (answer["sid"], "REF1", 1, 200)
    ] * 4


@pytest.mark.parametrize(
    ("events", "expected"),
    [(None, ["completed"]), (["ringing"], ["ringing"]), (["answered", "completed"], ["in-progress", "completed"])],
)
async def test_only_what_was_asked_for_is_told(
    start: Start, far_end: FarEnd, events: list[str] | None, expected: list[str]
) -> None:
    bench = await start()
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF", StatusCallbackEvent=events)
    await bench.call()  # and nothing without a URL
    await bench.simulator.settled()
    assert statuses(far_end) == expected
    assert [call.form["SequenceNumber"] for call in far_end.calls] == [str(n) for n in range(len(expected))]


async def test_callbacks_by_get_are_signed_over_their_query(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF?a=1", StatusCallbackMethod="GET")
    await bench.simulator.settled()
    (call,) = far_end.calls
    assert (call.method, call.body) == ("GET", b"")
    query = dict(parse_qsl(urlsplit(call.url).query))
    assert (query["a"], query["CallStatus"]) == ("1", "completed")
    validator = RequestValidator(bench.simulator.credentials.twilio_auth_token)
    assert validator.validate(call.url, {}, call.headers["x-twilio-signature"])


UNANSWERED = [
    (Pickup.NO_ANSWER, ["initiated", "ringing", "no-answer"], "487"),
    (Pickup.BUSY, ["initiated", "busy"], "486"),
    (Pickup.DECLINED, ["initiated", "ringing", "busy"], "603"),
    (Pickup.FAILED, ["initiated", "failed"], "404"),
    (Pickup.CANCELED, ["initiated", "ringing", "canceled"], "487"),
]


@pytest.mark.parametrize(("pickup", "expected", "sip"), UNANSWERED)
async def test_nobody_takes_it(start: Start, far_end: FarEnd, pickup: Pickup, expected: list[str], sip: str) -> None:
    bench = await start(Rule(callee=Callee(pickup=pickup)))
    twiml = "<Response><Say>M-1</Say></Response>"
    callback = {"StatusCallback": f"{far_end.base}/cb/REF", "StatusCallbackEvent": EVERY}
    await bench.call(twiml, MachineDetection="Enable", **callback)
    await bench.simulator.settled()
    assert statuses(far_end) == expected
    last = far_end.calls[-1].form
    assert (last["CallDuration"], last["Duration"], last["SipResponseCode"]) == ("0", "0", sip)
    assert "AnsweredBy" not in last
    (line,) = bench.lines("call")
    assert (line["status"], line["ended"], line["transcript"]) == (expected[-1], "not_answered", [])
    assert (line["pickup"], line["marker"], line["seconds"]) == (pickup.value, None, 0)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.ANSWERED, ["initiated", "ringing", "in-progress", "completed"]),
        (Outcome.BUSY, ["initiated", "busy"]),
        (Outcome.NO_ANSWER, ["initiated", "ringing", "no-answer"]),
        (Outcome.FAILED, ["initiated", "failed"]),
        (Outcome.SENT, ["initiated", "ringing", "in-progress"]),
        (Outcome.NONE, []),
    ],
)
async def test_an_outcome_alone_says_who_takes_it(
    start: Start, far_end: FarEnd, outcome: Outcome, expected: list[str]
) -> None:
    bench = await start(Rule(receipts=ReceiptPlan(outcome=outcome)))
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF", StatusCallbackEvent=EVERY)
    await bench.simulator.settled()
    assert statuses(far_end) == expected
    assert len(bench.lines("call")) == 1


async def test_the_response_code_may_be_ordered(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(callee=Callee(pickup=Pickup.FAILED), receipts=ReceiptPlan(code="503")))
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF")
    await bench.simulator.settled()
    assert [(call.form["CallStatus"], call.form["SipResponseCode"]) for call in far_end.calls] == [("failed", "503")]


@pytest.mark.parametrize(("rings", "status"), [(29.0, "completed"), (31.0, "no-answer")])
async def test_it_rings_as_long_as_timeout_says(start: Start, rings: float, status: str) -> None:
    bench = await start(Rule(callee=Callee(rings=rings)))
    await bench.call(Timeout="30")
    await bench.simulator.settled()
    assert [line["status"] for line in bench.lines("call")] == [status]


@pytest.mark.parametrize(
    ("callee", "detection", "expected"),
    [
        (Callee(), None, None),
        (Callee(), "none", None),
        (Callee(pickup=Pickup.MACHINE), None, None),
        (Callee(), "Enable", "human"),
        (Callee(), "DetectMessageEnd", "human"),
        (Callee(pickup=Pickup.MACHINE), "Enable", "machine_start"),
        (Callee(pickup=Pickup.MACHINE), "DetectMessageEnd", "machine_end_beep"),
        (Callee(pickup=Pickup.MACHINE, detected="human"), "Enable", "human"),
        (Callee(detected="unknown"), "Enable", "unknown"),
    ],
)
async def test_a_machine_is_told_only_when_asked_for(
    start: Start, far_end: FarEnd, callee: Callee, detection: str | None, expected: str | None
) -> None:
    bench = await start(Rule(callee=callee))
    twiml = "<Response><Gather/><Say>Voicemail M-1</Say></Response>"
    await bench.call(twiml, StatusCallback=f"{far_end.base}/cb/REF", MachineDetection=detection)
    await bench.simulator.settled()
    (call,) = far_end.calls
    assert (call.form["CallStatus"], call.form.get("AnsweredBy")) == ("completed", expected)
    (line,) = bench.lines("call")
    assert (line["answered_by"], line["pickup"]) == (expected, callee.pickup.value)


async def test_durations_are_the_calls_own(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    twiml = '<Response><Pause length="61"/><Say>12345</Say></Response>'
    await bench.call(twiml, StatusCallback=f"{far_end.base}/cb/REF")
    twice = '<Response><Pause length="20"/><Pause length="20"/></Response>'
    await bench.call(twice, TimeLimit="30", StatusCallback=f"{far_end.base}/cb/L")
    await bench.simulator.settled()
    told = {call.url[-1]: (call.form["CallDuration"], call.form["Duration"]) for call in far_end.calls}
    assert told == {"F": ("62", "2"), "L": ("30", "1")}
    assert {line["reference"]: line["ended"] for line in bench.lines("call")} == {
        "REF": "end_of_document", "L": "time_limit",
    }  # fmt: skip


async def test_who_was_told_that_it_is_over_finds_the_transcript(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF")
    await bench.simulator.settled()
    assert [line["kind"] for line in bench.lines()] == ["started", "accepted", "call", "receipt"]


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


@pytest.mark.parametrize(
    ("receipts", "expected"),
    [
        (ReceiptPlan(copies=2), ["initiated", "ringing", "in-progress", "completed"] * 2),
        (ReceiptPlan(reorder=True), ["completed", "in-progress", "ringing", "initiated"]),
        (ReceiptPlan(lost=True), []),
    ],
)
async def test_callbacks_are_disturbed_on_order(
    start: Start, far_end: FarEnd, receipts: ReceiptPlan, expected: list[str]
) -> None:
    bench = await start(Rule(receipts=receipts))
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF", StatusCallbackEvent=EVERY)
    await bench.simulator.settled()
    assert statuses(far_end) == expected
    if receipts.lost:
        assert {(line["attempt"], line["answer"]) for line in bench.lines("receipt")} == {(0, "lost")}
        assert len(bench.lines("receipt")) == 4
    else:
        tokens = [call.headers["i-twilio-idempotency-token"] for call in far_end.calls]
        assert len(set(tokens)) == 4, "a copy is the same request once more"


async def test_callbacks_may_be_late_and_hold_up_nothing(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(receipts=ReceiptPlan(delay=(0.3, 0.3))))
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF")
    await bench.logged("call")
    assert far_end.calls == []
    await bench.simulator.settled()
    assert statuses(far_end) == ["completed"]


async def test_a_call_may_begin_before_its_answer(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(latency=(0.2, 0.2)))
    calling = asyncio.create_task(bench.call(StatusCallback=f"{far_end.base}/cb/REF"))
    await bench.logged("receipt")
    assert not calling.done()
    assert (await calling)[0] == 201


async def test_callbacks_are_retried_as_the_fragment_says(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    far_end.answers.extend([(503, "", 0.0)] * 2)
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF#rc=3&rp=5xx")
    await bench.simulator.settled()
    assert [line["answer"] for line in bench.lines("receipt")] == [503, 503, 200]
    assert len({call.body for call in far_end.calls}) == 1


async def test_only_this_machine_is_told(start: Start) -> None:
    bench = await start()
    await bench.call(StatusCallback="http://192.0.2.1/cb/REF", StatusCallbackEvent=EVERY)
    await bench.simulator.settled()
    assert [(line["attempt"], line["answer"]) for line in bench.lines("receipt")] == [(0, "not_loopback")] * 4
