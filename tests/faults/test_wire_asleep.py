"""The process sleeps past the time of an answer that has come: what lies in the socket is read all the same."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
import uvloop

from gateway.dispatch.transport import Answer, MaybeSent, Timeouts, Transport, Wire
from providers.contract import HttpRequest, HttpResponse

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
TIMES = Timeouts(connect=5.0, read=1.0, total=1.4)
SLEEPS = 1.6


class SlowProvider(threading.Thread):
    """Shares no loop with who asks: it answers while that one sleeps.  `bell` is rung when it has been asked."""

    def __init__(self, says: bytes) -> None:
        super().__init__()
        self._says = says
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.bell, self._rope = socket.socketpair()
        self.may_answer, self.answered, self.done = (threading.Event() for _ in range(3))

    def run(self) -> None:
        with self.bell, self._rope, self._listening, self._listening.accept()[0] as connection:
            read = b""
            while not read.endswith(b"body"):
                read += connection.recv(4096)
            self._rope.send(b"!")
            self.may_answer.wait(30)
            connection.sendall(self._says)
            self.answered.set()
            self.done.wait(30)


async def ask(provider: SlowProvider) -> Answer:
    def asleep() -> None:
        """The loop is at its sockets, and has looked at this one already: its timers are next."""
        loop.remove_reader(provider.bell)
        provider.may_answer.set()
        assert provider.answered.wait(30)
        time.sleep(SLEEPS)

    loop = asyncio.get_running_loop()
    loop.add_reader(provider.bell, asleep)
    wire = Transport(TIMES, 1)
    await wire.open()
    try:
        return await wire.post(
            HttpRequest(f"http://127.0.0.1:{provider.port}/", {"content-type": "text/plain"}, b"body")
        )
    finally:
        await wire.close()


@pytest.mark.parametrize(
    ("says", "expected"),
    [(ANSWER, HttpResponse(201, {"content-length": "2"}, b"{}")), (ANSWER[:-1], MaybeSent(Wire.TOTAL_TIMEOUT))],
    ids=["whole", "half"],
)
def test_an_answer_that_came_while_we_slept(says: bytes, expected: Answer) -> None:
    provider = SlowProvider(says)
    provider.start()
    try:
        assert uvloop.run(ask(provider)) == expected
    finally:
        provider.done.set()
        provider.join(10)
