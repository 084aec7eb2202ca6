"""The public listener with everything around it in memory, and a vendor that signs with a header."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession
from aiohttp.client import _RequestContextManager as Asked
from yarl import URL

from gateway.content.dialogue import Said
from gateway.ids import to_reference
from gateway.observability.metrics import CallbackResult
from gateway.public.http import CallbackRoute, PublicApi
from gateway.public.listener import Listener, PublicLimits
from providers.contract import (
    Adapter,
    Callback,
    CallbackOutcome,
    HttpResponse,
    Invalid,
    KeyPress,
    Prompt,
    ProviderEvent,
    Receipt,
    Unauthenticated,
)
from schemas.vocabulary import AttemptState, Channel

NOW = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
TOKEN, OLD, APP = "canary-token-current", "canary-token-previous", "canary-app-token"
PUBLIC = "https://reminders.example/hooks"
ATTEMPT = 0x0123_4567_89AB_CD42
REFERENCE = to_reference(ATTEMPT)
GOOD = (
    f"POST /callbacks/vendor/{TOKEN} HTTP/1.1\r\nHost: x\r\nX-Signature: good\r\nContent-Length: 3\r\n\r\na=1".encode()
)
LIMITS = PublicLimits(max_body_bytes=1000, read_seconds=0.2, idle_seconds=1.5, connections=20)


class Vendor(Adapter):
    """Signs with a header, answers in words of its own."""

    name, channel, signs_callbacks = "vendor", Channel.SMS, True

    def __init__(self) -> None:
        self.seen: list[Callback] = []
        self.keys: list[KeyPress] = []
        self.prompts: list[Prompt | None] = []

    def verify_callback(self, callback: Callback, settings: Any, now: dt.datetime) -> str | None:
        self.seen.append(callback)
        if callback.headers.get("x-signature") != "good":
            raise Unauthenticated("bad_signature")
        return "replay-1"

    def parse_callback(self, callback: Callback) -> list[ProviderEvent]:
        assert callback.headers["x-signature"] == "good", "parsed before it was verified"
        return [Receipt(AttemptState.DELIVERED, "ok", attempt=callback.attempt), Invalid("odd"), *self.keys]

    def reply(self, outcome: CallbackOutcome, settings: Any, prompt: Prompt | None = None) -> HttpResponse:
        self.prompts.append(prompt)
        status = 200 if outcome is CallbackOutcome.STORED else 503
        return HttpResponse(status, {"content-type": "text/xml"}, b"<Response/>")


class Bench:
    """The listener with everything around it in memory."""

    def __init__(self) -> None:
        self.vendor = Vendor()
        self.kept: list[tuple[str, bytes, str | None, Sequence[ProviderEvent]]] = []
        self.first = True
        self.fails: Exception | None = None
        self.counted: list[tuple[str, CallbackResult]] = []
        self.provider: str | None = "push-1"
        self.asked: list[int] = []
        self.client: Client
        self.listener: Listener
        route = CallbackRoute(self.vendor, None, (TOKEN, OLD))
        self.pressed: list[tuple[str, int, str | None, str]] = []
        self.said: Said | Exception | None = None
        self.api = PublicApi(
            {"vendor": route},
            self._provider_of,
            self._answer_key,
            [APP],
            PUBLIC + "/",
            LIMITS,
            self._keep,
            lambda: NOW,
            self,
        )

    def callback(self, provider: str, outcome: CallbackResult) -> None:
        self.counted.append((provider, outcome))

    async def _keep(self, provider: str, raw: bytes, replay_key: str | None, events: Sequence[ProviderEvent]) -> bool:
        if self.fails is not None:
            raise self.fails
        self.kept.append((provider, raw, replay_key, events))
        return self.first

    async def _answer_key(self, provider: str, attempt: int, step: str | None, digits: str) -> Said | None:
        assert self.kept, "answered before it was stored"
        self.pressed.append((provider, attempt, step, digits))
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    async def _provider_of(self, attempt: int) -> str | None:
        if self.fails is not None:
            raise self.fails
        self.asked.append(attempt)
        return self.provider

    async def post(
        self, path: str = f"/callbacks/vendor/{TOKEN}/{REFERENCE}", body: Any = b"a=1", **headers: str
    ) -> tuple[int, bytes]:
        sent = {"x-signature": "good"} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(path, data=body, headers=sent) as response:
            return response.status, await response.read()


class Client:
    """Whoever calls."""

    def __init__(self, session: ClientSession, port: int) -> None:
        self.session = session
        self.port = port

    def request(self, method: str, path: str, **more: Any) -> Asked:
        return self.session.request(method, URL(f"http://127.0.0.1:{self.port}{path}", encoded=True), **more)

    def post(self, path: str, **more: Any) -> Asked:
        return self.request("POST", path, **more)


@asynccontextmanager
async def opened(limits: PublicLimits = LIMITS) -> AsyncIterator[Bench]:
    it = Bench()
    it.listener = Listener(it.api.handle, limits)
    port = await it.listener.start("127.0.0.1", 0)
    try:
        async with ClientSession() as session:
            it.client = Client(session, port)
            yield it
    finally:
        await it.listener.stop(1)


async def raw(bench: Bench, headers: str, body: bytes, pause: float = 0.0) -> tuple[int, bytes]:
    """A callback written byte by byte, which no client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
    head = f"POST /callbacks/vendor/{TOKEN} HTTP/1.1\r\nHost: x\r\nX-Signature: good\r\n{headers}\r\n"
    writer.write(head.encode())
    await asyncio.sleep(pause)
    writer.write(body)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()
    return int(answer.split(b" ")[1]), answer
