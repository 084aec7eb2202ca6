"""The stage: Postgres, a broker, the providers and the gateway, started in order and stopped in reverse."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.config import Config, load
from gateway.dev.embedded import EmbeddedBroker, EmbeddedPostgres
from gateway.dev.host import Home, StackError
from gateway.dev.process import Child
from gateway.dev.settings import Development, before
from gateway.dev.simulator import ReceiptSettings, Script, Simulator, SimulatorConfig
from gateway.ledger import schema
from schemas.repayments import REPAYMENTS_TOPIC

TOPICS: Final = {"reminders.requests": 4, REPAYMENTS_TOPIC: 4, "reminders.events": 4, "reminders.deadletters": 1}
_READY_WITHIN: Final = 60.0
# Seconds where production has minutes and days, so that everything ends while we watch.
_IMPATIENT: Final[dict[str, Any]] = {
    "kafka": {
        "repayments_topic": REPAYMENTS_TOPIC,
        "session_timeout_seconds": 2,  # the embedded broker lets a group's first member wait half of it
    },
    "dispatch": {"backoff_base_seconds": 1, "backoff_cap_seconds": 2},
    # The total time is what a send must have left of its `not_after`.
    "providers": {
        name: {"receipt_window_hours": 6 / 3600, "total_timeout_seconds": 3.5}
        for name in ("twilio", "fcm", "aliyun", "aliyun_sms", "twilio_voice")
    },
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything up and ready."""

    home: Path
    config_path: Path
    config: Config
    gateway: Child
    simulator: Simulator
    metrics_url: str

    @property
    def resends(self) -> frozenset[str]:
        """The providers to which what is unknown is sent again, at any stage."""
        return frozenset(name for name, each in self.config.providers.items() if each.resends())


@asynccontextmanager
async def stage(script: Script, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """The stage, ready for requests; `say` is told what starts.  StackError when something does not."""
    home = Home("demo")
    try:
        say("Postgres")
        async with EmbeddedPostgres() as postgres:
            dsn = await postgres.create_database("reminders")
            await schema.migrate(dsn)
            say("a Kafka broker")
            async with EmbeddedBroker() as broker:
                await broker.create_topics(TOPICS)
                receipts = ReceiptSettings(retry_scale=0.05)
                say("the providers")
                config = SimulatorConfig(log=home.path / "simulator.jsonl", script=script, receipts=receipts)
                async with (
                    Simulator(config) as simulator,
                    _gateway(home.path, dsn, broker.bootstrap, simulator, say) as ready,
                ):
                    yield ready
    finally:
        home.close()


@asynccontextmanager
async def _gateway(
    home: Path, dsn: str, bootstrap: str, simulator: Simulator, say: Callable[[str], None]
) -> AsyncIterator[Stage]:
    settings = before(simulator, dsn=dsn, bootstrap=bootstrap, overrides=_IMPATIENT)
    path = in_files(settings, home).write(home / "gateway.yaml")
    url = f"http://127.0.0.1:{settings.tree['http']['internal_port']}"
    say("the gateway")
    child = Child("gateway", home / "gateway.log")
    # Nobody's own overrides change what the demo shows.
    environ = {name: value for name, value in os.environ.items() if not name.upper().startswith("GATEWAY__")}
    child.spawn([sys.executable, "-m", "gateway", "run", "--config", path], env=environ)
    try:
        await child.ready(lambda: _answers(f"{url}/readyz"), within=_READY_WITHIN)
        yield Stage(home, path, load(path, {}), child, simulator, f"{url}/metrics")
    finally:
        code = await child.stop(within=30)
    if code:
        raise StackError(f"the gateway ended with {code}\n{child.tail()}")


def in_files(settings: Development, home: Path) -> Development:
    """The same settings with every secret in a file, so that another terminal can use them, and no other user."""
    secrets = home / "secrets"
    secrets.mkdir(mode=0o700)
    for name, value in settings.environ.items():
        (secrets / name).write_text(value)

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: moved(item) for name, item in value.items()}
        if isinstance(value, list):
            return [moved(item) for item in value]
        name = value.removeprefix("env:") if isinstance(value, str) else ""
        return f"file:{secrets / name}" if name in settings.environ else value

    return Development(moved(settings.tree), {})


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
