"""The only file that speaks HTTP to providers.

Its one question: may the provider have the request?  So the moment of the first byte is not guessed from an exception's
class but known: before it everything that goes wrong is NotSent, after it MaybeSent, until a whole answer is read.
Answers are parsed by llhttp (httptools); what is written here is the connections, their pool and the two outcomes.

One request at a time on a connection, which is used again only after a whole answer that allows it.  Nothing is ever
sent twice, redirected, decompressed or remembered.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from gateway.loopback import is_loopback, is_loopback_address
from providers.contract import HttpRequest, HttpResponse

_BODY_LIMIT: Final = 256 * 1024
_HEAD_LIMIT: Final = 16 * 1024
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 §5.6.2
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*", re.ASCII)
# How a message is delimited and a connection kept is no adapter's business.
_OURS: Final = frozenset({"content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"})
# Shorter than a provider's own idle timeout: a connection that it is just closing makes a send ambiguous.
_KEEP_SECONDS: Final = 15.0
# A timer that fires so much too late says that the process slept, not the provider.
_SLEPT_SECONDS: Final = 0.1
# Long enough for the loop to read what lies in its sockets, timers being served first.
_AWAKE_SECONDS: Final = 0.02


class Wire(StrEnum):
    """What went wrong on the wire; values are attempt codes."""

    REFUSED = "connect_refused"
    DNS = "dns_failure"
    TLS = "tls_failure"
    CONNECT_TIMEOUT = "connect_timeout"
    READ_TIMEOUT = "read_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    DISCONNECTED = "disconnected"
    GARBLED = "garbled_answer"
    TOO_LARGE = "answer_too_large"
    CANCELLED = "cancelled"
    NO_TOKEN = "no_token"  # noqa: S105  a code
    BAD_REQUEST = "unsendable_request"
    CANNOT_REACH = "cannot_reach"  # this provider, this address
    NOT_ALLOWLISTED = "not_allowlisted"  # mode allowlist
    NOT_LOOPBACK = "not_loopback"  # mode simulate


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proof that no byte of the request left."""

    wire: Wire


@dataclass(frozen=True, slots=True)
class MaybeSent:
    """Bytes may have left and no readable answer came."""

    wire: Wire


Answer = HttpResponse | NotSent | MaybeSent


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds.  `connect` bounds the wait for a connection, `read` every silence of the provider, `total` both."""

    connect: float
    read: float
    total: float


class _Origin(NamedTuple):
    """Where connections of one kind lead."""

    host: str
    port: int
    tls: bool
    authority: str  # as it stands in the Host header


class _Connection(asyncio.Protocol):
    """One connection.  `answer` is resolved exactly once for each request, whatever happens."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts) -> None:
        self._loop = loop
        self._timeouts = timeouts
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._heard_at = 0.0
        self._read = 0
        self._woken = False
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._head_done = False

    # --- one request ----------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether another request may be tried on it."""
        transport = self._transport
        return (
            transport is not None and not transport.is_closing() and self._loop.time() - self._heard_at < _KEEP_SECONDS
        )

    def exchange(self, data: bytes, deadline: float) -> asyncio.Future[Answer]:
        """Writes the request; from here on bytes may have left."""
        assert self._transport is not None
        self._answer = self._loop.create_future()
        self._headers, self._body, self._head_done, self._read = {}, bytearray(), False, 0
        self._deadline, self._heard_at, self._woken = deadline, self._loop.time(), False
        self._arm()
        self._transport.write(data)
        return self._answer

    def close(self) -> None:
        self._finish(MaybeSent(Wire.CANCELLED))
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, answer: Answer) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _fail(self, wire: Wire) -> None:
        self._finish(MaybeSent(wire))
        if self._transport is not None:
            self._transport.abort()

    def _until(self) -> float:
        return min(self._heard_at + self._timeouts.read, self._deadline)

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._until(), self._silent)

    def _silent(self) -> None:
        """The timer is not moved with every byte; it looks, when it fires, how long ago the last one came."""
        now, until = self._loop.time(), self._until()
        if now < until:
            self._arm()
        elif now > until + _SLEPT_SECONDS and not self._woken:
            # Whoever slept past the time has not listened: the answer may have come and lie in the socket.
            self._woken = True
            self._timer = self._loop.call_later(_AWAKE_SECONDS, self._silent)
        else:
            self._fail(Wire.TOTAL_TIMEOUT if now >= self._deadline else Wire.READ_TIMEOUT)

    # --- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport; they do what one does.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self._fail(Wire.GARBLED)  # nobody asked: whatever it is, it must not answer the next request
            return
        self._heard_at = self._loop.time()
        self._read += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(Wire.GARBLED)
        if not self._head_done and self._read > _HEAD_LIMIT:
            self._fail(Wire.TOO_LARGE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is None:
            return
        if not self._head_done:
            self._finish(MaybeSent(Wire.DISCONNECTED if self._read == 0 or exc else Wire.GARBLED))
        elif exc is None and not self._headers.keys() & {"content-length", "transfer-encoding"}:
            self._complete()  # a body without a length ends with the connection (RFC 9112 §6.3)
        else:
            self._finish(MaybeSent(Wire.GARBLED))

    # --- httptools ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._answer is None:
            self._fail(Wire.GARBLED)  # behind the answer in the same piece: it must not answer the next request

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._head_done = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > _BODY_LIMIT:
            self._fail(Wire.TOO_LARGE)

    def on_message_complete(self) -> None:
        if not self._head_done:
            self._headers = {}  # 1xx: the answer itself is still to come
            return
        self._complete()
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()

    def _complete(self) -> None:
        headers, self._headers = self._headers, {}
        self._finish(HttpResponse(self._parser.get_status_code(), headers, bytes(self._body)))


async def _on_loopback(loop: asyncio.AbstractEventLoop, origin: _Origin) -> str:
    """The address to connect to: looked up here, so that nothing else is looked up when the connection is made.

    One address elsewhere is enough to refuse the name; raises _Elsewhere.
    """
    if not is_loopback(origin.host):
        raise _Elsewhere
    found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not all(map(is_loopback_address, addresses)):
        raise _Elsewhere
    return addresses[0]


class _Elsewhere(Exception):
    """The name leads off this machine."""


class Transport:
    """The connections to one provider, at most `connections` at a time.

    With `loopback_only` none of them leaves this machine, whatever a request asks for and wherever a name leads.
    """

    def __init__(
        self, timeouts: Timeouts, connections: int, tls: ssl.SSLContext | None = None, *, loopback_only: bool = False
    ) -> None:
        self._timeouts = timeouts
        self._limit = connections
        self._tls = tls
        self._loopback_only = loopback_only
        self._loop: asyncio.AbstractEventLoop | None = None
        self._origins: dict[str, _Origin] = {}
        self._idle: defaultdict[_Origin, deque[_Connection]] = defaultdict(deque)
        self._open: set[_Connection] = set()
        self._reserved = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls = self._tls or ssl.create_default_context()

    async def close(self) -> None:
        """Cuts off what is still under way; its outcome is MaybeSent."""
        self._loop = None
        for waiting in self._waiting:
            waiting.cancel()
        for connection in list(self._open):
            connection.close()
        self._open.clear()
        self._idle.clear()

    async def post(self, request: HttpRequest, may_start: Callable[[], bool] = lambda: True) -> Answer:
        """One POST, exactly once.  Never raises for what the network does.

        `may_start` is asked when the next step is to write: without it not a byte leaves.
        A cancellation is answered too, as what is true then; it stays visible in `asyncio.Task.cancelling`.
        """
        loop = self._loop
        if loop is None:
            return NotSent(Wire.CANCELLED)
        prepared = self._prepare(request)
        if prepared is None:
            return NotSent(Wire.BAD_REQUEST)
        origin, data = prepared
        deadline = loop.time() + self._timeouts.total
        try:
            connection = self._take_idle(origin) or await self._connect(origin)
        except asyncio.CancelledError:
            return NotSent(Wire.CANCELLED)
        if isinstance(connection, NotSent):
            return connection
        if not may_start():
            self._give_back(origin, connection, whole=True)
            return NotSent(Wire.CANCELLED)
        answer: Answer = MaybeSent(Wire.CANCELLED)
        try:
            answer = await connection.exchange(data, deadline)
        except asyncio.CancelledError:
            # Shutdown has waited long enough.  The outcome is still recorded; then the task ends.
            pass
        finally:
            self._give_back(origin, connection, whole=isinstance(answer, HttpResponse))
        return answer

    # --- the pool -------------------------------------------------------------------------------------------------

    def _take_idle(self, origin: _Origin) -> _Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
            self._drop(connection)
        return None

    async def _connect(self, origin: _Origin) -> _Connection | NotSent:
        """A new connection, or why there is none; waits for a free place no longer than for the connection."""
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await self._place()
                try:
                    return await self._dial(origin)
                except BaseException:
                    self._free_place()
                    raise
        except _Elsewhere:
            return NotSent(Wire.NOT_LOOPBACK)
        except TimeoutError:
            return NotSent(Wire.CONNECT_TIMEOUT)
        except socket.gaierror:
            return NotSent(Wire.DNS)
        except ssl.SSLError:  # certificate errors included
            return NotSent(Wire.TLS)
        except OSError:
            return NotSent(Wire.REFUSED)
        except (ValueError, UnicodeError):
            return NotSent(Wire.BAD_REQUEST)  # a host that is no name, a port that is none

    async def _dial(self, origin: _Origin) -> _Connection:
        loop = self._loop
        if loop is None:
            raise asyncio.CancelledError
        connection = _Connection(loop, self._timeouts)
        host = await _on_loopback(loop, origin) if self._loopback_only else origin.host
        await loop.create_connection(
            lambda: connection, host, origin.port, ssl=self._tls if origin.tls else None,
            server_hostname=origin.host if origin.tls else None,
        )  # fmt: skip
        self._open.add(connection)
        return connection

    async def _place(self) -> None:
        assert self._loop is not None
        while self._reserved >= self._limit:
            stale = next((idle.popleft() for idle in self._idle.values() if idle), None)
            if stale is not None:
                self._drop(stale)  # one that leads elsewhere
                continue
            waiting = self._loop.create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        self._reserved += 1

    def _free_place(self) -> None:
        self._reserved -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    def _give_back(self, origin: _Origin, connection: _Connection, *, whole: bool) -> None:
        if whole and self._loop is not None and connection.usable:
            self._idle[origin].append(connection)
            self._wake()
        else:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        connection.close()
        self._open.discard(connection)
        self._free_place()

    # --- the request as bytes -------------------------------------------------------------------------------------

    def _prepare(self, request: HttpRequest) -> tuple[_Origin, bytes] | None:
        """The bytes to write and where to; None for what cannot be put on the wire as it is."""
        url = request.url
        if request.method != "POST" or not url.isascii() or not url.isprintable() or " " in url:
            return None
        scheme, _, rest = url.partition("://")
        end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        start, target = f"{scheme}://{rest[:end]}", rest[end:].partition("#")[0]
        origin = self._origins.get(start) or self._origin(start)
        if origin is None:
            return None
        lines = [f"POST {target if target.startswith('/') else '/' + target} HTTP/1.1"]
        own_host = False
        for name, value in request.headers.items():
            if not isinstance(value, str) or not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
                return None
            lower = name.lower()
            if lower in _OURS:
                return None
            own_host = own_host or lower == "host"
            lines.append(f"{name}: {value}")
        if not own_host:
            lines.append(f"host: {origin.authority}")
        lines.append(f"content-length: {len(request.body)}\r\n\r\n")
        return origin, "\r\n".join(lines).encode("latin-1") + request.body

    def _origin(self, start: str) -> _Origin | None:
        try:
            parts = urlsplit(start)
            host, port = parts.hostname, parts.port
        except ValueError:
            return None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            return None
        tls = parts.scheme == "https"
        origin = _Origin(host, port or (443 if tls else 80), tls, parts.netloc)
        self._origins[start] = origin
        return origin
