"""The stage of the time-lapse: real Postgres, a Kafka broker, the simulated providers and the whole gateway.

The gateway runs in this process: its clock is an object that is handed to it, and no configuration can do that.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from gateway.app import Application
from gateway.clock import VirtualClock
from gateway.config import Config, load
from gateway.dev.demo.stage import in_files
from gateway.dev.embedded import EmbeddedBroker, EmbeddedPostgres
from gateway.dev.host import Home, StackError
from gateway.dev.lapse.pace import VirtualPace
from gateway.dev.settings import before
from gateway.dev.simulator import ReceiptSettings, Script, Simulator, SimulatorConfig
from gateway.dev.simulator.config import CallSettings
from gateway.ledger import schema
from gateway.observability import logs
from schemas.repayments import REPAYMENTS_TOPIC

TOPICS: Final = {"reminders.requests": 1, "reminders.events": 4, "reminders.deadletters": 1, REPAYMENTS_TOPIC: 4}
_READY_WITHIN: Final = 60.0
# Real seconds where nobody waits for anything real, and windows of receipts as long as they are.
_SETTINGS: Final[dict[str, Any]] = {
    # The embedded broker answers a read that waits when its time is up, whatever has come meanwhile.
    "kafka": {"session_timeout_seconds": 2, "repayments_topic": REPAYMENTS_TOPIC, "fetch_wait_seconds": 0.02},
    "providers": {name: {"receipt_window_hours": 24} for name in ("twilio", "fcm", "twilio_voice")},
    "shutdown": {"not_ready_seconds": 0},
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything up and ready.  `ledger` is a connection of our own."""

    home: Path
    config_path: Path
    config: Config
    gateway: Application
    running: asyncio.Task[int]
    simulator: Simulator
    clock: VirtualClock
    pace: VirtualPace
    ledger: asyncpg.Connection


@asynccontextmanager
async def stage(start: dt.datetime, script: Script, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """The stage at virtual `start`; `say` is told what starts.  StackError when something does not."""
    home = Home("time-lapse")
    clock = VirtualClock(start)
    pace = VirtualPace(clock)
    try:
        say("Postgres")
        async with EmbeddedPostgres() as postgres:
            dsn = await postgres.create_database("reminders")
            await schema.migrate(dsn)
            ledger = await asyncpg.connect(dsn, timeout=10)
            await schema.ensure_partitions(ledger, start)
            say("a Kafka broker")
            async with EmbeddedBroker() as broker:
                await broker.create_topics(TOPICS)
                say("the providers")
                config = SimulatorConfig(
                    log=home.path / "simulator.jsonl",
                    script=script,
                    receipts=ReceiptSettings(),
                    calls=CallSettings(scale=0),
                )
                async with Simulator(config, pace=pace) as simulator:
                    settings = before(simulator, dsn=dsn, bootstrap=broker.bootstrap, overrides=_SETTINGS)
                    path = in_files(settings, home.path).write(home.path / "gateway.yaml")
                    say("the gateway")
                    async with _gateway(home.path, load(path, {}), clock) as (gateway, running):
                        yield Stage(home.path, path, load(path, {}), gateway, running, simulator, clock, pace, ledger)
    finally:
        home.close()


@asynccontextmanager
async def _gateway(
    home: Path, config: Config, clock: VirtualClock
) -> AsyncIterator[tuple[Application, asyncio.Task[int]]]:
    log = home / "gateway.log"
    with log.open("a") as stream:
        logs.setup("info", stream)
        gateway = Application(config, virtual=clock)
        running = asyncio.create_task(gateway.run(), name="gateway")
        try:
            await _ready(gateway, running)
            yield gateway, running
        finally:
            gateway.stop()
            code = await running
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise StackError(f"the gateway ended with {code}\n{tail}")


async def _ready(gateway: Application, running: asyncio.Task[int]) -> None:
    async with asyncio.timeout(_READY_WITHIN):
        while gateway.health.unready() and not running.done():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.02)
