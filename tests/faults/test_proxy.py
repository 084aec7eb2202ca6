"""The broken link itself: each of its faults is what it says it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.stack.proxy import Link, Proxy, proxy

# Long enough to tell what waits from what is slow, on a busy machine too.
MOMENT = 0.3


@pytest.fixture
async def link() -> AsyncIterator[Proxy]:
    """Before a server that says everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as made:
        yield made
    server.close()


Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(link: Proxy) -> Pair:
    pair = await asyncio.open_connection("127.0.0.1", link.port)
    assert await said(pair) == b"hello"
    return pair


async def said(pair: Pair, what: bytes = b"hello") -> bytes:
    pair[1].write(what)
    return await asyncio.wait_for(pair[0].readexactly(len(what)), 10)


async def waits(pair: Pair) -> bool:
    try:
        await asyncio.wait_for(pair[0].read(1), MOMENT)
    except TimeoutError:
        return True
    return False


async def test_what_hangs_goes_on(link: Proxy) -> None:
    for how in (Link.HANGS, Link.DEAF):
        pair = await connected(link)
        link.set(how)
        pair[1].write(b"x")
        assert await waits(pair)
        link.set(Link.PASSES)
        assert await asyncio.wait_for(pair[0].read(1), 10) == b"x"
        pair[1].close()


async def test_a_reset_is_no_goodbye(link: Proxy) -> None:
    pair = await connected(link)
    link.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(pair[0].read(1), 10)
    (await connected(link))[1].close()
    pair[1].close()


async def test_who_has_vanished_says_nothing_and_lets_nobody_in(link: Proxy) -> None:
    pair = await connected(link)
    link.set(Link.VANISHES)
    pair[1].write(b"x")
    assert await waits(pair)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.open_connection("127.0.0.1", link.port), MOMENT)
    link.set(Link.PASSES)
    (await connected(link))[1].close()
    pair[1].write(b"y")
    assert await waits(pair), "a connection of before the other side vanished is dead for good"
    pair[1].close()


async def test_slow_is_slow(link: Proxy) -> None:
    pair = await connected(link)
    link.slow(latency=0.1)
    began = time.monotonic()
    await said(pair)
    assert time.monotonic() - began >= 0.2
    link.slow(bytes_per_second=100_000)
    began = time.monotonic()
    await said(pair, b"." * 30_000)
    assert time.monotonic() - began >= 0.6
    pair[1].close()
