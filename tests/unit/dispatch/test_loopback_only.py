"""Mode simulate on the wire: whatever a request asks for, and wherever a name leads, nothing leaves this machine."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.dispatch.transport import NotSent, Timeouts, Transport, Wire
from providers.contract import HttpRequest, HttpResponse

QUICK = Timeouts(connect=0.5, read=0.5, total=1.5)
AWAY = "192.0.2.1"  # TEST-NET-1: nobody is there


class Server:
    """Answers every request; says how often it was connected to."""

    def __init__(self) -> None:
        self.port = self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    it = Server()
    running = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = running.sockets[0].getsockname()[1]
    yield it
    running.close()
    await running.wait_closed()


@asynccontextmanager
async def transport(loopback_only: bool = True) -> AsyncIterator[Transport]:
    it = Transport(QUICK, 2, ssl.create_default_context(), loopback_only=loopback_only)
    await it.open()
    try:
        yield it
    finally:
        await it.close()
        await asyncio.sleep(0)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that connections were opened to."""
    found: list[str] = []
    connect = asyncio.SelectorEventLoop.sock_connect

    async def noted(self: Any, sock: socket.socket, address: Any) -> None:
        found.append(address[0])
        await connect(self, sock, address)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", noted)
    return found


def resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[object]:
    """From now on every name leads to these; addresses lead to themselves.  Returns who was asked for."""
    asked: list[object] = []
    real = socket.getaddrinfo

    def fake(host: Any, port: Any, *more: Any, **named: Any) -> list[Any]:
        if isinstance(host, str) and not host[0].isdigit() and ":" not in host:
            asked.append(host)
            return [entry for each in addresses for entry in real(each, port, type=socket.SOCK_STREAM)]
        return list(real(host, port, *more, **named))

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return asked


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_loopback_is_reached(server: Server, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolves(monkeypatch, "127.0.0.1")
    async with transport() as it:
        answer = await it.post(HttpRequest(f"http://{host}:{server.port}/x", {}))
    assert isinstance(answer, HttpResponse)
    assert (answer.status, server.connections) == (200, 1)


@pytest.mark.parametrize(
    "addresses", [[AWAY], ["127.0.0.1", AWAY], [AWAY, "127.0.0.1"], ["::ffff:192.0.2.1"], ["0.0.0.0"], []]
)
async def test_a_localhost_that_leads_elsewhere_is_not_connected_to(
    addresses: list[str], server: Server, dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolves(monkeypatch, *addresses)
    async with transport() as it:
        answer = await it.post(HttpRequest(f"http://localhost:{server.port}/x", {}))
    assert answer == NotSent(Wire.NOT_LOOPBACK)
    assert (asked, dialled, server.connections) == (["localhost"], [], 0)


async def test_what_was_looked_up_is_what_is_connected_to(
    server: Server, dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers differently the second time is not asked a second time."""
    asked = resolves(monkeypatch, "127.0.0.1")
    async with transport() as it:
        await it.post(HttpRequest(f"http://localhost:{server.port}/x", {}))
    assert (asked, dialled) == (["localhost"], ["127.0.0.1"])


@pytest.mark.parametrize(
    "url", ["http://vendor.example.com", f"http://{AWAY}", f"https://{AWAY}", "http://[2001:db8::1]"]
)
async def test_no_request_leads_elsewhere(
    url: str, server: Server, dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a name that leads here today; an adapter may have made it of anything."""
    asked = resolves(monkeypatch, "127.0.0.1")
    async with transport() as it:
        answer = await it.post(HttpRequest(f"{url}:{server.port}/x", {}))
    assert answer == NotSent(Wire.NOT_LOOPBACK)
    assert (asked, dialled, server.connections) == ([], [], 0)


async def test_the_other_modes_connect_to_where_the_name_leads(
    server: Server, dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves(monkeypatch, "127.0.0.1")
    async with transport(loopback_only=False) as it:
        answer = await it.post(HttpRequest(f"http://vendor.example.com:{server.port}/x", {}))
    assert isinstance(answer, HttpResponse)
    assert dialled == ["127.0.0.1"]


@pytest.mark.parametrize("loopback_only", [True, False])
async def test_no_proxy_is_asked(loopback_only: bool, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Server()
    running = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, address)
        monkeypatch.setenv(name.upper(), address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with transport(loopback_only) as it:
        await it.post(HttpRequest(f"http://127.0.0.1:{server.port}/x", {}))
    running.close()
    await running.wait_closed()
    assert (server.connections, proxy.connections) == (1, 0)
