"""The receipt sender: one signed Twilio status callback, `delivered`, for each message the provider accepted.

`python -m tests.bench.receipts SOCKET COUNTERS ACCOUNT`, the auth token in BENCH_AUTH_TOKEN.  A raw client with kept
connections.  A receipt leaves a moment after the hand-over, as a carrier's would, or when HOLD is lifted.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from pathlib import Path
from typing import Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import uvloop

from gateway.dev.simulator.twilio_account import sign
from tests.bench.counters import ANSWERED, HOLD, REFUSED, Counters
from tests.bench.wire import first_message

DELAY_SECONDS: Final = 0.2
_CONNECTIONS: Final = 256
_TICK_SECONDS: Final = 0.005

Target = tuple[str, int]


class Connection(asyncio.Protocol):
    """One request at a time; idle again when its answer is complete."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._buffer = bytearray()
        self._sent: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self, self._sent)

    def post(self, request: bytes) -> None:
        self._sent = request
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        message = first_message(self._buffer)
        if message is not None:
            status = self._buffer[9:10]
            del self._buffer[: message[1]]
            self._sent = None
            self._pool.answered(self, good=status == b"2")


class Pool:
    """The connections to one target, and what waits for one."""

    def __init__(self, target: Target, counters: Counters) -> None:
        self._target = target
        self._counters = counters
        self._waiting: deque[bytes] = deque()
        self._idle: list[Connection] = []
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()

    def post(self, request: bytes) -> None:
        if self._idle:
            self._idle.pop().post(request)
            return
        self._waiting.append(request)
        if self._open < _CONNECTIONS:
            self._open += 1
            task = asyncio.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(self), *self._target)
        except OSError:
            self._open -= 1  # the contestant is gone; what waits is retried with the next receipt
            return
        self._next(connection)

    def _next(self, connection: Connection) -> None:
        if self._waiting:
            connection.post(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def answered(self, connection: Connection, good: bool) -> None:
        which = ANSWERED if good else REFUSED
        self._counters[which] = self._counters[which] + 1
        self._next(connection)

    def lost(self, connection: Connection, sent: bytes | None) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if sent is not None:
            self.post(sent)  # at least once, as Twilio is


class Sender(asyncio.Protocol):
    """Reads what the provider accepted: lines of message id and request form."""

    def __init__(self, counters: Counters, account: str, token: str) -> None:
        self._counters = counters
        self._account = account
        self._token = token
        self._pools: dict[Target, Pool] = {}
        self._later: deque[tuple[float, Target, bytes]] = deque()
        self._rest = b""

    def __call__(self) -> Sender:
        return self

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        ripe = asyncio.get_running_loop().time() + DELAY_SECONDS
        for line in lines:
            sid, _, form = line.decode().partition(" ")
            self._later.append((ripe, *self._receipt(sid, dict(parse_qsl(form)))))

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            while self._later and self._later[0][0] <= loop.time() and not self._counters[HOLD]:
                _, target, request = self._later.popleft()
                if target not in self._pools:
                    self._pools[target] = Pool(target, self._counters)
                self._pools[target].post(request)

    def _receipt(self, sid: str, form: dict[str, str]) -> tuple[Target, bytes]:
        url = form["StatusCallback"].partition("#")[0]
        params = {
            "AccountSid": self._account,
            "ApiVersion": "2010-04-01",
            "From": form["From"],
            "MessageSid": sid,
            "MessageStatus": "delivered",
            "SmsSid": sid,
            "SmsStatus": "delivered",
            "To": form["To"],
        }
        body = urlencode(params)
        parts = urlsplit(url)
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"X-Twilio-Signature: {sign(url, params.items(), self._token)}\r\nUser-Agent: TwilioProxy/1.1\r\n"
            f"Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return (parts.hostname or "", parts.port or 80), (head + body).encode()


async def main(socket: str, counters: Counters, account: str) -> None:
    sender = Sender(counters, account, os.environ["BENCH_AUTH_TOKEN"])
    await asyncio.get_running_loop().create_unix_server(sender, socket)
    await sender.run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Counters(Path(sys.argv[2])), sys.argv[3]))
