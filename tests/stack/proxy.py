"""A TCP link that can be broken on order, in the ways that a kill of either end cannot show.

What it cannot do is what no program without the kernel's help can: the two kernels acknowledge to each other whatever
was sent, so a packet that was never acknowledged is not among its faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

# How asyncpg ends a transaction: a simple query (PostgreSQL's protocol, 'Q').
_COMMIT: Final = b"COMMIT;\x00"
_PIECE: Final = 64 * 1024
# Sockets that wait to be accepted and never are: the kernel takes no more then, and who connects waits.
_FILL: Final = 8


class Link(StrEnum):
    PASSES = "passes"
    HANGS = "hangs"  # everything is taken and nothing goes on, in both directions; connections stay
    DEAF = "deaf"  # what is asked goes through, what is answered does not come back
    RESETS = "resets"  # every connection, as soon as it is made
    # The other side is gone and nobody says so: no FIN, no reset, and who connects waits.  What stood then stays dead
    # when the link is whole again, and neither end hears that the other has given it up.
    VANISHES = "vanishes"


class Proxy:
    """Stands before a server on loopback.  `lose_commits` cuts the next ones off between the server and its answer."""

    def __init__(self, host: str, port: int, listen: int = 0) -> None:
        """`listen` is its own port; any free one without."""
        self._target = (host, port)
        self._listen = listen
        self._socket: socket.socket | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._crowd: list[socket.socket] = []
        self._age = 0  # of connections; those made before the other side vanished are older
        self._passing = asyncio.Event()
        self._answering = asyncio.Event()
        self._link = Link.PASSES
        self._writers: set[asyncio.StreamWriter] = set()
        self._losing = 0
        self._latency = 0.0
        self._rate: float | None = None
        self.lost = 0  # commits that went through and whose answer did not
        self.connections = 0
        self.set(Link.PASSES)

    @property
    def port(self) -> int:
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self._listen))
        self._socket.listen(128)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._knock)

    async def stop(self) -> None:
        self.set(Link.PASSES)
        self.reset()
        self._shut()
        for each in self._serving:
            each.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _shut(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def set(self, link: Link) -> None:
        """From now on; what was held back meanwhile goes on."""
        if link is Link.VANISHES and self._link is not link:
            self._age += 1
            self._crowd_out()
        elif self._link is Link.VANISHES and link is not self._link:
            self._let_in()
        self._link = link
        (self._passing.clear if link in (Link.HANGS, Link.VANISHES) else self._passing.set)()
        (self._answering.clear if link in (Link.HANGS, Link.DEAF, Link.VANISHES) else self._answering.set)()
        if link is Link.RESETS:
            self.reset()

    def slow(self, latency: float = 0.0, bytes_per_second: float | None = None) -> None:
        """From now on every piece takes so long, each way, and no more than so much passes on a connection."""
        self._latency = latency
        self._rate = bytes_per_second

    def lose_commits(self, n: int) -> None:
        self._losing = n

    def reset(self) -> None:
        """Cuts every connection off at once."""
        for writer in list(self._writers):
            _cut(writer)

    def _crowd_out(self) -> None:
        """Nobody is let in, and the doorstep is full."""
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.listen(0)
        for _ in range(_FILL):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(self._socket.getsockname())
            self._crowd.append(one)

    def _let_in(self) -> None:
        assert self._socket is not None
        for each in self._crowd:
            each.close()
        self._crowd.clear()
        self._socket.listen(128)
        asyncio.get_running_loop().add_reader(self._socket, self._knock)

    def _knock(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            near, _ = self._socket.accept()
            near.setblocking(False)
            serving = asyncio.create_task(self._serve(near))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)
            # One that is cancelled before it begins has no end of its own.
            serving.add_done_callback(lambda done: near.close() if done.cancelled() else None)

    async def _serve(self, near: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=near, limit=_PIECE)
        self.connections += 1
        age = self._age
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        ways: list[asyncio.Future[None]] = []
        try:
            if self._link is Link.RESETS:
                return
            far_reader, far = await asyncio.open_connection(*self._target, limit=_PIECE)
            self._writers.add(far)
            ways = [
                asyncio.ensure_future(self._carry(reader, far, self._passing, age, writer)),
                asyncio.ensure_future(self._carry(far_reader, writer, self._answering, age, None)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if age != self._age:
                await asyncio.Event().wait()  # neither end hears of the other's
        except OSError:
            pass
        finally:
            for way in ways:
                way.cancel()
            for each in (writer, far):
                if each is not None:
                    self._writers.discard(each)
                    _cut(each)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        open_: asyncio.Event,
        age: int,
        asker: asyncio.StreamWriter | None,
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(_PIECE):
                if self._latency or self._rate:
                    await asyncio.sleep(self._latency + (len(piece) / self._rate if self._rate else 0.0))
                await open_.wait()
                if age != self._age:
                    await asyncio.Event().wait()
                if asker is not None and self._losing and piece.endswith(_COMMIT):
                    self._losing -= 1
                    self.lost += 1
                    _cut(asker)  # first, so that no answer is there to be read
                    target.write(piece)
                    await target.drain()
                    await asyncio.sleep(0.05)  # the server has its own socket to read it from
                    return
                target.write(piece)
                await target.drain()


def _cut(writer: asyncio.StreamWriter) -> None:
    """A reset, not a goodbye."""
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.is_closing():
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxy(host: str, port: int, listen: int = 0) -> AsyncIterator[Proxy]:
    made = Proxy(host, port, listen)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
