"""`Expect: 100-continue`: who asks first is told to go on, then answered as everybody is; nobody is told in vain."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from gateway.observability.metrics import CallbackResult
from gateway.public.http import CallbackRoute, PublicApi
from gateway.public.listener import Listener, PublicLimits
from providers.contract import Adapter, Callback, CallbackOutcome, HttpResponse, Prompt, ProviderEvent, Receipt
from schemas.vocabulary import AttemptState, Channel

NOW: Final = dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC)
TOKEN: Final = "a-token-of-the-path"
BODY: Final = b"MessageStatus=delivered"
LIMITS: Final = PublicLimits(max_body_bytes=1000, read_seconds=0.5)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
SOON: Final = 5.0


class Vendor(Adapter):
    name, channel = "vendor", Channel.SMS

    def verify_callback(self, callback: Callback, settings: Any, now: dt.datetime) -> str | None:
        return None

    def parse_callback(self, callback: Callback) -> list[ProviderEvent]:
        return [Receipt(AttemptState.DELIVERED, "ok")]

    def reply(self, outcome: CallbackOutcome, settings: Any, prompt: Prompt | None = None) -> HttpResponse:
        return HttpResponse(200, {"content-type": "text/xml"}, b"<Response/>")


class Bench:
    """The listener, and what it has kept."""

    def __init__(self) -> None:
        self.port = 0
        self.kept: list[bytes] = []
        self.counted: list[CallbackResult] = []

    async def keep(self, provider: str, raw: bytes, replay_key: str | None, events: Sequence[ProviderEvent]) -> bool:
        self.kept.append(raw)
        return True

    async def provider_of(self, attempt: int) -> str | None:
        return None

    async def answer_key(self, provider: str, attempt: int, step: str | None, digits: str) -> None:
        return None

    def callback(self, provider: str, outcome: CallbackResult) -> None:
        self.counted.append(outcome)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    it = Bench()
    routes = {"vendor": CallbackRoute(Vendor(), None, (TOKEN,))}
    api = PublicApi(
        routes, it.provider_of, it.answer_key, [], "https://reminders.example", LIMITS, it.keep, lambda: NOW, it
    )
    listener = Listener(api.handle, LIMITS)
    it.port = await listener.start("127.0.0.1", 0)
    try:
        yield it
    finally:
        await listener.stop(1)


class Caller:
    """Whoever calls, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def head(self, *headers: str, token: str = TOKEN, version: str = "1.1", length: int = len(BODY)) -> None:
        lines = [f"POST /callbacks/vendor/{token} HTTP/{version}", "Host: x", f"Content-Length: {length}", *headers]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())

    def body(self, body: bytes = BODY) -> None:
        self._writer.write(body)

    async def told(self) -> bytes:
        """The next head that comes back."""
        return await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), SOON)

    async def answer(self) -> tuple[int, bytes]:
        head = await self.told()
        lines = head.decode().lower().split("\r\n")
        [length] = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")] or [0]
        return int(head.split(b" ")[1]), await asyncio.wait_for(self._reader.readexactly(length), SOON)


@asynccontextmanager
async def calling(bench: Bench) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("expectation", ["100-continue", "100-Continue"])
async def test_who_asks_first_is_told_to_go_on_and_then_answered(bench: Bench, expectation: str) -> None:
    """Twice on one connection: nothing of the first is left in the way of the second."""
    async with calling(bench) as caller:
        for n in (1, 2):
            caller.head(f"Expect: {expectation}")
            assert await caller.told() == CONTINUE
            assert bench.kept == [BODY] * (n - 1)
            caller.body()
            assert await caller.answer() == (200, b"<Response/>")
            assert bench.kept == [BODY] * n
    assert bench.counted == [CallbackResult.STORED] * 2


async def test_who_does_not_ask_is_not_told(bench: Bench) -> None:
    async with calling(bench) as caller:
        caller.head()
        caller.body()
        assert await caller.answer() == (200, b"<Response/>")


async def test_an_old_client_is_not_told(bench: Bench) -> None:
    """HTTP/1.0 knows no interim answers (RFC 9110 §10.1.1)."""
    async with calling(bench) as caller:
        caller.head("Expect: 100-continue", version="1.0")
        caller.body()
        assert await caller.answer() == (200, b"<Response/>")
    assert bench.kept == [BODY]


@pytest.mark.parametrize(
    ("token", "header", "status"), [("another", "X: y", 404), (TOKEN, "Content-Encoding: gzip", 415)]
)
async def test_who_is_refused_by_the_head_alone_is_refused_at_once(
    bench: Bench, token: str, header: str, status: int
) -> None:
    async with calling(bench) as caller:
        caller.head("Expect: 100-continue", header, token=token)
        assert (await caller.told()).split(b" ")[1] == b"%d" % status
    assert bench.kept == []


async def test_who_is_told_and_sends_nothing_is_not_waited_for(bench: Bench) -> None:
    async with calling(bench) as caller:
        caller.head("Expect: 100-continue")
        assert await caller.told() == CONTINUE
        assert (await caller.answer())[0] == 408
    assert bench.counted == [CallbackResult.MALFORMED]


async def test_who_sends_too_much_after_it_is_refused_as_ever(bench: Bench) -> None:
    async with calling(bench) as caller:
        caller.head("Expect: 100-continue", length=LIMITS.max_body_bytes + 1)
        told = await caller.told()
        if told == CONTINUE:  # it may also be refused by what it announces
            caller.body(b"x" * (LIMITS.max_body_bytes + 1))
            told = await caller.told()
        assert told.split(b" ")[1] == b"413"
    assert bench.kept == []
