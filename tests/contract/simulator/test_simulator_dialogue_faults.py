"""Dialogues that go wrong: bad documents, no answers, circles, and a simulator that stops in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from simulator_bench import FarEnd, Start
from simulator_talk import ASK, TOLD, said, talk

from gateway.dev.simulator import Callee, CallSettings, Pickup, Rule
from gateway.dev.simulator.count import count


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
