"""The gate before the public listener: heads in time and in size, idle connections, one too many, who is hung up on."""

import asyncio
import socket
from dataclasses import replace

import pytest

from gateway.public import listener
from tests.unit.public.case import GOOD, LIMITS, Bench, opened


async def test_half_a_head_is_not_waited_for(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
    writer.write(b"POST /callbacks/vendor/x HTTP/1.1\r\nHost: x\r\n")
    assert await ended(reader, 2)
    writer.close()


async def test_a_head_that_drips_is_not_waited_for_either(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
    end = asyncio.create_task(ended(reader, 3))
    writer.write(b"POST / HTTP/1.1\r\n")
    while not end.done():
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0.05)
    assert await end
    writer.close()


async def test_a_connection_that_says_nothing_is_closed_and_one_in_use_is_kept(bench: Bench) -> None:
    silent, one = await asyncio.open_connection("127.0.0.1", bench.client.port)
    assert await ended(silent, 2)
    one.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
    for _ in range(3):
        writer.write(GOOD)
        assert b"200" in await asyncio.wait_for(reader.readuntil(b"/>"), 2)
        await asyncio.sleep(0.8)  # longer than for a head, shorter than idle
    assert await ended(reader, 4)
    writer.close()


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /callbacks/vendor/x HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"POST /callbacks/vendor/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"404"),
        (b"POST /events/push HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"401"),
    ],
)
async def test_who_is_refused_is_hung_up_on_and_nothing_behind_it_is_read(
    bench: Bench, ask: bytes, status: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
    writer.write(ask + GOOD)
    said = await asyncio.wait_for(reader.read(), 5)
    assert (said.split(b" ")[1], said.count(b"HTTP/1.1 ")) == (status, 1)
    assert bench.kept == []
    writer.close()


async def test_a_head_that_goes_on_and_on_is_not_kept() -> None:
    """No line of it is too long and there are not too many: aiohttp would take 128 of 8 KB."""
    async with opened(replace(LIMITS, read_seconds=600)) as bench:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
        head = b"POST / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 4000) for n in range(9))
        for start in range(0, len(head), 1000):
            writer.write(head[start : start + 1000])
            await asyncio.sleep(0)
        assert await asyncio.wait_for(gone(reader), 10) == b""
        writer.close()


async def gone(reader: asyncio.StreamReader) -> bytes:
    """What was said before the end, however it came."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.mark.parametrize("piece", [1, 7, 300])
async def test_a_body_is_no_head_however_it_comes(bench: Bench, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is bounded by itself; where the head ends is seen also where a piece ends in the middle of that."""
    monkeypatch.setattr(listener, "_LONGEST_HEAD", 200)
    body = b"x" * 900
    whole = GOOD.replace(b"Content-Length: 3", b"Content-Length: 900").replace(b"a=1", body)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
    writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(whole), piece):
        writer.write(whole[start : start + piece])
        await asyncio.sleep(0)
    assert b"200" in await asyncio.wait_for(reader.readuntil(b"/>"), 5)
    assert bench.kept[0][1] == body
    writer.write(GOOD)  # and the next head is one
    assert b"200" in await asyncio.wait_for(reader.readuntil(b"/>"), 5)
    writer.write(b"POST / HTTP/1.1\r\nX: " + b"y" * 300)
    assert await asyncio.wait_for(gone(reader), 5) == b""
    writer.close()


async def test_a_stop_does_not_wait_for_a_connection_that_asks_nothing(bench: Bench) -> None:
    assert (await bench.post())[0] == 200  # whoever called keeps the connection for the next time
    began = asyncio.get_running_loop().time()
    await bench.listener.stop(1.0)
    assert asyncio.get_running_loop().time() - began < 0.5


async def test_one_connection_too_many_is_closed_and_the_others_are_served(bench: Bench) -> None:
    many = [await asyncio.open_connection("127.0.0.1", bench.client.port) for _ in range(LIMITS.connections)]
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
    assert await ended(reader, 0.1)
    first_reader, first_writer = many[0]
    first_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(first_reader.readline(), 1)).split()[1] == b"404"
    for _, each in (*many, (reader, writer)):
        each.close()


async def ended(reader: asyncio.StreamReader, within: float) -> bool:
    """Whether the listener closes the connection in time, whatever it says before."""
    try:
        async with asyncio.timeout(within):
            while await reader.read(1000):
                pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True
