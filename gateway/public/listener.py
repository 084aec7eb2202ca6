"""The public listener: aiohttp's server behind a gate.

aiohttp bounds lines, the number of headers and bodies, not a head in time or as a whole, nor the number of connections.
The gate does: who opens a connection and does not say a whole head in time, or too long a one, or nothing for long, is
cut off, and so is one too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import web

_SWEEP_SECONDS: Final = 0.5
# aiohttp would keep 128 headers of 8 KB for everybody who is connected; no provider sends a tenth of this.
_LONGEST_HEAD: Final = 32 * 1024
_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class PublicLimits:
    """`read_seconds` is for a head, and again for a body; `idle_seconds` for a connection between two requests."""

    max_body_bytes: int
    read_seconds: float
    idle_seconds: float = 75.0
    connections: int = 1000


class Listener:
    """Serves `handle` on a socket; every other way to use the connection is closed."""

    def __init__(self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], limits: PublicLimits):
        self._handle = handle
        self._limits = limits
        self._gates: dict[asyncio.Protocol, _Gate] = {}
        self._web: web.Server | None = None
        self._socket: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """The port it listens on."""
        loop = asyncio.get_running_loop()

        def request(
            message: object, payload: object, protocol: object, writer: object, task: object
        ) -> web.BaseRequest:
            return web.BaseRequest(
                message, payload, protocol, writer, task, loop,  # type: ignore[arg-type]  # aiohttp's own, passed on
                client_max_size=self._limits.max_body_bytes,
            )  # fmt: skip

        self._web = web.Server(
            self._serve,
            request_factory=request,
            access_log=None,
            auto_decompress=False,
            lingering_time=self._limits.read_seconds,  # for the rest of a body that was refused
        )
        self._socket = await loop.create_server(self._gate, host, port)
        self._sweeper = asyncio.create_task(self._sweep(), name="public-sweep")
        bound: int = self._socket.sockets[0].getsockname()[1]
        return bound

    async def stop(self, seconds: float = 2.0) -> None:
        """Takes no more, hangs up where nothing is asked, finishes what is being handled if it can in time."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        if self._web is not None:
            self._web.pre_shutdown()  # else a connection between two requests is waited for until the time is up
            await self._web.shutdown(seconds)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        gate = self._gates.get(cast("asyncio.Protocol", request.protocol))
        if gate is not None:
            gate.begin()
        try:
            return await self._handle(request)
        finally:
            if gate is not None:
                gate.rest()

    def _gate(self) -> asyncio.Protocol:
        assert self._web is not None
        return _Gate(self._web(), self._gates, self._limits.connections)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for gate in list(self._gates.values()):
                if gate.overdue(now, self._limits):
                    gate.close()


class _Head:
    """How much has come of a head, and whether that is all of it."""

    __slots__ = ("_last", "ended", "size")

    def __init__(self) -> None:
        self.size = 0
        self.ended = False
        self._last = b""

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self.ended = _END_OF_HEAD in data or _END_OF_HEAD in self._last + data[:3]
        self._last = (self._last + data[-3:])[-3:]


class _Gate(asyncio.Protocol):
    """One connection: passes everything on and knows since when it has been waited for."""

    def __init__(self, inner: asyncio.Protocol, gates: dict[asyncio.Protocol, _Gate], most: int) -> None:
        self._inner = inner
        self._gates = gates
        self._most = most
        self._now = asyncio.get_running_loop().time
        self._transport: asyncio.Transport | None = None
        self._head_since: float | None = None
        self._head: _Head | None = _Head()
        self._idle_since = 0.0
        self.busy = False

    def begin(self) -> None:
        """A whole head has come."""
        self.busy, self._head_since, self._head = True, None, None

    def rest(self) -> None:
        """Its request has been handled."""
        self.busy, self._head = False, _Head()
        self._idle_since = self._now()

    def overdue(self, now: float, limits: PublicLimits) -> bool:
        if self.busy:
            return False
        if self._head_since is not None:
            return now - self._head_since > limits.read_seconds
        return now - self._idle_since > limits.idle_seconds

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none, and does what one does
        if len(self._gates) >= self._most:
            self._transport.abort()
            return
        self._gates[self._inner] = self
        self._idle_since = self._head_since = self._now()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner not in self._gates:
            return
        if not self.busy and self._head_since is None:
            self._head_since = self._now()
        if self._head is not None:
            self._head.add(data)
            if self._head.ended:
                self._head = None  # what comes now is a body, until its request has been handled
            elif self._head.size > _LONGEST_HEAD:
                self.close()
                return
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner in self._gates else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._gates.pop(self._inner, None) is not None:
            self._inner.connection_lost(exc)
