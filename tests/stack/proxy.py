"""A TCP link that can be broken on order, in the ways that a kill of either end cannot show."""

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


class Link(StrEnum):
    PASSES = "passes"
    HANGS = "hangs"  # everything is taken and nothing goes on, in both directions; connections stay
    DEAF = "deaf"  # what is asked goes through, what is answered does not come back
    RESETS = "resets"  # every connection, as soon as it is made


class Proxy:
    """Stands before a server on loopback.  `lose_commits` cuts the next ones off between the server and its answer."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._answering = asyncio.Event()
        self._link = Link.PASSES
        self._writers: set[asyncio.StreamWriter] = set()
        self._losing = 0
        self.lost = 0  # commits that went through and whose answer did not
        self.connections = 0
        self.set(Link.PASSES)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_PIECE)

    async def stop(self) -> None:
        self.set(Link.PASSES)
        if self._server is not None:
            self._server.close()
        self.reset()

    def set(self, link: Link) -> None:
        """From now on; what was held back meanwhile goes on."""
        self._link = link
        (self._passing.clear if link is Link.HANGS else self._passing.set)()
        (self._answering.clear if link in (Link.HANGS, Link.DEAF) else self._answering.set)()
        if link is Link.RESETS:
            self.reset()

    def lose_commits(self, n: int) -> None:
        self._losing = n

    def reset(self) -> None:
        """Cuts every connection off at once."""
        for writer in list(self._writers):
            _cut(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            if self._link is Link.RESETS:
                return
            far_reader, far = await asyncio.open_connection(*self._target)
            self._writers.add(far)
            ways = [
                asyncio.ensure_future(self._carry(reader, far, self._passing, writer)),
                asyncio.ensure_future(self._carry(far_reader, writer, self._answering, None)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass
        finally:
            for each in (writer, far):
                if each is not None:
                    self._writers.discard(each)
                    _cut(each)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        open_: asyncio.Event,
        asker: asyncio.StreamWriter | None,
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(_PIECE):
                await open_.wait()
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
async def proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    made = Proxy(host, port)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
