"""An HTTP proxy of our own that misbehaves on order, and knows names that nobody else does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.stack.serving import serving

JOINED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Misbehaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ConnectProxy:
    """`names` are host:port -> the port here; what is not among them is answered 502.

    `heads` are the CONNECTs as they came; `carried` is every byte that went on to a provider.
    """

    names: Mapping[str, int] = field(default_factory=dict)
    misbehave: Misbehaviour | None = None
    heads: list[bytes] = field(default_factory=list)
    carried: bytearray = field(default_factory=bytearray)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            target = head.split(b" ", 2)[1].decode()
            if self.misbehave is not None:
                await self.misbehave(reader, writer)
            elif target not in self.names:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nnone")
                await writer.drain()
            else:
                await self.join(reader, writer, self.names[target])
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, answer: bytes = JOINED
    ) -> None:
        """Says `answer`, and carries until one of the two goes."""
        far_reader, far = await asyncio.open_connection("127.0.0.1", port)
        writer.write(answer)
        both = (self._carry(reader, far, True), self._carry(far_reader, writer, False))
        ways = [asyncio.ensure_future(each) for each in both]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far.close()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, there: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65536):
                if there:
                    self.carried += piece
                target.write(piece)
                await target.drain()


@asynccontextmanager
async def connect_proxy(proxy: ConnectProxy) -> AsyncIterator[ConnectProxy]:
    async with serving(proxy.serve) as proxy.port:
        yield proxy
