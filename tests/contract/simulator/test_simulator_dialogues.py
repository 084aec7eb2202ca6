"""Dialogues: what a call asks our endpoint, what it does with the answers, and the transcript that is left of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from simulator_bench import Bench, FarEnd, Start
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import VoiceResponse

from gateway.dev.simulator import Callee, CallSettings, Pickup, Rule
from gateway.dev.simulator.count import count

ASK = '<Response><Gather numDigits="1" action="{0}"{1}><Say>Is it you?</Say></Gather><Say>Bye.</Say></Response>'
TOLD = "<Response><Say>M-7 is due.</Say></Response>"
ALSO_EMPTY = ' actionOnEmptyResult="true"'


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


async def test_a_key_is_posted_and_the_answer_is_obeyed(
    start: Start, far_end: FarEnd, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    bench = await start()
    far_end.documents.append(TOLD)
    url = f"{far_end.base}/twiml/T%2F1/ask?step=1"
    line = await talk(bench, ASK.format(f"{url}#rc=2", ""), MachineDetection="Enable")
    (asked,) = far_end.asked
    secrets = bench.simulator.credentials
    assert (asked.method, asked.url) == ("POST", url)
    assert asked.form == {
        "CallSid": line["id"], "AccountSid": secrets.twilio_account_sid, "From": "+14155550000", "To": "+14155550100",
        "CallStatus": "in-progress", "ApiVersion": "2010-04-01", "Direction": "outbound-api", "AnsweredBy": "human",
        "Digits": "1",
    }  # fmt: skip
    validator = RequestValidator(secrets.twilio_auth_token)
    signature = asked.headers["x-twilio-signature"]
    assert validator.validate(asked.url, asked.form, signature)
    assert not validator.validate(asked.url, {**asked.form, "Digits": "2"}, signature)
    assert line["transcript"] == [
        {"event": "say", "at": 4.0, "text": "Is it you?", "language": None, "voice": None},
        {"event": "gather", "at": 4.7, "pressed": "1", "digits": "1"},
        {"event": "say", "at": 5.2, "text": "M-7 is due.", "language": None, "voice": None},
    ]
    assert (line["status"], line["ended"], line["code"], line["marker"]) == (
        "completed", "end_of_document", None, "M-7"
    )  # fmt: skip
    (request,) = bench.lines("dialogue")
    assert (request["id"], request["step"], request["digits"], request["attempt"], request["answer"]) == (
        line["id"], "gather", "1", 1, 200
    )  # fmt: skip
    assert "T%2F1" not in bench.log.read_text()
    assert (*capfd.readouterr(), caplog.text) == ("", "", ""), "what was said stands in the durable log alone"


async def test_silence_goes_on_with_the_next_verb(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(callee=Callee(keys=())))
    line = await talk(bench, ASK.format(f"{far_end.base}/twiml/a", ""))
    assert far_end.asked == []
    assert said(line) == ["Is it you?", "Bye."]


async def test_silence_is_posted_when_asked_for(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(callee=Callee(keys=())))
    far_end.documents.append(TOLD)
    line = await talk(bench, ASK.format(f"{far_end.base}/twiml/a", ALSO_EMPTY))
    assert [call.form["Digits"] for call in far_end.asked] == [""]
    assert "AnsweredBy" not in far_end.asked[0].form
    validator = RequestValidator(bench.simulator.credentials.twilio_auth_token)
    assert validator.validate(
        far_end.asked[0].url, far_end.asked[0].form, far_end.asked[0].headers["x-twilio-signature"]
    )
    assert said(line) == ["Is it you?", "M-7 is due."]


async def test_a_machine_presses_nothing(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(callee=Callee(pickup=Pickup.MACHINE, keys=("1",))))
    line = await talk(bench, ASK.format(f"{far_end.base}/twiml/a", ""))
    assert far_end.asked == []
    assert said(line) == ["Is it you?", "Bye."]


async def test_keys_are_pressed_in_turn(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(callee=Callee(keys=("", "42#", "9"))))
    again = '<Response><Gather action="/twiml/next" actionOnEmptyResult="true"/></Response>'
    far_end.documents.extend([again, again, again, TOLD])
    line = await talk(bench, again.replace("/twiml", f"{far_end.base}/twiml"))
    assert [call.form["Digits"] for call in far_end.asked] == ["", "42", "9", ""]
    assert [part["pressed"] for part in line["transcript"] if part["event"] == "gather"] == ["", "42#", "9", ""]


async def test_documents_come_from_a_url_and_relative_ones_are_found(start: Start, far_end: FarEnd) -> None:
    bench = await start(Rule(callee=Callee(keys=("1", "2"))))
    own = VoiceResponse()  # its <Gather> has no action: the document's own URL
    own.gather(num_digits=1)
    far_end.documents.extend([
        ASK.format("next?a=1", ""), str(own), "<Response><Redirect method='GET'>../x#rc=1</Redirect></Response>", TOLD
    ])  # fmt: skip
    line = await talk(bench, "", Url=f"{far_end.base}/twiml/one/first?q=1#rc=1")
    where = [call.url.removeprefix(far_end.base) for call in far_end.asked]
    assert where[:3] == ["/twiml/one/first?q=1", "/twiml/one/next?a=1", "/twiml/one/next?a=1"]
    assert where[3].startswith("/twiml/x?CallSid=")
    assert "Digits" not in far_end.asked[0].form
    last = far_end.asked[3]
    assert (last.method, last.body) == ("GET", b"")
    assert dict(parse_qsl(urlsplit(last.url).query))["CallStatus"] == "in-progress"
    validator = RequestValidator(bench.simulator.credentials.twilio_auth_token)
    assert validator.validate(last.url, {}, last.headers["x-twilio-signature"])
    assert [request["step"] for request in bench.lines("dialogue")] == ["document", "gather", "gather", "redirect"]
    assert said(line) == ["Is it you?", "M-7 is due."]
    assert bench.lines("accepted")[0]["text_or_template"] == ""


async def test_url_wins_over_twiml(start: Start, far_end: FarEnd) -> None:
    bench = await start()
    far_end.documents.append(TOLD)
    line = await talk(bench, "<Response><Say>Not this.</Say></Response>", Url=f"{far_end.base}/twiml/a", Method="GET")
    assert said(line) == ["M-7 is due."]
    assert far_end.asked[0].method == "GET"
    assert "Not this" not in json.dumps(bench.lines("accepted"))


async def test_hangup_ends_it(start: Start) -> None:
    bench = await start()
    line = await talk(bench, "<Response><Say>One.</Say><Pause/><Hangup/><Say>Two.</Say></Response>")
    assert [part["event"] for part in line["transcript"]] == ["say", "pause", "hangup"]
    assert (line["ended"], line["seconds"]) == ("hangup", 1.28)


@pytest.mark.parametrize(
    ("hangs_up", "heard"),
    [(0, []), (1, ["Is it you?"]), (2, ["Is it you?", "M-7 is due."]), (9, ["Is it you?", "M-7 is due.", "Bye."])],
)
async def test_the_callee_hangs_up_in_the_middle(
    start: Start, far_end: FarEnd, hangs_up: int, heard: list[str]
) -> None:
    bench = await start(Rule(callee=Callee(hangs_up=hangs_up)))
    far_end.documents.append("<Response><Say>M-7 is due.</Say><Say>Bye.</Say></Response>")
    callback = f"{far_end.base}/cb/REF"
    line = await talk(bench, ASK.format(f"{far_end.base}/twiml/a", ALSO_EMPTY), StatusCallback=callback)
    assert said(line) == heard
    assert line["ended"] == ("callee_hung_up" if hangs_up < 9 else "end_of_document")
    assert len(far_end.asked) == (hangs_up > 1), "who has hung up presses nothing"
    assert [call.form["CallStatus"] for call in far_end.calls] == ["completed"]


def document(text: str, kind: str = "text/xml") -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": kind})


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (["<Response><Sing/></Response>"], "12200"),
        (["not xml"], "12100"),
        ([document(TOLD, "application/json")], "12300"),
        ([document(TOLD, "text/plain")], "12300"),
        ([document(f"<Response><Say>{'x' * 66_000}</Say></Response>")], "11750"),
        ([web.Response(status=404)], "11200"),
        ([web.Response(status=302, headers={"Location": "/twiml/b"}), TOLD], "11200"),
        ([web.Response(status=204)], "12300"),
    ],
)
async def test_a_bad_answer_is_an_application_error(
    start: Start, far_end: FarEnd, answers: list[str | web.Response], code: str
) -> None:
    bench = await start()
    far_end.documents.extend(answers)
    callback = f"{far_end.base}/cb/REF"
    line = await talk(bench, ASK.format(f"{far_end.base}/twiml/a", ""), StatusCallback=callback)
    assert (line["status"], line["ended"], line["code"]) == ("completed", "application_error", code)
    assert line["detail"]
    assert said(line) == ["Is it you?"], "nothing of a bad document is said"
    assert line["transcript"][-1]["event"] == "apology"
    assert [call.form["CallStatus"] for call in far_end.calls] == ["completed"]


async def test_documents_that_come_in_pieces_are_read_whole(start: Start, far_end: FarEnd) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"<Response><Say>M-7 ", b"is due.", b"</Say></Response>"):
            yield piece
            await asyncio.sleep(0.01)

    bench = await start()
    far_end.documents.append(web.Response(body=pieces(), headers={"Content-Type": "application/xml; charset=utf-8"}))
    line = await talk(bench, "", Url=f"{far_end.base}/twiml/a")
    assert said(line) == ["M-7 is due."]


@pytest.mark.parametrize(
    ("fragment", "answers", "tries"),
    [
        ("", [500], [500]),
        ("#rc=2&rp=5xx", [500, 503], [500, 503, 200]),
        ("#rc=1&rp=5xx", [500, 503], [500, 503]),
        ("#rc=3&rp=4xx", [500], [500]),
    ],
)
async def test_dialogues_are_retried_as_the_fragment_says(
    start: Start, far_end: FarEnd, fragment: str, answers: list[int], tries: list[int]
) -> None:
    bench = await start()
    far_end.documents.extend([*(web.Response(status=status) for status in answers), TOLD])
    line = await talk(bench, ASK.format(f"{far_end.base}/twiml/a{fragment}".replace("&", "&amp;"), ""))
    assert [(request["attempt"], request["answer"]) for request in bench.lines("dialogue")] == [
        *enumerate(tries, start=1)
    ]
    assert len({(call.body, call.headers["i-twilio-idempotency-token"]) for call in far_end.asked}) == 1
    assert line["code"] == (None if tries[-1] == 200 else "11200")


@pytest.mark.parametrize(
    ("action", "code", "answers"),
    [
        ("/relative", "11100", []),
        ("ftp://127.0.0.1/a", "11100", []),
        ("http://[/a", "11100", []),
        ("http://192.0.2.1/a", "11200", ["not_loopback"]),
        ("http://127.0.0.1:1/a#rc=0", "11205", ["connect_error"]),
    ],
)
async def test_urls_that_cannot_be_asked(start: Start, action: str, code: str, answers: list[str]) -> None:
    bench = await start()
    line = await talk(bench, ASK.format(action, ""))
    assert (line["ended"], line["code"]) == ("application_error", code)
    assert [request["answer"] for request in bench.lines("dialogue")] == answers


async def test_a_dialogue_that_goes_in_circles_is_ended(start: Start, far_end: FarEnd) -> None:
    bench = await start(calls=CallSettings(steps=9))
    far_end.documents.extend(["<Response><Redirect>/twiml/a</Redirect></Response>"] * 20)
    line = await talk(bench, f"<Response><Redirect>{far_end.base}/twiml/a</Redirect></Response>")
    assert line["ended"] == "too_many_steps"
    assert len(far_end.asked) == 4, "a verb and a request are a step each"


async def test_a_call_under_way_is_logged_when_the_simulator_stops(start: Start) -> None:
    bench = await start(Rule(callee=Callee(scale=1.0, rings=0)))
    _, answer = await bench.call(
        "<Response><Say>M-1</Say><Pause length='60'/></Response>", StatusCallback="http://[::1]:1/R"
    )
    await asyncio.sleep(0.3)
    assert bench.simulator.pending_receipts == 2
    await bench.simulator.stop()
    (line,) = bench.lines("call")
    assert (line["id"], line["status"], line["ended"]) == (answer["sid"], "in-progress", "simulator_stopped")
    assert [part["event"] for part in line["transcript"]] == ["say", "pause"]


async def test_what_a_call_came_to_say_counts_it(start: Start, far_end: FarEnd) -> None:
    """The order of a call that asks first has no marker: the same thing said twice is a duplicate all the same."""
    bench = await start()
    for _ in range(2):
        far_end.documents.append(TOLD)
        await talk(bench, ASK.format(f"{far_end.base}/twiml/a", ""))
    await talk(bench, ASK.format(f"{far_end.base}/twiml/a", "").replace("<Gather", "<Gather timeout='1'"))
    assert [line["marker"] for line in bench.lines("accepted")] == [None] * 3
    result = count(bench.log)
    assert result.duplicates == {("+14155550100", "M-7"): 1}
    assert result.unmarked == 1


async def test_the_totals_know_how_calls_ended(start: Start) -> None:
    bench = await start(Rule(callee=Callee(pickup=Pickup.BUSY), times=1))
    await talk(bench, TOLD)
    await talk(bench, TOLD)
    totals = bench.simulator.journal.totals
    assert (totals["call", "twilio_voice", "busy"], totals["call", "twilio_voice", "completed"]) == (1, 1)
