"""A provider that does what it is told to, on a real socket, and the transport that is put before it."""

import asyncio
import gc
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.dispatch.transport import Proxy, Timeouts, Transport
from providers.contract import HttpRequest
from tests.stack.serving import serving

BODY = b"To=%2B14155550123"
QUICK = Timeouts(connect=0.3, read=0.3, total=2.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Provider:
    """A server that reads requests to their last byte, notes them, and then does what `answer` says."""

    def __init__(self, answer: Answer, keep_alive: bool) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0
        self._answer = answer
        self._keep_alive = keep_alive

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/send"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head + await reader.readexactly(len(BODY)))
                await self._answer(reader, writer)
                if not self._keep_alive:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def provider(
    answer: Answer, *, keep_alive: bool = False, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Provider]:
    it = Provider(answer, keep_alive)
    try:
        async with serving(it.serve, host=host, tls=tls) as it.port:
            yield it
    finally:
        if tls is not None:
            _collect()


def _collect() -> None:
    """Python 3.11 takes a closed connection with TLS for an open one, and warns when it goes: here, and silently."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@asynccontextmanager
async def transport(
    timeouts: Timeouts = QUICK, connections: int = 4, tls: ssl.SSLContext | None = None, proxy: Proxy | None = None
) -> AsyncIterator[Transport]:
    it = Transport(timeouts, connections, tls, proxy=proxy)
    await it.open()
    try:
        yield it
    finally:
        await it.close()
        await asyncio.sleep(0)  # lets the connections close


def request(url: str) -> HttpRequest:
    return HttpRequest(url, {"content-type": "application/x-www-form-urlencoded"}, BODY)


def says(raw: bytes) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return answer


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)
