"""The provider: answers every POST with 201 and a sid of its own, and tells the receipt sender what it accepted.

`python -m tests.bench.provider PORT SOCKET COUNTERS`.  A bare uvloop protocol, because a provider must be cheap; not a
fixed answer from nginx, because a message's id must be its own for a receipt to mean one message.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

from tests.bench.counters import ACCEPTED, Counters
from tests.bench.wire import first_message

_HEAD = b"HTTP/1.1 201 CREATED\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_BODY = b'{"sid":"SM%032x","status":"queued"}'


class Provider(asyncio.Protocol):
    """One connection."""

    def __init__(self, counters: Counters, receipts: asyncio.WriteTransport) -> None:
        self._counters = counters
        self._receipts = receipts
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (message := first_message(self._buffer)) is not None:
            body, length = message
            del self._buffer[:length]
            number = self._counters[ACCEPTED] = self._counters[ACCEPTED] + 1
            answer = _BODY % number
            self._transport.write(_HEAD % (len(answer), answer))
            if b"StatusCallback=" in body:
                self._receipts.write(b"SM%032x %s\n" % (number, body))


async def main(port: int, socket: str, counters: Counters) -> None:
    loop = asyncio.get_running_loop()
    receipts, _ = await loop.create_unix_connection(asyncio.Protocol, socket)
    server = await loop.create_server(lambda: Provider(counters, receipts), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], Counters(Path(sys.argv[3]))))
