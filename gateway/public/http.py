"""Callbacks: the path token, then the limits, then the vendor's signature over the raw bytes, then store, then answer.

The limits of a head, of a connection and of how many there are come before all of it, in `listener`.

2xx means stored, now or before.  4xx means it can never be valid.  5xx means our storage failed: send it again.
Nothing of a callback is logged but ids, and the token is never part of a log line or label.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import unquote

import msgspec
from aiohttp import HttpVersion10, HttpVersion11, web

from gateway.calls import prompt_of
from gateway.content.dialogue import Said
from gateway.ids import from_reference, to_reference
from gateway.observability.labels import OTHER, CallbackResult
from gateway.observability.logs import get_logger
from gateway.public.listener import PublicLimits
from gateway.sealing import same
from providers.contract import (
    Adapter,
    Callback,
    CallbackOutcome,
    Engaged,
    HttpResponse,
    KeyPress,
    Prompt,
    ProviderEvent,
    Receipt,
)
from providers.contract import Unauthenticated as NotAuthentic
from schemas.messages import PushEvent
from schemas.vocabulary import AttemptState, Engagement

log = get_logger(__name__)

# Provider, attempt, step, digits: what a call says next.
AnswerKey = Callable[[str, int, str | None, str], Awaitable[Said | None]]
Keep = Callable[[str, bytes, str | None, Sequence[ProviderEvent]], Awaitable[bool]]

_PUSH_CODE: Final = "app_event"
# A device's clock may be off; a time beyond these is none, and no database would take the last of them.
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2100


class CallbackObserver(Protocol):
    def callback(self, provider: str, outcome: CallbackResult) -> None: ...


@dataclass(frozen=True, slots=True)
class CallbackRoute:
    """One provider's callbacks.  `tokens` are (current, previous); any of them opens the path."""

    adapter: Adapter
    settings: Any = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)


class PublicApi:
    """Handlers of the public listener.  `public_url` is the address as providers see it, never the Host header's."""

    def __init__(
        self,
        routes: Mapping[str, CallbackRoute],
        push_provider_of: Callable[[int], Awaitable[str | None]],
        answer_key: AnswerKey,
        app_tokens: Sequence[str],
        public_url: str,
        limits: PublicLimits,
        keep: Keep,
        now: Callable[[], dt.datetime],
        metrics: CallbackObserver,
    ) -> None:
        self._push_provider_of = push_provider_of
        self._answer_key = answer_key
        self.admit(routes, app_tokens)
        self._public_url = public_url.rstrip("/")
        self._limits = limits
        self._keep = keep
        self._now = now
        self._metrics = metrics
        self._push_decoder = msgspec.json.Decoder(PushEvent)

    def admit(self, routes: Mapping[str, CallbackRoute], app_tokens: Sequence[str]) -> None:
        """From now on these open the door: what is not among them is refused with the next request."""
        self._routes = routes
        self._app_tokens = tuple(app_tokens)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """`POST /callbacks/{provider}/{token}[/{attempt}]` and `POST /events/push`; 404 for any other path.

        Who is refused is hung up on: nothing behind it on the same connection is read, whoever wrote it.
        """
        answer = await self._answer(request) if request.version >= HttpVersion10 else web.Response(status=400)
        if 400 <= answer.status < 500:
            answer.force_close()
        return answer

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        match request.raw_path.partition("?")[0].split("/"):
            case ["", "callbacks", provider, token] if provider and token:
                work = self._callback(request, provider, unquote(token), None)
            case ["", "callbacks", provider, token, attempt] if provider and token and attempt:
                work = self._callback(request, provider, unquote(token), attempt)
            case ["", "events", "push"]:
                work = self._push_event(request)
            case _:
                return web.Response(status=404)
        if request.method != "POST":
            work.close()
            return web.Response(status=405, headers={"Allow": "POST"})
        return await work

    async def _callback(self, request: web.BaseRequest, name: str, token: str, attempt: str | None) -> web.Response:
        route = self._routes.get(name)
        # Every configured token is compared, so that the time says nothing about which one was near.
        if route is None or not any([same(token, each) for each in route.tokens]):
            if route is not None:
                self._metrics.callback(name, CallbackResult.UNAUTHENTICATED)
            return web.Response(status=404)
        body = await self._body(request)
        if isinstance(body, web.Response):
            self._metrics.callback(name, _refusal(body))
            return body
        callback = Callback(
            self._public_url + request.raw_path,
            {key.lower(): value for key, value in request.headers.items()},
            body,
            attempt,
        )
        try:
            replay_key = route.adapter.verify_callback(callback, route.settings, self._now())
        except NotAuthentic as refused:
            self._metrics.callback(name, CallbackResult.UNAUTHENTICATED)
            log.warning("callback_refused", provider=name, reason=str(refused))
            return web.Response(status=401)
        events = route.adapter.parse_callback(callback)
        outcome = await self._store(name, body, replay_key, events)
        prompt = None
        if route.adapter.interactive and outcome is CallbackOutcome.STORED:
            prompt = await self._prompt(name, callback, events)
        return _answer(route.adapter.reply(outcome, route.settings, prompt))

    async def _prompt(self, name: str, callback: Callback, events: Sequence[ProviderEvent]) -> Prompt | None:
        """What the call says to the key that was pressed, once the key is stored."""
        for event in events:
            if isinstance(event, KeyPress) and event.attempt is not None:
                attempt = from_reference(event.attempt)
                said = None if attempt is None else await self._answered(name, attempt, event)
                return None if said is None else prompt_of(said, callback.url.partition("?")[0])
        return None

    async def _answered(self, name: str, attempt: int, event: KeyPress) -> Said | None:
        """A call that cannot be answered ends; what was pressed is stored all the same."""
        try:
            return await self._answer_key(name, attempt, event.step, event.digits)
        except Exception as error:
            log.error("key_not_answered", provider=name, attempt=to_reference(attempt), exc_info=error)
            return None

    async def _push_event(self, request: web.BaseRequest) -> web.Response:
        """`POST /events/push`: the lender's app tells what became of a push.  204 stored, 401, 400, 404, 503."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not any([same(token, each) for each in self._app_tokens]):
            self._metrics.callback(OTHER, CallbackResult.UNAUTHENTICATED)
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        body = await self._body(request)
        if isinstance(body, web.Response):
            self._metrics.callback(OTHER, _refusal(body))
            return body
        event, attempt = self._read_push_event(body)
        if event is None or attempt is None:
            self._metrics.callback(OTHER, CallbackResult.MALFORMED)
            return web.Response(status=400)
        try:
            provider = await self._push_provider_of(attempt)
        except Exception as error:
            self._metrics.callback(OTHER, CallbackResult.FAILED)
            log.error("push_event_failed", exc_info=error)
            return web.Response(status=503)
        if provider is None:
            self._metrics.callback(OTHER, CallbackResult.UNMATCHED)
            return web.Response(status=404)
        events: list[ProviderEvent] = [
            Receipt(AttemptState.DELIVERED, _PUSH_CODE, attempt=event.attempt, occurred_at=event.at)
        ]
        if event.kind == "opened":
            events.append(Engaged(Engagement.OPENED, attempt=event.attempt, occurred_at=event.at))
        outcome = await self._store(provider, body, f"{event.attempt}:{event.kind}", events)
        return web.Response(status=204 if outcome is CallbackOutcome.STORED else 503)

    def _read_push_event(self, body: bytes) -> tuple[PushEvent | None, int | None]:
        """The event and the attempt it speaks of; None for what cannot be either."""
        try:
            event = self._push_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None, None
        sane = _FIRST_YEAR <= event.at.year <= _LAST_YEAR
        return event, from_reference(event.attempt) if sane else None

    async def _store(
        self, provider: str, body: bytes, replay_key: str | None, events: Sequence[ProviderEvent]
    ) -> CallbackOutcome:
        try:
            first = await self._keep(provider, body, replay_key, events)
        except Exception as error:
            self._metrics.callback(provider, CallbackResult.FAILED)
            log.error("callback_not_stored", provider=provider, exc_info=error)
            return CallbackOutcome.FAILED
        self._metrics.callback(provider, CallbackResult.STORED if first else CallbackResult.REPLAYED)
        return CallbackOutcome.STORED

    async def _body(self, request: web.BaseRequest) -> bytes | web.Response:
        """The raw bytes within the limits of size and time, or the refusal."""
        coded = request.headers.get("Content-Encoding", "identity"), request.headers.get("Transfer-Encoding", "chunked")
        if coded[0] != "identity" or coded[1].lower() != "chunked":
            return web.Response(status=415)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # RFC 9110 §10.1.1: it waits for that
        try:
            if request.content.is_eof():  # all of it came with the head, as is usual
                return await request.read()
            async with asyncio.timeout(self._limits.read_seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413)
        except TimeoutError:
            return web.Response(status=408)


def _refusal(answer: web.Response) -> CallbackResult:
    return CallbackResult.TOO_LARGE if answer.status == 413 else CallbackResult.MALFORMED


def _answer(reply: HttpResponse) -> web.Response:
    return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)
