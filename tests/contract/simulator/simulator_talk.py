"""What the tests of calls share."""

from __future__ import annotations

from typing import Any

from simulator_bench import Bench, FarEnd

from gateway.dev.simulator import Vendor

PHONE = "+14155550100"
EVERY = ["initiated", "ringing", "answered", "completed"]
VOICE = Vendor.TWILIO_VOICE
ASK = '<Response><Gather numDigits="1" action="{0}"{1}><Say>Is it you?</Say></Gather><Say>Bye.</Say></Response>'
TOLD = "<Response><Say>M-7 is due.</Say></Response>"
ALSO_EMPTY = ' actionOnEmptyResult="true"'


def statuses(end: FarEnd) -> list[str]:
    return [call.form["CallStatus"] for call in end.calls]


async def talk(bench: Bench, twiml: str, **fields: Any) -> dict[str, Any]:
    """The line that one whole call leaves in the log."""
    status, answer = await bench.call(twiml, **fields)
    assert status == 201, answer
    await bench.simulator.settled()
    line: dict[str, Any] = bench.lines("call")[-1]
    assert line["id"] == answer["sid"]
    return line


def said(line: dict[str, Any]) -> list[str]:
    return [part["text"] for part in line["transcript"] if part["event"] == "say"]
