"""A gateway that reaches its providers only through a proxy, under certificates of a private authority.

Mode live, as there is no other way off loopback; but whatever its providers are called, only the proxy knows these
names, and they lead to the simulator.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.faults.connect_proxy import ConnectProxy, connect_proxy
from tests.stack.certificates import Authority, serving, swap
from tests.stack.gateway import requested
from tests.stack.scene import QUICK, Scene, empty_world, until

SMS, PUSH, TOKENS = "sms.provider.test", "push.provider.test", "tokens.provider.test"


@asynccontextmanager
async def under_tls(port: int, tls: ssl.SSLContext) -> AsyncIterator[int]:
    """What stands before a server that speaks none; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65536):
                target.write(piece)
                await target.drain()
        target.transport.abort()

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        far_reader, far = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(carry(reader, far), carry(far_reader, writer))
        finally:
            far.transport.abort()
            writer.transport.abort()

    server = await asyncio.start_server(joined, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Stage:
    scene: Scene
    proxy: ConnectProxy
    authority: Authority
    ca: Path
    credentials: Path

    def logins(self) -> set[str]:
        return {base64.b64decode(head.split(b"Basic ")[1].split(b"\r\n")[0]).decode() for head in self.proxy.heads}

    def targets(self) -> set[str]:
        return {head.split(b" ")[1].decode() for head in self.proxy.heads}


@pytest.fixture
async def stage(postgres: Any, kafka: Any, tmp_path: Path) -> AsyncIterator[Stage]:
    authority = Authority(tmp_path, "private")
    ca, credentials = tmp_path / "ca.pem", tmp_path / "proxy-credentials"
    swap(ca, authority.file.read_bytes())
    swap(credentials, b"gateway:canary-first")
    tls = serving(authority.pair("providers", [SMS, PUSH, TOKENS]))
    async with empty_world(postgres, kafka, tmp_path) as here:
        port = urlsplit(here.simulator.urls.base).port
        assert port is not None
        async with under_tls(port, tls) as secured:
            proxy = ConnectProxy({f"{name}:443": secured for name in (SMS, PUSH, TOKENS)})
            async with connect_proxy(proxy):
                tree: dict[str, Any] = {
                    **{key: dict(value) for key, value in QUICK.items()},
                    "mode": "live",
                    "secrets": {"reload_seconds": 0.5},
                    "outbound": {
                        "ca_file": str(ca),
                        "proxy_url": f"http://127.0.0.1:{proxy.port}",
                        "proxy_credentials": f"file:{credentials}",
                    },
                    "providers": {
                        "twilio": {"settings": {"base_url": f"https://{SMS}"}},
                        "fcm": {"settings": {"base_url": f"https://{PUSH}", "token_url": f"https://{TOKENS}/token"}},
                    },
                }
                gateway = here.gateway(tree)
                gateway.spawn()
                try:
                    await gateway.ready(60)
                    yield Stage(Scene(here, gateway), proxy, authority, ca, credentials)
                finally:
                    await gateway.child.kill()


async def test_every_request_goes_through_the_proxy_and_what_is_renewed_counts(stage: Stage) -> None:
    scene = stage.scene
    await scene.world.publish([requested(1), requested(2, channels=["push"])])
    assert await scene.ended(1, within=60) == ("delivered", None)
    assert await scene.ended(2, within=60) == ("delivered", None)
    assert stage.targets() == {f"{name}:443" for name in (SMS, PUSH, TOKENS)}
    assert stage.logins() == {"gateway:canary-first"}
    assert b"POST" not in stage.proxy.carried

    # The login changes.
    stage.proxy.heads.clear()
    swap(stage.credentials, b"gateway:canary-second")
    await _reload(stage)
    await scene.world.publish([requested(3)])
    assert await scene.ended(3, within=60) == ("delivered", None)
    assert stage.logins() == {"gateway:canary-second"}

    # So does the authority: whom it does not vouch for is not spoken to, and waits until it does again.
    swap(stage.ca, Authority(stage.ca.parent, "another").file.read_bytes())
    await _reload(stage)
    await scene.world.publish([requested(4)])

    async def tried() -> bool:
        return bool([each for each in await scene.attempts(4) if each["state"] == "not_sent"])

    await until(tried, "attempt that was not sent", 30)
    (attempt, *_) = await scene.attempts(4)
    assert (attempt["failure"], attempt["code"]) == ("transient", "tls_failure")
    swap(stage.ca, stage.authority.file.read_bytes())
    await _reload(stage)
    assert await scene.ended(4, within=90) == ("delivered", None)
    told = scene.gateway.log.read_text() + await scene.gateway.metrics()
    assert "canary" not in told


async def _reload(stage: Stage) -> None:
    was = await stage.scene.metric("secrets_reloads_total", outcome="good")
    os.kill(stage.scene.gateway.child.pid, signal.SIGHUP)

    async def done() -> bool:
        return await stage.scene.metric("secrets_reloads_total", outcome="good") > was

    await until(done, "reload", 20)
