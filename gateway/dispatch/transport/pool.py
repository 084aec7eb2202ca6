"""The connections to one provider: each request on one of them, exactly once."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import Callable

from gateway.dispatch.transport.connection import Connection
from gateway.dispatch.transport.dial import Way
from gateway.dispatch.transport.outcomes import Answer, MaybeSent, NotSent, Timeouts, Wire
from gateway.dispatch.transport.request import Origin, Writer
from gateway.dispatch.transport.tunnel import Proxy
from providers.contract import HttpRequest, HttpResponse


class Transport:
    """The connections to one provider, at most `connections` at a time.

    With `loopback_only` none of them leaves this machine, whatever a request asks for and wherever a name leads.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        connections: int,
        tls: ssl.SSLContext | None = None,
        *,
        proxy: Proxy | None = None,
        loopback_only: bool = False,
    ) -> None:
        """Without `tls` the system's certificate authorities count."""
        self._timeouts = timeouts
        self._limit = connections
        self._way: Way | None = None
        self._tls = tls
        self._proxy = proxy
        self._loopback_only = loopback_only
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests = Writer()
        self._idle: defaultdict[Origin, deque[Connection]] = defaultdict(deque)
        self._open: set[Connection] = set()
        self._outdated: set[Connection] = set()  # of these, the ones made before the last renewal
        self._reserved = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def open(self) -> None:
        self.renew(self._tls, self._proxy)
        self._loop = asyncio.get_running_loop()

    def renew(self, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        """Whatever is sent from now on goes by a connection made this way; what is under way ends as it is."""
        self._way = Way(tls or ssl.create_default_context(), proxy, self._loopback_only)
        for idle in self._idle.values():
            while idle:
                self._drop(idle.pop())
        self._outdated = set(self._open)

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
        prepared = self._requests.prepare(request)
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
        if not connection.usable:  # it went, or somebody spoke unasked, while nobody looked
            self._drop(connection)
            return NotSent(Wire.DISCONNECTED)
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

    def _take_idle(self, origin: Origin) -> Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
            self._drop(connection)
        return None

    async def _connect(self, origin: Origin) -> Connection | NotSent:
        """A new connection, or why there is none; waits for a free place no longer than for the connection."""
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await self._place()
                return await self._dial(origin)
        except TimeoutError:
            return NotSent(Wire.CONNECT_TIMEOUT)

    async def _dial(self, origin: Origin) -> Connection | NotSent:
        """Has a place, and gives it back where there is no connection."""
        made: Connection | NotSent | None = None
        try:
            if self._loop is None or self._way is None:
                raise asyncio.CancelledError
            made = await (way := self._way).dial(self._loop, origin, self._timeouts)
            if way is not self._way and isinstance(made, Connection):
                self._outdated.add(made)
            return made
        finally:
            if isinstance(made, Connection):
                self._open.add(made)
            else:
                self._free_place()

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
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._wake()  # a place that came too late for us is the next one's
                raise
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

    def _give_back(self, origin: Origin, connection: Connection, *, whole: bool) -> None:
        if whole and self._loop is not None and connection.usable and connection not in self._outdated:
            self._idle[origin].append(connection)
            self._wake()
        else:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)
        self._outdated.discard(connection)
        self._free_place()
