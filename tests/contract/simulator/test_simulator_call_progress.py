"""The life of a call as its status callback is told it: signed, retried, and disturbed on order."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from simulator_bench import FarEnd, Start
from simulator_talk import EVERY, PHONE, statuses
from twilio.request_validator import RequestValidator

from gateway.dev.simulator import ReceiptPlan, Rule


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


async def test_who_was_told_that_it_is_over_finds_the_transcript(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    await bench.call(StatusCallback=f"{far_end.base}/cb/REF")
    await bench.simulator.settled()
    assert [line["kind"] for line in bench.lines()] == ["started", "accepted", "call", "receipt"]


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
