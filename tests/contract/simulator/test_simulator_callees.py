"""Who is called, whether somebody answers, how long it lasts, and what a detection makes of it."""

from __future__ import annotations

import pytest
from simulator_bench import FarEnd, Start
from simulator_talk import EVERY, statuses

from gateway.dev.simulator import Callee, Outcome, Pickup, ReceiptPlan, Rule

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
