"""One gateway, and to its providers as many lines as there are faults: each its own provider, lender and proxy.

All of them lead to the same simulated account, so that the circuits, slots and connections of one say nothing of
another's, and every fault is looked at by itself while the others happen.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime as dt
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.stack.gateway import GatewayProcess, World, requested
from tests.stack.proxy import Proxy
from tests.stack.scene import QUICK, Scene, empty_world

REFUSED, DNS, TLS, SILENT = "refused", "dns", "tls", "silent"  # no byte can leave
LOSES, SLOW, HALF, DEAF = "loses", "slow", "half", "deaf"  # it may have arrived
LIMIT, AUTH, ERRORS, KEPT = "limit", "auth", "errors", "kept"  # the provider itself
LINES: Final = (REFUSED, DNS, TLS, SILENT, LOSES, SLOW, HALF, DEAF, LIMIT, AUTH, ERRORS, KEPT)
_TIMEOUTS: Final = {"connect_timeout_seconds": 0.5, "read_timeout_seconds": 1.0, "total_timeout_seconds": 1.9}
WINDOW: Final = 3.0  # seconds, for receipts


class Way(Proxy):
    """A proxy that can be gone and come back at its port, swallow an answer by a reset, or let it trickle."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.loses = 0  # the next answers that do not come: the connection is reset instead
        self.trickles = 0.0  # seconds between two bytes of an answer

    async def start(self) -> None:
        await super().start()
        self._listen = self.port

    async def gone(self) -> None:
        """Nobody listens any more, and who is connected is not."""
        self._shut()
        self.reset()

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        open_: asyncio.Event,
        age: int,
        asker: asyncio.StreamWriter | None,
    ) -> None:
        if asker is not None or not (self.loses or self.trickles):
            return await super()._carry(source, target, open_, age, asker)
        with contextlib.suppress(OSError):
            while piece := await source.read(4096):
                if self.loses:
                    self.loses -= 1
                    return None  # both ends are reset
                for byte in piece:
                    target.write(bytes([byte]))
                    await target.drain()
                    await asyncio.sleep(self.trickles)
        return None


@dataclass
class Lines(Scene):
    """A scene with a way to each line that has one."""

    ways: Mapping[str, Way]
    secret: Path

    def mend_credentials(self) -> None:
        """As an operator would: the file, then the signal."""
        self.secret.write_text(self.world.simulator.credentials.twilio_auth_token)
        os.kill(self.gateway.child.pid, signal.SIGHUP)

    async def ask(self, line: str, *numbers: int, seconds: float = 600, **changes: Any) -> None:
        """Requests by a line; the next contact would be a call, which works."""
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        wanted = {"lender": line, "not_after": ends.isoformat(), **changes}
        await self.world.publish([requested(number, ["sms", "voice"], **wanted) for number in numbers])

    async def codes(self, number: int) -> list[tuple[str, str]]:
        """(state, code) of each attempt, in order; all of them by SMS."""
        found = await self.attempts(number)
        assert {each["channel"] for each in found} <= {"sms"}
        return [(each["state"], each["code"]) for each in found]

    async def states(self, number: int) -> list[tuple[str, str | None]]:
        """What Kafka was told, in order."""
        await self.relayed()
        return [(each["state"], each.get("reason")) for each in await self.events(number)]

    def taken(self, number: int) -> int:
        """How often a provider took it, by its own log."""
        return len(self.sent(number))


@asynccontextmanager
async def lines(postgres: Any, kafka: Any, home: Path) -> AsyncIterator[Lines]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(empty_world(postgres, kafka, home))
        target = urlsplit(here.simulator.urls.base)
        ways = {}
        for line in LINES:
            ways[line] = Way(target.hostname or "", target.port or 0)
            await ways[line].start()
            stack.push_async_callback(ways[line].stop)
        secret = home / "auth-token"
        secret.write_text("0" * 32)
        mute = stack.enter_context(_mute())
        gateway = _gateway(here, {name: f"http://127.0.0.1:{each.port}" for name, each in ways.items()}
                           | {DNS: "http://provider.invalid", TLS: f"https://127.0.0.1:{ways[TLS].port}",
                              SILENT: f"http://127.0.0.1:{mute}"}, secret)  # fmt: skip
        gateway.spawn()
        stack.push_async_callback(gateway.child.kill)
        await gateway.ready(60)
        yield Lines(here, gateway, ways, secret)


def _gateway(here: World, urls: Mapping[str, str], secret: Path) -> GatewayProcess:
    """In `live`, since only that may look a name up; every URL is on loopback, or one that never resolves."""
    settings = here.settings({key: dict(value) for key, value in QUICK.items()})
    tree = settings.tree
    tree["mode"] = "live"
    model = tree["providers"]["twilio"]
    for line in LINES:
        provider = copy.deepcopy(model) | _TIMEOUTS | {"receipt_window_hours": WINDOW / 3600}
        provider["settings"]["base_url"] = urls[line]
        if line == AUTH:
            provider["settings"]["auth_tokens"] = [f"file:{secret}", *provider["settings"]["auth_tokens"]]
        tree["providers"][line] = provider
        tree["lenders"][line] = {"name": line, "default_locale": "en", "routes": {"sms": line, "voice": "aliyun"}}
    return GatewayProcess(settings, here.home)


@contextlib.contextmanager
def _mute() -> Any:
    """A port whose queue of connections is full: whoever comes is not answered."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(8):
            each = stack.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        yield silent.getsockname()[1]
