"""What is disturbed: servers, links, gateways, and the secrets in their files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from gateway.dev.host import StackError, free_port
from tests.faults.harness import HURRY, Stand, fresh_topics, spawn_unfenced, stand
from tests.faults.load import script
from tests.stack.gateway import GatewayProcess, merge
from tests.stack.kafka import KafkaServer
from tests.stack.postgres import PostgresServer
from tests.stack.proxy import Proxy, proxy
from tests.stack.scene import value_in

# A process that starts while its ledger is away ends, and its supervisor starts it again: for so long.
UP_WITHIN: Final = 90.0
_AUTHOR: Final = "soak"
# What is on top of `HURRY`.  Hundreds of kills rescue some reminders more often than a lifetime of a cluster does.  And
# more at once than this the providers, which are played by this process, would answer too late for such timeouts.
_OVERRIDES: Final[dict[str, Any]] = {
    "database": {"statement_timeout_seconds": 2},
    "dispatch": {"max_rescues": 100},
    "secrets": {"reload_seconds": 600},
    "providers": {
        **{name: {"concurrency": 48} for name in HURRY["providers"]},
        "fcm": {"concurrency": 48, "on_unknown_stages": {"d3": "resend"}},
    },
}


class Vault:
    """Secrets as files that are swapped all at once, as the kubelet does it."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self._home = home
        self._version = 0
        self.files: dict[str, str] = {}

    def at(self, name: str) -> str:
        return f"file:{self._home}/..data/{name}"

    def put(self, **files: str) -> None:
        self.files |= files
        self._version += 1
        folder = self._home / f"v{self._version}"
        folder.mkdir()
        for name, content in self.files.items():
            (folder / name).write_text(content)
        link = self._home / "..new"
        link.symlink_to(folder.name)
        link.rename(self._home / "..data")


@dataclass
class Stage:
    """One gateway to kill (`here.gateway`), one that lives through everything, and a guest that comes and goes."""

    here: Stand
    survivor: GatewayProcess
    guest: GatewayProcess
    postgres: PostgresServer
    kafka: KafkaServer
    vault: Vault
    links: dict[str, Proxy]
    unfenced: frozenset[str] = frozenset()
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # commands that broke, where they should have said what is wrong
    _environ: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def victim(self) -> GatewayProcess:
        return self.here.gateway

    @property
    def alive(self) -> list[GatewayProcess]:
        return [each for each in (self.victim, self.survivor, self.guest) if each.child.alive]

    def spawn(self, process: GatewayProcess, **environ: str) -> None:
        """Starts it; `environ` may arm a crash point."""
        over = self.links["postgres, survivor" if process is self.survivor else "postgres"]
        dsn = self.here.world.dsn
        environ |= {"GATEWAY_DATABASE_DSN": dsn.replace(f":{urlsplit(dsn).port}/", f":{over.port}/")}
        if process is self.victim:
            self.here.mark_up()
        if self.unfenced:
            spawn_unfenced(process, self.unfenced, **environ)
        else:
            process.spawn(**environ)

    async def bring_up(self, process: GatewayProcess) -> None:
        """Starts it, as a supervisor does, until it is ready.  Raises AssertionError when that takes too long."""
        end = time.monotonic() + UP_WITHIN
        while True:
            try:
                if not process.child.alive:
                    self.spawn(process)
                await process.ready(within=max(0.1, end - time.monotonic()))
            except StackError as error:
                assert time.monotonic() < end, str(error)
                self.counts["starts that failed"] += 1
                await asyncio.sleep(0.3)
            else:
                return

    async def tool(self, *arguments: str, within: float = 60) -> tuple[int, str]:
        """The command line, as an operator uses it: its exit status and what it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, "--config", str(self.victim.config),
            env={**self.victim.environ, "REMINDER_GATEWAY_AUTHOR": _AUTHOR},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, error = await asyncio.wait_for(process.communicate(), within)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"`{' '.join(arguments)}` did not end within {within:g} s") from None
        assert process.returncode is not None
        if b"Traceback" in error or process.returncode not in (0, 1):
            said = error.decode(errors="replace")[-2000:]
            self.broken.append(f"`{' '.join(arguments)}` ended with {process.returncode}: {said}")
        return process.returncode, (out if process.returncode == 0 else out + error).decode()

    async def listed(self, *arguments: str) -> list[dict[str, Any]]:
        status, out = await self.tool(*arguments, "--json")
        assert status == 0, out
        return [json.loads(line) for line in out.splitlines()]

    async def metric(self, process: GatewayProcess, name: str, **labels: str) -> float:
        return value_in(await process.metrics(), name, **labels)

    def save(self) -> None:
        """Writes what stands in the trees; who runs has it with the next SIGHUP."""
        for each in (self.victim, self.survivor, self.guest):
            each.settings.write(each.config)

    async def reload(self, within: float = 20) -> bool:
        """SIGHUP to everybody; whether all that live have taken it."""
        before = {each: await self._reloads(each) for each in self.alive}
        for each in before:
            os.kill(each.child.pid, signal.SIGHUP)
        end = time.monotonic() + within
        while time.monotonic() < end:
            if all([not each.child.alive or await self._reloads(each) > n for each, n in before.items()]):
                return True
            await asyncio.sleep(0.1)
        return False

    async def _reloads(self, process: GatewayProcess) -> float:
        with contextlib.suppress(aiohttp.ClientError, ValueError):
            return await self.metric(process, "secrets_reloads_total", outcome="good")
        return -1.0


@asynccontextmanager
async def staged(home: Path, seed: int, unfenced: frozenset[str] = frozenset()) -> AsyncIterator[Stage]:
    """Everything up: Apache Kafka, Postgres, the simulator, two gateways, and a proxy in every way between them."""
    linked, controller = free_port(), free_port()
    settings = {"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINKED:PLAINTEXT"}
    kafka = KafkaServer(settings=settings)
    async with proxy("127.0.0.1", linked) as kafka_link:
        # Two doors: who comes by the second is told to come by the proxy.
        doors = f"PLAINTEXT://{kafka.bootstrap},"
        settings["listeners"] = f"{doors}LINKED://127.0.0.1:{linked},CONTROLLER://127.0.0.1:{controller}"
        settings["advertised.listeners"] = f"{doors}LINKED://127.0.0.1:{kafka_link.port}"
        settings["controller.quorum.voters"] = f"1@127.0.0.1:{controller}"
        async with PostgresServer() as postgres, kafka:
            topics = await fresh_topics(kafka)
            dsn = postgres.dsn(await postgres.fresh_database())
            options: dict[str, Any] = {"script": script(seed), "receipts": {"retry_scale": 0.05}}
            async with (
                stand(dsn, kafka.bootstrap, topics, home, _OVERRIDES, **options) as here,
                proxy("127.0.0.1", urlsplit(here.world.simulator.urls.base).port or 0) as providers,
                proxy("127.0.0.1", postgres.port) as first,
                proxy("127.0.0.1", postgres.port) as second,
            ):
                vault = _furnished(here, home, f"127.0.0.1:{kafka_link.port}", f"http://127.0.0.1:{providers.port}")
                links = {
                    "postgres": first, "postgres, survivor": second, "kafka": kafka_link, "providers": providers
                }  # fmt: skip
                survivor, guest = here.twin("survivor"), here.twin("guest")
                stage = Stage(here, survivor, guest, postgres, kafka, vault, links, unfenced)
                await stage.bring_up(stage.victim)
                await stage.bring_up(survivor)
                yield stage
                for each in links.values():  # a broken one would hold up the end
                    each.reset()


def sealing_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _furnished(here: Stand, home: Path, bootstrap: str, providers: str) -> Vault:
    """Points the gateway at the links, and moves its secrets that will rotate into files."""
    vault, process = Vault(home / "vault"), here.gateway
    environ = process.settings.environ
    vault.put(
        callback=environ["GATEWAY_CALLBACK_TOKEN"],
        twilio=environ["TWILIO_AUTH_TOKEN"],
        sealing_1=environ["GATEWAY_SEAL_KEY_1"],
    )
    twilio = {"settings": {"auth_tokens": [vault.at("twilio")]}}
    tree: dict[str, Any] = {
        "kafka": {"bootstrap": bootstrap},
        "sealing": {"keys": {1: vault.at("sealing_1")}},
        "providers": {"twilio": twilio, "twilio_voice": twilio},
    }
    merge(process.settings.tree, tree)
    for each in process.settings.tree["providers"].values():
        merge(each, {"settings": {"base_url": providers}})
        if "callback_tokens" in each:
            each["callback_tokens"] = [vault.at("callback")]
    process.settings.write(process.config)
    return vault
