"""Whom a running gateway reaches in each mode, and that it says so wherever somebody may look."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.observability.metrics import NAMESPACE
from tests.faults import unfenced
from tests.faults.harness import spawn_unfenced
from tests.stack.gateway import GatewayProcess, World, address, requested
from tests.stack.scene import QUICK, Scene, empty_world, rule

# A third party's adapter that keeps its address to itself, so that the configuration cannot know where it leads.
ASTRAY = """
from providers.contract import Adapter, HttpRequest
from schemas.vocabulary import Channel

class Astray(Adapter):
    name = "astray"
    channel = Channel.SMS
    receipts = False

    def build_request(self, message, settings, ctx):
        return HttpRequest("http://192.0.2.1:9/send", {})

ADAPTER = Astray()
"""


@pytest.fixture
async def here(postgres: Any, kafka: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with empty_world(postgres, kafka, tmp_path) as world:
        yield world


@asynccontextmanager
async def running(world: World, process: GatewayProcess, **environ: str) -> AsyncIterator[Scene]:
    process.spawn(**environ)
    try:
        await process.ready(60)
        yield Scene(world, process)
    finally:
        await process.child.kill()


async def shown(process: GatewayProcess) -> tuple[str, dict[str, float]]:
    """The mode as `/readyz` has it, and every series of the metric."""
    async with aiohttp.ClientSession() as session, session.get(f"{process.url}/readyz") as response:
        mode = (await response.json())["mode"]
    lines = [each for each in (await process.metrics()).splitlines() if each.startswith(f"{NAMESPACE}_mode{{")]
    return mode, {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def first_line(process: GatewayProcess) -> dict[str, Any]:
    said = json.loads(process.log.read_text(encoding="utf-8").splitlines()[0])
    return {name: value for name, value in said.items() if name not in ("timestamp", "logger")}


def install(root: Path) -> dict[str, str]:
    """The adapter as pip would leave it; returns the environment that finds it."""
    (root / "astray.py").write_text(ASTRAY)
    info = root / "astray-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: astray\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[reminder_gateway.providers]\nastray = astray:ADAPTER\n")
    return {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}


async def index(process: GatewayProcess, addresses: Iterable[str]) -> str:
    """What `reminder-gateway allowlist` prints for them."""
    pipe = asyncio.subprocess.PIPE
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "allowlist", "--config", str(process.config),
        stdin=pipe, stdout=pipe, stderr=pipe, env=process.environ,
    )  # fmt: skip
    out, err = await made.communicate("\n".join(addresses).encode())
    assert (made.returncode, err) == (0, b"")
    return out.decode()


async def test_simulate_stays_on_this_machine_even_where_an_adapter_does_not(here: World, tmp_path: Path) -> None:
    """The astray one is configured with a loopback address, as the mode wants it, and sends to another."""
    astray = {
        "adapter": "astray",
        "settings": {"base_url": here.simulator.urls.base},
        "connect_timeout_seconds": 0.5, "read_timeout_seconds": 1, "total_timeout_seconds": 2,
    }  # fmt: skip
    tree = {**QUICK, "log_level": "error", "providers": {"astray": astray}}
    process = here.gateway(tree | {"lenders": {"acme": {"routes": {"sms": "astray"}}}})
    async with running(here, process, **install(tmp_path)) as scene:
        await here.publish([requested(1, ["sms", "push"]), requested(2, ["push"])])
        assert await scene.ended(2) == ("delivered", None)
        assert (await scene.reached(1, "held"))["reason"] == "bug"
        [attempt] = await scene.attempts(1)
        assert (attempt["state"], attempt["failure"], attempt["code"]) == ("not_sent", "bug", "not_loopback")
        assert await scene.value("select distinct inputs ->> 'mode' from decision where verdict = 'send'") == "simulate"
        assert await shown(process) == ("simulate", {"simulate": 1, "allowlist": 0, "live": 0})
        assert first_line(process) == {
            "event": "mode", "level": "info", "mode": "simulate", "why": "nobody is reached",
        }  # fmt: skip


async def test_allowlist_reaches_who_is_listed_and_nobody_else(here: World, tmp_path: Path) -> None:
    kept = tmp_path / "allowlist.txt"
    kept.touch()
    process = here.gateway({**QUICK, "mode": "allowlist", "allowlist": {"file": str(kept)}})
    sms = f"+86 {address('sms', 1)[3:]} # Ann"
    kept.write_text("# phones of our own\n" + await index(process, [sms, *(address("push", n) for n in (3, 4))]))
    assert not any(address(*each)[3:] in kept.read_text() for each in (("sms", 1), ("push", 3), ("push", 4)))
    async with running(here, process) as scene:
        scene.perform(
            rule(1, "twilio", action="error", code="20429", retry_after=0, times=1),
            rule(3, "fcm", action="error", code="UNREGISTERED"),
        )
        await here.publish(
            [
                requested(1, ["sms"]),  # listed, and tried twice
                requested(2, ["sms"]),
                requested(3, ["push", "sms"]),  # the next contact is not listed
                requested(4, ["sms", "push"]),  # the next would be, but the first is not
            ]
        )
        assert await scene.ended(1) == ("delivered", None)
        for number in (2, 3, 4):
            assert await scene.ended(number) == ("suppressed", "not_allowlisted"), number
        assert [await scene.ladder(number) for number in (2, 3, 4)] == [[], [("push", "rejected", "bad_recipient")], []]
        assert [scene.sent(number) for number in (1, 2, 3, 4)] == [["twilio"], [], [], []]
        await here.publish([requested(2, ["sms"]) | {"id": "again"}])  # nobody was contacted: it may be asked for again
        assert await scene.ended("again") == ("suppressed", "not_allowlisted")
        last = (await scene.told(2, 2))[-1]
        assert (last["state"], last["reason"], last.get("attempts", [])) == ("suppressed", "not_allowlisted", [])
        rows = await scene.sql("select rule, inputs ->> 'mode' from decision where verdict = 'suppress'")
        assert [tuple(row) for row in rows] == [("not_allowlisted", "allowlist")] * 4
        assert await scene.metric("reminder_moves_total", state="suppressed", reason="not_allowlisted") == 4
        assert await shown(process) == ("allowlist", {"simulate": 0, "allowlist": 1, "live": 0})
        assert first_line(process) == {
            "event": "mode", "level": "info", "mode": "allowlist", "why": "listed addresses are reached", "n": 3,
        }  # fmt: skip
        assert await process.child.stop() == 0

    # The same list and a gateway that does not look at it when it decides: what may leave is asked again where it does.
    broken = GatewayProcess(process.settings, tmp_path, "unfenced")
    spawn_unfenced(broken, [unfenced.LISTED])
    try:
        await broken.ready(60)
        scene = Scene(here, broken)
        await here.publish([requested(5, ["sms"]), requested(6, ["voice"])])
        for number in (5, 6):
            assert (await scene.reached(number, "held"))["reason"] == "bug"
            [attempt] = await scene.attempts(number)
            assert (attempt["state"], attempt["failure"], attempt["code"]) == ("not_sent", "bug", "not_allowlisted")
            assert scene.sent(number) == []
    finally:
        await broken.child.kill()
    logs = process.log.read_text(encoding="utf-8") + broken.log.read_text(encoding="utf-8")
    assert "address_not_allowlisted" in logs
    assert not [n for n in range(1, 7) if any(address(each, n)[3:] in logs for each in ("sms", "push", "voice"))]


async def test_live_reaches_everybody_and_says_so_first(here: World) -> None:
    process = here.gateway({**QUICK, "mode": "live", "log_level": "error"})
    async with running(here, process) as scene:
        await here.publish([requested(1, ["sms"])])
        assert await scene.ended(1) == ("delivered", None)
        assert await scene.sql("select 1 from decision where inputs ? 'mode'") == []
        assert await shown(process) == ("live", {"simulate": 0, "allowlist": 0, "live": 1})
        assert first_line(process) == {
            "event": "mode", "level": "warning", "mode": "live", "why": "real people are reached",
        }  # fmt: skip
