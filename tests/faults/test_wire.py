"""The transport against servers that misbehave: for every fault, did the provider perhaps get the request?

Every server runs for real on loopback and counts the complete requests it read.  "Not sent" must be the truth, and no
fault may make the transport ask twice.
"""

import asyncio
import gzip
import socket
import struct
from pathlib import Path

import pytest
import uvloop

from gateway.dispatch.transport import MaybeSent, NotSent, Timeouts, Wire
from providers.contract import HttpRequest, HttpResponse
from tests.faults.wire import BODY, OK, QUICK, Answer, Provider, never, provider, request, says, transport
from tests.stack.certificates import Authority, serving

# The hook that is to replace this fixture speaks for every test of a run, not for a module.
pytestmark = pytest.mark.filterwarnings('ignore:Overriding the "event_loop_policy" fixture')


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The service runs on uvloop, whose transports fail in ways of their own."""
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


async def ask(answer: Answer, timeouts: Timeouts = QUICK) -> tuple[HttpResponse | NotSent | MaybeSent, Provider]:
    async with provider(answer) as server, transport(timeouts) as wire:
        result = await wire.post(request(server.url()))
        await asyncio.sleep(0.05)  # a second request, if there were one, would have come by now
        assert len(server.requests) == 1
        return result, server


# --- nothing left -----------------------------------------------------------------------------------------------------


async def test_a_name_that_does_not_resolve_was_not_sent() -> None:
    async with transport(Timeouts(10, 1, 20)) as wire:
        assert await wire.post(request("http://provider.invalid/send")) == NotSent(Wire.DNS)


async def test_a_refused_connection_was_not_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take the port
        async with transport() as wire:
            assert await wire.post(request(f"http://127.0.0.1:{taken.getsockname()[1]}/")) == NotSent(Wire.REFUSED)


async def test_a_connect_that_nobody_answers_was_not_sent() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        address = silent.getsockname()
        waiting = []
        try:
            for _ in range(8):  # fills the backlog: the next SYN is dropped
                each = socket.socket()
                each.setblocking(False)
                each.connect_ex(address)
                waiting.append(each)
            async with transport() as wire:
                assert await wire.post(request(f"http://127.0.0.1:{address[1]}/")) == NotSent(Wire.CONNECT_TIMEOUT)
        finally:
            for each in waiting:
                each.close()


async def test_waiting_for_a_pool_slot_was_not_sent() -> None:
    async with provider(never) as server, transport(Timeouts(0.3, 1.0, 3.0), connections=1) as wire:
        first = asyncio.create_task(wire.post(request(server.url())))
        await asyncio.sleep(0.05)
        assert await wire.post(request(server.url())) == NotSent(Wire.CONNECT_TIMEOUT)
        assert await first == MaybeSent(Wire.READ_TIMEOUT)
        assert len(server.requests) == 1


async def test_a_place_that_came_too_late_is_the_next_ones() -> None:
    """Who is told of it, and is gone before he can take it, tells the next."""
    async with transport(Timeouts(20.0, 1.0, 30.0), connections=1) as wire:
        await wire._place()
        first, second = (asyncio.create_task(wire._place()) for _ in range(2))
        await asyncio.sleep(0)
        wire._free_place()
        first.cancel()
        async with asyncio.timeout(10):
            await second
        assert first.cancelled()
        assert wire._reserved == 1


async def test_a_tls_handshake_that_fails_was_not_sent() -> None:
    async with provider(says(OK)) as server, transport() as wire:
        server_in_clear = server.url("https")
        result = await wire.post(request(server_in_clear))
        # A server that speaks no TLS answers nothing, or something that is no TLS; either way nothing of ours left.
        assert result in (NotSent(Wire.TLS), NotSent(Wire.CONNECT_TIMEOUT), NotSent(Wire.REFUSED))
        assert server.requests == []


async def test_an_answer_that_is_no_tls_was_not_sent() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, transport() as wire:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await wire.post(request(url)) == NotSent(Wire.TLS)


async def test_a_certificate_nobody_vouches_for_was_not_sent(tmp_path: Path) -> None:
    tls = serving(Authority(tmp_path).pair("provider"))
    async with provider(says(OK), tls=tls) as server, transport() as wire:
        assert await wire.post(request(server.url("https"))) == NotSent(Wire.TLS)
        assert server.requests == []


async def test_a_tls_handshake_that_hangs_was_not_sent() -> None:
    """A listening socket takes the connection and never says a word."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(4)
        async with transport() as wire:
            url = f"https://127.0.0.1:{mute.getsockname()[1]}/"
            assert await wire.post(request(url)) == NotSent(Wire.CONNECT_TIMEOUT)


@pytest.mark.parametrize(
    "bad",
    [
        HttpRequest("http://127.0.0.1:1/", {}, b"", method="GET"),
        HttpRequest("http://127.0.0.1:1/", {}, b"", method="PUT"),
        HttpRequest("ftp://127.0.0.1:1/", {}),
        HttpRequest("127.0.0.1/send", {}),
        HttpRequest("http:///send", {}),
        HttpRequest("http://[::1/send", {}),
        HttpRequest("http://127.0.0.1:1/ HTTP/1.1\r\nX: y", {}),
        HttpRequest("http://127.0.0.1:1/a b", {}),
        HttpRequest("http://127.0.0.1:1/\u4f60", {}),
        HttpRequest("http://127.0.0.1:1/", {"x": "a\r\nauthorization: b"}),
        HttpRequest("http://127.0.0.1:1/", {"x\n": "a"}),
        HttpRequest("http://127.0.0.1:1/", {"x": "a\0"}),
    ],
    ids=lambda bad: f"{bad.method} {len(bad.url)} {len(bad.headers)}",
)
async def test_what_cannot_be_put_on_the_wire_was_not_sent(bad: HttpRequest) -> None:
    async with transport() as wire:
        assert await wire.post(bad) == NotSent(Wire.BAD_REQUEST)


async def test_whether_it_may_start_is_asked_once_it_is_connected_and_a_no_is_kept_to() -> None:
    """The limits are those of the moment of the first byte, however long a connection was waited for."""
    async with provider(says(OK), keep_alive=True) as server, transport() as wire:
        connected: list[int] = []

        def no() -> bool:
            connected.append(len(wire._open))
            return False

        for _ in range(2):
            assert await wire.post(request(server.url()), no) == NotSent(Wire.CANCELLED)
        assert connected == [1, 1]
        await asyncio.sleep(0.05)
        assert server.requests == []
        for _ in range(2):
            assert isinstance(await wire.post(request(server.url()), lambda: True), HttpResponse)
            assert await wire.post(request(server.url()), no) == NotSent(Wire.CANCELLED)
        assert len(server.requests) == 2
        assert connected == [1] * 4


async def test_a_transport_that_is_closed_sends_nothing() -> None:
    async with provider(says(OK)) as server, transport() as wire:
        await wire.close()
        assert await wire.post(request(server.url())) == NotSent(Wire.CANCELLED)
        assert server.connections == 0


# --- it may have left -------------------------------------------------------------------------------------------------


async def test_no_answer_in_time_may_have_been_sent() -> None:
    result, _ = await ask(never)
    assert result == MaybeSent(Wire.READ_TIMEOUT)


async def test_a_slow_drip_past_the_total_may_have_been_sent() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.1)

    result, _ = await ask(drip, Timeouts(connect=0.2, read=0.3, total=0.6))
    assert result == MaybeSent(Wire.TOTAL_TIMEOUT)


async def test_a_close_instead_of_an_answer_may_have_been_sent() -> None:
    result, _ = await ask(says(b""))
    assert result == MaybeSent(Wire.DISCONNECTED)


async def test_a_reset_instead_of_an_answer_may_have_been_sent() -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    result, _ = await ask(reset)
    assert result == MaybeSent(Wire.DISCONNECTED)


@pytest.mark.parametrize(
    "garbled",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
    ],
    ids=["truncated", "chunks-cut-off", "chunk-size", "other-protocol", "binary", "status"],
)
async def test_an_answer_cut_off_or_garbled_may_have_been_sent(garbled: bytes) -> None:
    result, _ = await ask(says(garbled))
    assert result == MaybeSent(Wire.GARBLED)


async def test_a_head_that_never_ends_is_not_read_for_ever() -> None:
    async def drone(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X: " + b"a" * 1000 + b"\r\n")
            await writer.drain()

    result, _ = await ask(drone, Timeouts(1.0, 2.0, 5.0))
    assert result == MaybeSent(Wire.TOO_LARGE)


async def test_an_answer_cut_off_in_its_head_may_have_been_sent() -> None:
    result, _ = await ask(says(b"HTTP/1.1 200 OK\r\nContent-Le"))
    assert isinstance(result, MaybeSent)


async def test_an_answer_that_is_too_large_may_have_been_sent() -> None:
    size = 300 * 1024
    result, _ = await ask(says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size))
    assert result == MaybeSent(Wire.TOO_LARGE)


async def test_what_comes_behind_an_answer_in_the_same_piece_answers_nothing() -> None:
    """Half of another answer: the first stays as it was, and its connection is not used again."""
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-First: yes\r\n\r\nONE"
    more = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: yes\r\n\r\nEV"
    async with provider(says(first + more), keep_alive=True) as server, transport() as wire:
        for _ in range(2):
            answer = await wire.post(request(server.url()))
            assert isinstance(answer, HttpResponse)
            assert (answer.body, answer.headers) == (b"ONE", {"content-length": "3", "x-first": "yes"})
        assert server.connections == 2


async def test_the_largest_answer_that_is_read_is_read_whole() -> None:
    size = 256 * 1024
    result, _ = await ask(says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size))
    assert isinstance(result, HttpResponse)
    assert len(result.body) == size


async def test_an_answer_without_an_end_is_not_read_for_ever() -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    result, _ = await ask(flood)
    assert result == MaybeSent(Wire.TOO_LARGE)


async def test_a_cancelled_send_is_answered_as_maybe_sent() -> None:
    """The one who cancels still gets an outcome to record; the cancellation is not lost on the task."""
    async with provider(never) as server, transport(Timeouts(1, 5, 10)) as wire:
        task = asyncio.create_task(wire.post(request(server.url())))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        assert await task == MaybeSent(Wire.CANCELLED)
        assert task.cancelling() == 1
        assert len(server.requests) == 1


async def test_a_cancelled_body_is_answered_as_maybe_sent() -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
        await asyncio.sleep(60)

    async with provider(half) as server, transport(Timeouts(1, 5, 10)) as wire:
        task = asyncio.create_task(wire.post(request(server.url())))
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        assert await task == MaybeSent(Wire.CANCELLED)


# --- an answer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 307, 308, 400, 401, 404, 429, 500, 502, 503, 504])
async def test_every_whole_answer_is_handed_on_and_no_redirect_is_followed(status: int) -> None:
    head = b"HTTP/1.1 %d Any\r\nLocation: /elsewhere\r\nRetry-After: 7\r\n" % status
    result, server = await ask(says(head + (b"\r\n" if status == 204 else b"Content-Length: 2\r\n\r\nok")))
    assert isinstance(result, HttpResponse)
    assert result.status == status
    assert result.headers["retry-after"] == "7"
    assert result.body == (b"" if status == 204 else b"ok")
    assert server.requests[0].startswith(b"POST /send HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.0 201 Created\r\n\r\nok",  # ends with the connection
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 4096])
async def test_an_answer_is_read_however_it_is_delimited_and_cut(raw: bytes, piece: int) -> None:
    async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(raw), piece):
            writer.write(raw[start : start + piece])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    result, _ = await ask(dribble, Timeouts(1.0, 2.0, 5.0))
    assert isinstance(result, HttpResponse)
    assert (result.status, result.body) == (201, b"ok")


async def test_an_interim_answer_alone_is_no_answer() -> None:
    result, _ = await ask(says(b"HTTP/1.1 100 Continue\r\n\r\n"))
    assert isinstance(result, MaybeSent)


async def test_the_request_leaves_exactly_as_it_was_built() -> None:
    """A signed query must not be normalised, and nothing is added that the adapter did not ask for."""
    async with provider(says(OK)) as server, transport() as wire:
        query = "b=%2f%2F&a=~%7E&c=1+2%20%2B"
        await wire.post(HttpRequest(f"{server.url()}?{query}", {"content-type": "text/plain", "x-a": "b"}, BODY))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == f"POST /send?{query} HTTP/1.1".encode()
        names = {line.partition(b":")[0].lower() for line in lines[1:]}
        assert names == {b"host", b"content-length", b"content-type", b"x-a"}
        assert body == BODY


async def test_a_compressed_answer_nobody_asked_for_stays_bounded_and_as_it_came() -> None:
    """Sixty megabytes in sixty kilobytes: it is not unpacked, so the adapter cannot read it and says ambiguous."""
    packed = gzip.compress(b"\0" * 60_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    result, _ = await ask(says(head + packed))
    assert isinstance(result, HttpResponse)
    assert result.body == packed


async def test_no_cookie_is_kept() -> None:
    answer = says(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    async with provider(answer, keep_alive=True) as server, transport() as wire:
        for _ in range(2):
            await wire.post(request(server.url()))
        assert b"cookie" not in server.requests[1].lower()


async def test_connections_are_used_again() -> None:
    async with provider(says(OK), keep_alive=True) as server, transport() as wire:
        for _ in range(5):
            assert isinstance(await wire.post(request(server.url())), HttpResponse)
        assert server.connections == 1
        assert len(server.requests) == 5


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_a_kept_connection_that_the_provider_closes_never_makes_a_duplicate(pause: float) -> None:
    """The provider closes after each answer.  Whether or not the close is seen in time, nothing is sent twice."""

    async with provider(says(OK)) as server, transport() as wire:
        results = []
        for _ in range(20):
            results.append(await wire.post(request(server.url())))
            await asyncio.sleep(pause)
        answered = sum(isinstance(each, HttpResponse) for each in results)
        doubtful = sum(isinstance(each, MaybeSent) for each in results)
        assert answered + doubtful == 20
        assert answered <= len(server.requests) <= 20
        if pause:
            assert answered == 20  # seen in time: a fresh connection, no doubt


async def test_a_kept_connection_dropped_on_the_second_request_is_maybe_sent_once() -> None:
    """The case in which aiohttp sends idempotent methods again by itself."""
    asked = 0

    async def once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            writer.write(OK)
        else:
            writer.close()

    async with provider(once, keep_alive=True) as server, transport() as wire:
        assert isinstance(await wire.post(request(server.url())), HttpResponse)
        assert await wire.post(request(server.url())) == MaybeSent(Wire.DISCONNECTED)
        await asyncio.sleep(0.05)
        assert len(server.requests) == 2
        assert server.connections == 1


async def test_what_went_wrong_shows_no_address_or_text() -> None:
    async with transport() as wire:
        result = await wire.post(request("http://127.0.0.1:1/?To=%2B14155550123"))
    assert "4155550123" not in repr(result)
    assert "4155550123" not in repr(request("http://127.0.0.1:1/?To=%2B14155550123"))
