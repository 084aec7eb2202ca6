"""The way through an HTTP proxy (CONNECT, RFC 9110 §9.3.6): the proxy joins two connections and reads neither.

All of it lies before the first byte of the request, so whatever goes wrong here is NotSent.
"""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass, field
from typing import Final, cast

from gateway.dispatch.transport.outcomes import Wire
from gateway.dispatch.transport.request import Origin

_HEAD_LIMIT: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_END: Final = b"\r\n\r\n"
_LOGIN_NEEDED: Final = 407


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy is; `login` is user:password."""

    host: str
    port: int
    login: str | None = field(default=None, repr=False)


class NoTunnel(Exception):
    """The proxy has not joined us to the provider; `wire` says why."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self.wire = wire


async def through(loop: asyncio.AbstractEventLoop, proxy: Proxy, origin: Origin) -> asyncio.Transport:
    """A connection on which the next byte goes to `origin`; the proxy finds it by its name.  Raises NoTunnel.

    Reading is paused, so that nothing is heard before somebody listens.
    """
    asked = _Asked(loop)
    try:
        transport, _ = await loop.create_connection(lambda: asked, proxy.host, proxy.port)
    except (OSError, UnicodeError, OverflowError):
        raise NoTunnel(Wire.PROXY_UNREACHABLE) from None
    try:
        transport.write(_connect(proxy, origin))
        status = await asked.status
        if not 200 <= status < 300:
            raise NoTunnel(Wire.PROXY_LOGIN if status == _LOGIN_NEEDED else Wire.PROXY_REFUSED)
    except BaseException:
        transport.abort()
        raise
    return transport


def _connect(proxy: Proxy, origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"host: {target}"]
    if proxy.login is not None:
        lines.append(f"proxy-authorization: Basic {base64.b64encode(proxy.login.encode()).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Asked(asyncio.Protocol):
    """Reads the proxy's answer to CONNECT, whose head is all of it.  `status` is set exactly once, whatever happens."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport; they do what one does.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.status.done():
            return
        self._read += data
        head, end, behind = self._read.partition(_END)
        if not end and len(self._read) <= _HEAD_LIMIT:
            return
        found = _STATUS.match(head + b"\r")
        # Nobody speaks before we do: what comes behind the head is the proxy's own, and must not answer a request.
        if found is None or not end or len(head) > _HEAD_LIMIT or (behind and found[1].startswith(b"2")):
            self._no_answer()
            return
        assert self._transport is not None
        self._transport.pause_reading()
        self.status.set_result(int(found[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_answer()

    def _no_answer(self) -> None:
        if not self.status.done():
            self.status.set_exception(NoTunnel(Wire.PROXY_REFUSED))
            # Nobody may be waiting any more: that is no news then.
            self.status.exception()
