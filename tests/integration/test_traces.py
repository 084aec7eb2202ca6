"""A request's trace goes on with everything that is told of it; nothing is configured for that, no extra needed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from schemas.messages import REPLIED
from tests.integration.test_timeline import story
from tests.stack.gateway import World, address, cancelled, requested
from tests.stack.scene import Scene, name_of, rule

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Of voice only: nothing else here needs a window that closes.
OVERRIDES = {"providers": {"aliyun": {"receipt_window_hours": 1 / 3600}}}

Headers = Sequence[tuple[str, bytes]]


def traceparent(flags: str = "01") -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{flags}"


def trace_of(context: str) -> str:
    return context.split("-")[1]


async def put(world: World, event: Mapping[str, Any], headers: Headers = (), *, binary: bool = False) -> None:
    """One record; in binary mode the attributes are headers."""
    value: Any = event
    if binary:
        value = event["data"]
        attributes = [(f"ce_{name}", str(of).encode()) for name, of in event.items() if name != "data"]
        headers = [*attributes, ("content-type", b"application/json"), *headers]
    producer = AIOKafkaProducer(bootstrap_servers=world.bootstrap, acks="all")
    await producer.start()
    try:
        key = event["data"].get("borrower_ref") or event["data"]["borrower"]["ref"]
        await producer.send_and_wait(
            world.topics.requests, json.dumps(value).encode(), key=key.encode(), headers=list(headers)
        )
    finally:
        await producer.stop()


async def told(scene: Scene, request: int, **about: Any) -> list[tuple[str | None, list[tuple[str, bytes]]]]:
    """The trace of each event about a request, in its body and in its headers."""
    await scene.relayed(20)
    here = []
    for topic in (scene.world.topics.events, scene.world.topics.deadletters):
        for record in await scene.world.records(topic):
            event = json.loads(record.value)
            data = event["data"]
            assert "tracestate" not in event
            if data.get("request_id") == name_of(request) and about.items() <= data.items():
                here.append((event.get("traceparent"), list(record.headers)))
    return here


def both(context: str) -> tuple[str, list[tuple[str, bytes]]]:
    return context, [("traceparent", context.encode())]


async def test_however_it_comes_it_goes_on_with_every_event(scene: Scene) -> None:
    mine, hop = traceparent(), traceparent("00")
    cases: list[tuple[dict[str, Any], Headers, bool, str | None]] = [
        ({"traceparent": mine}, [], False, mine),
        ({"traceparent": mine}, [], True, mine),
        ({}, [("traceparent", mine.encode())], False, mine),
        ({}, [("traceparent", mine.encode())], True, mine),
        # What the event says of itself, before what carried it.
        ({"traceparent": mine}, [("traceparent", hop.encode())], False, mine),
        ({"traceparent": mine}, [("traceparent", hop.encode())], True, mine),
        ({"traceparent": "00-00-00-00"}, [("traceparent", hop.encode())], False, hop),
        ({"traceparent": mine.replace("00-", "cc-", 1) + "-more"}, [], False, mine),
        # In structured mode copies in headers mean nothing.
        ({}, [("ce_traceparent", mine.encode())], False, None),
        # Whatever it is: it is no trace, and no reason to refuse a request.
        ({"traceparent": 7}, [], False, None),
        ({"traceparent": {"a": [mine]}}, [], False, None),
        ({"traceparent": mine.upper()}, [], True, None),
        ({}, [("traceparent", b"\xff\xfe")], True, None),
        ({}, [("ce_traceparent", b"\xff"), ("ce_traceparent", mine.encode())], True, None),
        ({}, [("traceparent", mine.encode()), ("traceparent", hop.encode())], False, None),
        ({"tracestate": "vendor=13900000016"}, [("tracestate", b"a=b")], True, None),
    ]
    for number, (attributes, headers, binary, _) in enumerate(cases):
        await put(scene.world, requested(number) | attributes, headers, binary=binary)
    for number, (*_, expected) in enumerate(cases):
        assert await scene.ended(number) == ("delivered", None)
        events = await told(scene, number)
        assert len(events) >= 3
        assert events == [both(expected) if expected else (None, [])] * len(events), cases[number]
    assert await scene.value("select count(*) from deadletter") == 0


async def test_a_retry_in_another_trace_is_the_same_request_and_is_answered_in_its_own(scene: Scene) -> None:
    first, again = traceparent(), traceparent()
    event = requested(100)
    await put(scene.world, event | {"traceparent": first})
    assert await scene.ended(100) == ("delivered", None)
    await put(scene.world, event | {"traceparent": again}, binary=True)
    await scene.answer(100, "duplicate")
    await put(scene.world, event)
    await scene.caught_up()
    answers = await told(scene, 100, answer="duplicate")
    assert sorted(answers, key=str) == sorted([both(again), (None, [])], key=str)
    states = [each for each in await told(scene, 100) if each not in answers]
    assert states == [both(first)] * len(states)
    assert await scene.value("select count(*) from deadletter") == 0
    assert await scene.value("select traceparent from reminder where request_id = 'request-100'") == first
    assert scene.sent(100) == ["twilio"]


async def test_what_answers_and_what_is_refused_goes_on_in_the_trace_it_came_in(scene: Scene) -> None:
    asks, stops, breaks = traceparent(), traceparent(), traceparent()
    await put(scene.world, requested(110, validate_only=True) | {"traceparent": asks})
    await scene.answer(110, "validated")
    assert await told(scene, 110) == [both(asks)]

    await put(scene.world, requested(111))
    assert await scene.ended(111) == ("delivered", None)
    stop = cancelled(111, {"kind": "request", "source": "loan-core", "id": "request-111"})
    await put(scene.world, stop | {"traceparent": stops})
    await scene.answer(111, "too_late")
    assert await told(scene, 111, answer="too_late") == [both(stops)]

    await put(scene.world, requested(112, stage="wedding") | {"traceparent": breaks})
    await scene.caught_up()
    await scene.relayed()
    letters = await scene.world.records(scene.world.topics.deadletters)
    assert [(json.loads(each.value)["traceparent"], list(each.headers)) for each in letters] == [both(breaks)]


async def test_what_follows_the_end_goes_on_in_the_trace_of_the_request(scene: Scene) -> None:
    """A correction when the reminder is no longer alive, and what a borrower says."""
    late, said = traceparent(), traceparent()
    scene.perform(rule(120, "aliyun", receipts={"delay": [7, 7]}))
    await put(scene.world, requested(120, ["voice"]) | {"traceparent": late})
    await put(scene.world, requested(121) | {"traceparent": said})
    assert await scene.ended(121) == ("delivered", None)
    reply = {"vendor": "twilio", "number": address("sms", 121), "content": "thank you"}
    control = f"{scene.world.simulator.urls.control}/reply"
    async with aiohttp.ClientSession() as session, session.post(control, json=reply) as response:
        assert response.status == 200
    await scene.heard(REPLIED)
    await scene.reached(120, "delivered")  # the window closed before: that is what its correction says
    for number, context, n in ((120, late, 4), (121, said, 4)):
        assert await told(scene, number) == [both(context)] * n
    assert len(await told(scene, 120, correction=True)) == 1


async def test_support_finds_it_and_no_provider_hears_of_it(scene: Scene) -> None:
    mine = traceparent()
    await put(scene.world, requested(130) | {"traceparent": mine})
    assert await scene.ended(130) == ("delivered", None)
    assert (await story(scene, 130)).facts["trace"] == trace_of(mine)
    seen = (scene.world.home / "simulator.jsonl").read_bytes()
    assert b"M-130" in seen
    assert trace_of(mine).encode() not in seen
