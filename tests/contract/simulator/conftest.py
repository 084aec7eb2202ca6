"""Fixtures of the simulator's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from simulator_bench import QUICK, Bench, FarEnd, Start

from gateway.dev.simulator import Credentials, Rule, Script, Simulator, SimulatorConfig


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendors' SDKs obey proxy settings; loopback must not leave the machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def credentials() -> Credentials:
    return Credentials.generate()


@pytest.fixture
async def start(tmp_path: Path, credentials: Credentials) -> AsyncIterator[Start]:
    """Starts simulators: `await start(*rules, seed=…, **config)`; all share one log file, so start one at a time."""
    running: list[Bench] = []

    async def begin(*rules: Rule, seed: int = 0, **config: Any) -> Bench:
        settings = {"log": tmp_path / "simulator.jsonl", "receipts": QUICK, **config}
        simulator = Simulator(SimulatorConfig(script=Script(seed=seed, rules=rules), **settings), credentials)
        await simulator.start()
        running.append(Bench(simulator, aiohttp.ClientSession()))
        return running[-1]

    yield begin
    for bench in running:
        await bench.session.close()
        await bench.simulator.stop()


@pytest.fixture
async def far_end() -> AsyncIterator[FarEnd]:
    end = FarEnd()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", end.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    end.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield end
    await runner.cleanup()
