"""Dialogues: what a call asks our endpoint, what it does with the answers, and the transcript that is left of it."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlsplit

import pytest
from simulator_bench import FarEnd, Start
from simulator_talk import ALSO_EMPTY, ASK, TOLD, said, talk
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import VoiceResponse

from gateway.dev.simulator import Callee, Pickup, Rule


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
