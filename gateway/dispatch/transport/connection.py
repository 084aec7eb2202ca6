"""One connection to a provider: one request at a time, and what becomes of it."""

from __future__ import annotations

import asyncio
from typing import Final, cast

import httptools

from gateway.dispatch.transport.outcomes import Answer, MaybeSent, Timeouts, Wire
from providers.contract import HttpResponse

_BODY_LIMIT: Final = 256 * 1024
_HEAD_LIMIT: Final = 16 * 1024
# Shorter than a provider's own idle timeout: a connection that it is just closing makes a send ambiguous.
_KEEP_SECONDS: Final = 15.0
# A timer that fires so much too late says that the process slept, not the provider.
_SLEPT_SECONDS: Final = 0.1
# Long enough for the loop to read what lies in its sockets, timers being served first.
_AWAKE_SECONDS: Final = 0.02


class Connection(asyncio.Protocol):
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
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._head_done = False
        self._spoiled = False
        self._woken = False

    # --- one request ----------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether another request may be tried on it."""
        transport = self._transport
        return (
            transport is not None
            and not self._spoiled
            and not transport.is_closing()
            and self._loop.time() - self._heard_at < _KEEP_SECONDS
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
        self._spoiled = True
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
        self._heard_at = self._loop.time()

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
