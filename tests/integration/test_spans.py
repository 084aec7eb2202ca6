"""Spans at a collector: one trace from end to end, with a kill in between; ids only; and a collector that is gone."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.ids import to_reference
from gateway.tracing import Field
from tests.integration.test_pii import NUMBERS, bad, canary, planted, settled
from tests.integration.test_traces import both, put, told, trace_of, traceparent
from tests.stack.canaries import found, secret
from tests.stack.collector import Collector, Seen, collector
from tests.stack.gateway import address, requested
from tests.stack.scene import QUICK, Scene, empty_world, rule, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Traced:
    scene: Scene
    collector: Collector
    key: Path  # the file of what the collector knows us by

    async def spans(self, trace: str, *names: str, within: float = 20) -> list[Seen]:
        """The spans of a trace, once these are all there."""

        async def there() -> list[Seen] | None:
            spans = self.collector.spans(trace)
            return spans if sorted(each.name for each in spans) == sorted(names) else None

        async def stands() -> str:
            return str(sorted(each.name for each in self.collector.spans(trace)))

        try:
            return await until(there, f"{names} of {trace}", within)
        except AssertionError:
            raise AssertionError(f"{await stands()} instead of {sorted(names)}") from None

    async def seen(self, trace: str, *names: str) -> None:
        """Returns once these are among the spans of a trace."""

        async def there() -> bool:
            return {each.name for each in self.collector.spans(trace)} >= set(names)

        await until(there, f"{names} of {trace}")

    async def counted(self, outcome: str) -> float:
        return await self.scene.metric("spans_total", outcome=outcome)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    home = tmp_path_factory.mktemp("spans")
    key = home / "key"
    key.write_text("canary-key-of-the-collector-1")
    with collector() as there:
        tree = {
            **{name: dict(value) for name, value in QUICK.items()},
            "log_level": "debug",
            "secrets": {"reload_seconds": 600},
            "tracing": {
                "endpoint": there.url,
                "service_name": "gateway-under-test",
                "headers": {"api-key": f"file:{key}"},
            },
        }
        async with empty_world(postgres, kafka, home) as here:
            gateway = here.gateway(tree)
            gateway.spawn()
            try:
                await gateway.ready(60)
                yield Traced(Scene(here, gateway), there, key)
            finally:
                await gateway.child.kill()


async def test_one_trace_from_end_to_end_with_a_kill_in_between(traced: Traced) -> None:
    scene = traced.scene
    for number, seconds in enumerate((4, 8, 16, 32), 1):
        came_in = traceparent()
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        await put(scene.world, requested(number, send_at=soon.isoformat()) | {"traceparent": came_in}, binary=True)
        trace = trace_of(came_in)
        await traced.seen(trace, "intake", "publish")
        await scene.gateway.child.kill()
        row = await scene.state(number)
        if row is not None and row["state"] == "scheduled":
            break  # else the machine was too slow for a kill in between
        scene.gateway.spawn()
        await scene.gateway.ready(60)
    [intake] = [each for each in traced.collector.spans(trace) if each.name == "intake"]
    scene.gateway.spawn()
    await scene.gateway.ready(60)
    assert await scene.ended(number) == ("delivered", None)
    spans = await traced.spans(trace, "intake", "dispatch", "send", "receipt", "receipt", *["publish"] * 3)
    by_name = {each.name: each for each in spans}
    # Where each stands.
    assert intake.parent == came_in.split("-")[2]
    [dispatch, send] = by_name["dispatch"], by_name["send"]
    assert send.parent == dispatch.span
    assert {each.parent for each in spans if each not in (intake, send)} == {intake.span}
    assert len({each.span for each in spans}) == len(spans)
    # What each says.
    row, [attempt] = await scene.state(number), await scene.attempts(number)
    assert row is not None
    reminder, of_attempt = to_reference(row["id"]), to_reference(attempt["id"])
    assert (intake.attributes["reminder.id"], intake.attributes["reminder.outcome"]) == (reminder, "accepted")
    assert send.attributes == {
        "reminder.id": reminder, "reminder.attempt": of_attempt, "reminder.provider": "twilio",
        "reminder.channel": "sms", "reminder.outcome": "accepted",
    }  # fmt: skip
    assert dispatch.steps == ("rendered", "reserved", "intended", "answered")
    assert dispatch.attributes["reminder.outcome"] == "accepted"
    assert {each.attributes["reminder.state"] for each in spans if each.name == "receipt"} == {"sent", "delivered"}
    assert [each.kind for each in (intake, dispatch, send, by_name["receipt"], by_name["publish"])] == [
        "consumer", "internal", "client", "server", "producer",
    ]  # fmt: skip
    assert {each.service for each in spans} == {"gateway-under-test"}
    # And upstream goes on below our first span, by body and by header.
    assert await told(scene, number) == [both(f"00-{trace}-{intake.span}-01")] * 3


async def test_whose_trace_it_is_and_who_decides(traced: Traced) -> None:
    scene, silent, first, again = traced.scene, traceparent("00"), traceparent(), traceparent()
    await put(scene.world, requested(10) | {"traceparent": silent})
    await put(scene.world, requested(11))
    await put(scene.world, requested(12) | {"traceparent": first})
    for number in (10, 11, 12):
        assert await scene.ended(number) == ("delivered", None)
    # Not recorded by its sender, so not by us: it goes on untouched.
    assert set(map(str, await told(scene, 10))) == {str(both(silent))}
    # Without one a trace of ours begins, and upstream may join it.
    context = await scene.value("select traceparent from reminder where request_id = 'request-11'")
    whole = ("intake", "dispatch", "send", "receipt", "receipt", "publish", "publish", "publish")
    spans = await traced.spans(trace_of(context), *whole)
    assert [each.parent for each in spans if each.name == "intake"] == [""]
    assert set(map(str, await told(scene, 11))) == {str(both(context))}
    # A retry in another trace is told there, and touches nothing in the first.
    event = requested(12)
    event["data"] = await original(scene, 12)
    await put(scene.world, event | {"traceparent": again})
    await scene.answer(12, "duplicate")
    [intake, publish] = sorted(await traced.spans(trace_of(again), "intake", "publish"), key=lambda each: each.name)
    assert (intake.attributes["reminder.outcome"], publish.parent) == ("duplicate", intake.span)
    await traced.spans(trace_of(first), *whole)
    assert traced.collector.spans(trace_of(silent)) == []


async def original(scene: Scene, number: int) -> Any:
    events = await scene.world.read(scene.world.topics.requests)
    return next(each["data"] for each in events if each.get("id") == f"request-{number}")


async def test_what_goes_wrong_is_told(traced: Traced) -> None:
    scene, broken, refused = traced.scene, traceparent(), traceparent()
    scene.perform(rule(21, "twilio", action="error", code="21211"))
    await put(scene.world, requested(20, stage="wedding") | {"traceparent": broken})
    await put(scene.world, requested(21) | {"traceparent": refused})
    [letter] = [each for each in await traced.spans(trace_of(broken), "intake", "publish") if each.name == "intake"]
    assert letter.failed
    assert letter.attributes["reminder.outcome"] == "deadletter"
    assert letter.attributes["reminder.reason"] == "unknown_stage"
    assert (await scene.ended(21))[0] == "undelivered"
    spans = await traced.spans(trace_of(refused), "intake", "dispatch", "send", *["publish"] * 2)
    [send] = [each for each in spans if each.name == "send"]
    assert send.failed
    assert (send.attributes["reminder.outcome"], send.attributes["reminder.failure"]) == ("rejected", "bad_recipient")
    scene.perform()


async def test_nothing_personal_and_no_secret_is_in_any_of_it(traced: Traced) -> None:
    """The canaries of the sweep over everything else, in traces that are recorded."""
    scene, n = traced.scene, NUMBERS
    scene.perform(
        rule(n[1], "twilio", action="error", code="21211"),
        rule(n[4], "aliyun", action="truncate"),
    )
    good = [canary(n[0]), canary(n[1], ["sms", "voice"]), canary(n[3], ["push"]), canary(n[4], ["voice"])]
    await scene.world.publish([each | {"traceparent": traceparent()} for each in good])
    await scene.world.publish(list(bad()))
    for number in (n[0], n[1], n[3], n[4]):
        await until(lambda number=number: settled(scene, number), f"end of {number}")  # type: ignore[misc]
    await says_something_back_once(scene)
    await scene.caught_up()
    await scene.relayed()
    last = traceparent()
    await put(scene.world, requested(30) | {"traceparent": last})
    await traced.spans(trace_of(last), "intake", "dispatch", "send", "receipt", "receipt", *["publish"] * 3)
    spans = traced.collector.spans()
    assert {each.name for each in spans} == {"intake", "dispatch", "send", "receipt", "publish"}
    assert {key for each in spans for key in each.attributes} <= {each.value for each in Field}
    assert sum(each.attributes.get("reminder.outcome") == "deadletter" for each in spans) >= len(list(bad()))
    bodies = b"\n".join(body for _, body in traced.collector.requests)
    assert found([*planted(), *secret(scene), traced.key.read_text()], bodies) == []
    assert found([*planted(), "loan-core", "borrower-", "debt-"], bodies) == []
    assert found([traced.key.read_text()], scene.gateway.log.read_bytes()) == []


async def says_something_back_once(scene: Scene) -> None:
    import aiohttp

    letter = {"vendor": "twilio", "number": address("sms", NUMBERS[0]), "content": "canaryword"}
    control = f"{scene.world.simulator.urls.control}/reply"
    async with aiohttp.ClientSession() as session, session.post(control, json=letter) as response:
        assert response.status == 200
    await scene.heard("contact.replied.v1")


async def test_what_the_collector_knows_us_by_rotates(traced: Traced) -> None:
    traced.key.write_text("canary-key-of-the-collector-2")
    os.kill(traced.scene.gateway.child.pid, signal.SIGHUP)

    async def reloaded() -> bool:
        return bool(await traced.scene.metric("secrets_reloads_total", outcome="good"))

    await until(reloaded, "reload")
    context = traceparent()
    await put(traced.scene.world, requested(40) | {"traceparent": context})
    await traced.spans(trace_of(context), "intake", "dispatch", "send", "receipt", "receipt", *["publish"] * 3)
    keys = [dict((k.lower(), v) for k, v in headers.items())["api-key"] for headers, _ in traced.collector.requests]
    assert (keys[0], keys[-1]) == ("canary-key-of-the-collector-1", "canary-key-of-the-collector-2")


async def test_a_collector_that_refuses_and_one_that_hangs_hold_up_nothing(traced: Traced) -> None:
    """Last: it ends the gateway, by SIGTERM, within its budget."""
    scene, there = traced.scene, traced.collector
    there.status = 400
    await scene.world.publish([requested(number) for number in range(50, 60)])
    for number in range(50, 60):
        assert await scene.ended(number) == ("delivered", None)

    async def failed() -> bool:
        return await traced.counted("failed") > 0

    await until(failed, "a batch that failed")
    there.status, there.hang = 200, 120
    await scene.world.publish([requested(number) for number in range(60, 70)])
    for number in range(60, 70):
        assert await scene.ended(number) == ("delivered", None)
    log = scene.gateway.log.read_text()
    assert log.count('"spans_not_exported"') == 1
    assert there.url not in log
    assert '"opentelemetry' not in log
    began = time.monotonic()
    os.kill(scene.gateway.child.pid, signal.SIGTERM)
    while scene.gateway.child.alive:
        await asyncio.sleep(0.05)
        assert time.monotonic() - began < 25, "it waits for a collector"
    assert '"event": "stopped"' in scene.gateway.log.read_text()
    assert '"stop_failed"' not in scene.gateway.log.read_text()
