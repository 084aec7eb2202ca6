"""Receipts as the vendors send them: signed, batched, retried on their schedules, and disturbed on order."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest
from simulator_bench import QUICK, Bench, FarEnd, Start
from simulator_clients import aliyun_call, fcm_send
from twilio.request_validator import RequestValidator

from gateway.dev.simulator import Outcome, ReceiptPlan, Rule
from gateway.dev.simulator.twilio_account import sign

# https://www.twilio.com/docs/usage/webhooks/webhooks-security and the vendor's own validator tests.
PUBLISHED = [
    (
        "https://mycompany.com/myapp.php?foo=1&bar=2",
        [("CallSid", "CA1234567890ABCDE"), ("Caller", "+14158675309"), ("Digits", "1234"),
         ("From", "+14158675309"), ("To", "+18005551212")],
        "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
    ),
    (
        "https://mycompany.com/myapp.php?foo=1&bar=2",
        [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")],
        "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
    ),
    (
        "https://MyCompany.com:1234/myapp.php?foo=1&bar=2",
        [("CallSid", "CA1234567890ABCDE"), ("Caller", "+14158675309"), ("Digits", "1234"),
         ("From", "+14158675309"), ("To", "+18005551212")],
        "PCqOZm8cnu/L6+u5i5fuEd+Iac4=",
    ),
]  # fmt: skip


def statuses(end: FarEnd) -> list[str]:
    return [dict(parse_qsl(call.body.decode()))["MessageStatus"] for call in end.calls]


def reports(end: FarEnd) -> list[list[dict[str, Any]]]:
    return [json.loads(call.body) for call in end.calls]


@pytest.mark.parametrize(("url", "params", "expected"), PUBLISHED)
def test_twilio_signature_equals_the_published_ones(url: str, params: list[tuple[str, str]], expected: str) -> None:
    assert sign(url, params, "12345") == expected


async def test_twilio_callbacks_pass_the_vendors_validator(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    _, answer = await bench.sms(callback=f"{far_end.base}/callbacks/twilio/T%2F1/REF1?a=b%20c&d=%E4%BD%A0#rc=2&rp=all")
    await bench.simulator.settled()
    assert statuses(far_end) == ["sent", "delivered"]
    validator = RequestValidator(bench.simulator.credentials.twilio_auth_token)
    for call in far_end.calls:
        assert call.url == f"{far_end.base}/callbacks/twilio/T%2F1/REF1?a=b%20c&d=%E4%BD%A0"
        form = dict(parse_qsl(call.body.decode(), strict_parsing=True))
        assert form["MessageSid"] == form["SmsSid"] == answer["sid"]
        assert validator.validate(call.url, form, call.headers["x-twilio-signature"])
        assert not validator.validate(call.url, {**form, "MessageStatus": "read"}, call.headers["x-twilio-signature"])
    lines = bench.lines("receipt")
    assert [(line["id"], line["reference"], line["status"], line["attempt"], line["answer"]) for line in lines] == [
        (answer["sid"], "REF1", "sent", 1, 200),
        (answer["sid"], "REF1", "delivered", 1, 200),
    ]


@pytest.mark.parametrize(
    ("fragment", "answer", "calls"),
    [
        ("", 503, 2),  # one call for each of two statuses: by default only failed connections are retried
        ("#rc=3&rp=5xx", 503, 8),
        ("#rc=3&rp=5xx", 404, 2),
        ("#rc=9&rp=4xx,ct", 404, 12),  # five retries at most
        ("#rc=0&rp=all", 500, 2),
    ],
)
async def test_twilio_retries_as_the_fragment_says(
    start: Start, far_end: FarEnd, fragment: str, answer: int, calls: int
) -> None:
    bench = await start()
    far_end.answers.extend([(answer, "", 0.0)] * 50)
    await bench.sms(callback=f"{far_end.base}/x/REF{fragment}")
    await bench.simulator.settled()
    assert len(far_end.calls) == calls
    tokens = [call.headers["i-twilio-idempotency-token"] for call in far_end.calls]
    assert len(set(tokens)) == 2, "a retry carries the token of the first try"
    assert {line["answer"] for line in bench.lines("receipt")} == {answer}


async def test_what_a_borrower_writes_to_twilio_passes_the_vendors_validator(start: Start, far_end: FarEnd) -> None:
    bench = await start(receipts=QUICK)
    letter = {"vendor": "twilio", "number": "+14155550100", "content": "已还 M-1 & STOP", "dest_code": "+14155550000"}
    assert await bench.control("reply", letter) == (409, {"errors": ["twilio_sms_url is not set"]})
    far_end.answers.append((503, "", 0.0))
    await bench.control("console", {"twilio_sms_url": f"{far_end.base}/sms/T#rc=1&rp=5xx"})
    status, answer = await bench.control("reply", letter)
    await bench.simulator.settled()
    assert status == 200
    validator = RequestValidator(bench.simulator.credentials.twilio_auth_token)
    first, again = far_end.calls
    assert (first.url, first.body) == (again.url, again.body), "tried again as the fragment says"
    assert validator.validate(first.url, first.form, first.headers["x-twilio-signature"])
    said = {name: first.form[name] for name in ("MessageSid", "SmsStatus", "From", "To", "Body", "NumMedia")}
    assert said == {
        "MessageSid": answer["id"], "SmsStatus": "received", "From": letter["number"], "To": letter["dest_code"],
        "Body": letter["content"], "NumMedia": "0",
    }  # fmt: skip
    (line,) = bench.lines("upstream")
    assert (line["vendor"], line["id"], line["text"]) == ("twilio", answer["id"], letter["content"])


async def test_twilio_retries_refused_connections_once(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    await bench.sms(callback="http://127.0.0.1:1/x/REF")
    await bench.simulator.settled()
    lines = bench.lines("receipt")
    assert sorted((line["status"], line["attempt"]) for line in lines) == [
        ("delivered", 1), ("delivered", 2), ("sent", 1), ("sent", 2),
    ]  # fmt: skip
    assert {line["answer"] for line in lines} == {"connect_error"}


async def test_twilio_gives_up_after_the_read_timeout(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(receipts=ReceiptPlan(outcome=Outcome.SENT)))
    far_end.answers.append((200, "", 5.0))
    await bench.sms(callback=f"{far_end.base}/x/REF#rt=100&rc=1&rp=rt")
    await bench.simulator.settled()
    assert [line["answer"] for line in bench.lines("receipt")] == ["timeout", 200]


@pytest.mark.parametrize(
    ("outcome", "code", "expected"),
    [
        (Outcome.UNDELIVERED, None, [("sent", None), ("undelivered", "30003")]),
        (Outcome.UNDELIVERED, "30005", [("sent", None), ("undelivered", "30005")]),
        (Outcome.FAILED, None, [("failed", "30008")]),
        (Outcome.SENT, None, [("sent", None)]),
        (Outcome.NONE, None, []),
    ],
)
async def test_twilio_tells_every_outcome(
    start: Start, far_end: FarEnd, outcome: Outcome, code: str | None, expected: list[tuple[str, str | None]]
) -> None:
    bench = await start(Rule(receipts=ReceiptPlan(outcome=outcome, code=code)))
    await bench.sms(callback=f"{far_end.base}/x/REF")
    await bench.simulator.settled()
    forms = [dict(parse_qsl(call.body.decode())) for call in far_end.calls]
    assert [(form["MessageStatus"], form.get("ErrorCode")) for form in forms] == expected


async def test_aliyun_pushes_arrays(start: Start, far_end: FarEnd) -> None:
    batching = QUICK.model_copy(update={"aliyun_url": f"{far_end.base}/voice/T", "aliyun_batch": 3})
    bench = await start(receipts=batching)
    calls = [await aliyun_call(bench, number=f"1390000000{n}", reference=f"REF{n}") for n in range(7)]
    await bench.simulator.settled()
    sizes = [len(push) for push in reports(far_end)]
    assert sum(sizes) == 7
    assert max(sizes) <= 3
    told = {report["call_id"]: report for push in reports(far_end) for report in push}
    assert set(told) == {answer["CallId"] for _, answer in calls}
    report = told[calls[0][1]["CallId"]]
    assert (report["out_id"], report["status_code"], report["callee"]) == ("REF0", "200000", "13900000000")
    assert report["start_time"] > report["originate_time"]
    assert "authorization" not in far_end.calls[0].headers, "this vendor signs nothing"


async def test_aliyun_repushes_after_one_five_and_ten_minutes_then_never(start: Start, far_end: FarEnd) -> None:
    scaled = QUICK.model_copy(update={"aliyun_url": f"{far_end.base}/voice/T", "retry_scale": 0.001})
    bench = await start(receipts=scaled)
    # A wrong status, a body without a numeric code, a text code, and the last try.
    far_end.answers.extend([(500, "", 0.0), (200, "ok", 0.0), (200, '{"code":"0"}', 0.0), (503, "", 0.0)])
    await aliyun_call(bench)
    await bench.simulator.settled()
    assert [line["answer"] for line in bench.lines("receipt")] == [500, "bad_reply", "bad_reply", 503]
    gaps = [later.at - earlier.at for earlier, later in pairwise(far_end.calls)]
    for gap, minutes in zip(gaps, (1, 5, 10), strict=True):
        assert minutes * 0.06 <= gap < minutes * 0.06 + 0.5
    assert len({call.body for call in far_end.calls}) == 1


async def test_aliyun_waits_700_milliseconds(start: Start, far_end: FarEnd) -> None:
    bench = await start(receipts=QUICK.model_copy(update={"aliyun_url": f"{far_end.base}/voice/T"}))
    far_end.answers.append((200, '{"code":0}', 1.5))
    await aliyun_call(bench)
    await bench.simulator.settled()
    assert [line["answer"] for line in bench.lines("receipt")] == ["timeout", 200]
    assert 0.69 < far_end.calls[1].at - far_end.calls[0].at < 1.4


@pytest.mark.parametrize(
    ("outcome", "status_code"),
    [(Outcome.BUSY, "200002"), (Outcome.NO_ANSWER, "200003"), (Outcome.DECLINED, "200005"), (Outcome.SENT, None)],
)
async def test_aliyun_tells_every_outcome(
    start: Start, far_end: FarEnd, outcome: Outcome, status_code: str | None
) -> None:
    bench = await start(
        Rule(receipts=ReceiptPlan(outcome=outcome)),
        receipts=QUICK.model_copy(update={"aliyun_url": f"{far_end.base}/voice/T"}),
    )
    await aliyun_call(bench)
    await bench.simulator.settled()
    told = [report for push in reports(far_end) for report in push]
    assert [report["status_code"] for report in told] == ([status_code] if status_code else [])
    assert all(report["start_time"] == "" and report["duration"] == "0" for report in told)


async def test_the_app_tells_what_happened_on_the_phone(start: Start, far_end: FarEnd) -> None:
    bench = await start(
        Rule(recipient="opens", receipts=ReceiptPlan(outcome=Outcome.OPENED)),
        Rule(recipient="dead", receipts=ReceiptPlan(outcome=Outcome.NONE)),
        receipts=QUICK.model_copy(update={"app_events_url": f"{far_end.base}/events/push"}),
    )
    for device in ("opens", "dead", "reads"):
        assert (await fcm_send(bench, device, mid=f"REF-{device}"))[0] == 200
    await fcm_send(bench, "no-mid")
    await bench.simulator.settled()
    events = [json.loads(call.body) for call in far_end.calls]
    assert sorted((event["attempt"], event["kind"]) for event in events) == [
        ("REF-opens", "delivered"), ("REF-opens", "opened"), ("REF-reads", "delivered"),
    ]  # fmt: skip
    assert all(set(event) == {"attempt", "kind", "at"} for event in events)
    bearer = f"Bearer {bench.simulator.credentials.app_events_token}"
    assert {call.headers["authorization"] for call in far_end.calls} == {bearer}


async def test_receipts_may_come_twice(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(receipts=ReceiptPlan(copies=2)))
    await bench.sms(callback=f"{far_end.base}/x/REF")
    await bench.simulator.settled()
    assert statuses(far_end) == ["sent", "delivered", "sent", "delivered"]


async def test_receipts_may_come_in_the_wrong_order(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(receipts=ReceiptPlan(reorder=True)))
    await bench.sms(callback=f"{far_end.base}/x/REF")
    await bench.simulator.settled()
    assert statuses(far_end) == ["delivered", "sent"]


async def test_receipts_may_be_lost_but_the_log_knows(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(receipts=ReceiptPlan(lost=True)))
    await bench.sms(callback=f"{far_end.base}/x/REF")
    await bench.simulator.settled()
    assert far_end.calls == []
    assert [(line["status"], line["answer"]) for line in bench.lines("receipt")] == [
        ("sent", "lost"), ("delivered", "lost"),
    ]  # fmt: skip


@pytest.mark.parametrize("host", ["192.0.2.1", "example.com", "127.0.0.1.example.com", "[2001:db8::1]:80"])
async def test_only_this_machine_is_ever_called(start: Start, host: str) -> None:
    bench = await start()
    await bench.sms(callback=f"http://{host}/x/REF")
    await bench.simulator.settled()
    assert {(line["attempt"], line["answer"]) for line in bench.lines("receipt")} == {(0, "not_loopback")}


async def test_receipts_may_be_late(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(receipts=ReceiptPlan(outcome=Outcome.SENT, delay=(0.4, 0.4))))
    await bench.sms(callback=f"{far_end.base}/x/REF")
    await asyncio.sleep(0.2)
    assert far_end.calls == []
    await bench.simulator.settled()
    assert statuses(far_end) == ["sent"]


async def test_a_receipt_may_come_before_the_answer(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(latency=(0.3, 0.3)))
    sending = asyncio.create_task(bench.sms(callback=f"{far_end.base}/x/REF"))
    await asyncio.sleep(0.2)
    assert statuses(far_end) == ["sent", "delivered"]
    assert not sending.done()
    assert (await sending)[0] == 201


async def test_the_console_can_be_set_while_running(start: Start, far_end: FarEnd) -> None:
    bench: Bench = await start()
    await aliyun_call(bench)
    status, answer = await bench.control("console", {"aliyun_url": f"{far_end.base}/voice/T"})
    assert (status, answer) == (200, {"set": ["aliyun_url"]})
    await aliyun_call(bench)
    await bench.simulator.settled()
    assert len(far_end.calls) == 1
    assert parse_qs(far_end.calls[0].url) == {}
