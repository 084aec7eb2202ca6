"""Access tokens: one refresh in flight per provider, cached until shortly before they expire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from providers.contract import HttpRequest, HttpResponse, Refused, Token
from schemas.vocabulary import Failure, FailureScope

_MARGIN_SECONDS: Final = 60.0


class TokenCache:
    """Gives the provider's access token, or why there is none.

    `fetch` makes one request; `parse` reads its answer.  A hundred senders that need a token wait for one refresh.
    """

    def __init__(
        self,
        build: Callable[[], HttpRequest],
        parse: Callable[[HttpResponse], Token | Refused],
        fetch: Callable[[HttpRequest], Awaitable[HttpResponse | object]],
        clock: Callable[[], float],
        on_answer: Callable[[Token | Refused], None] = lambda answer: None,
    ) -> None:
        """`on_answer` hears what came of each request."""
        self._on_answer = on_answer
        self._build = build
        self._parse = parse
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._expires_at = 0.0
        self._refresh: asyncio.Task[Token | Refused] | None = None

    async def get(self) -> Token | Refused:
        if self._token is not None and self._clock() < self._expires_at:
            return self._token
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._renew(), name="token-refresh")
        # Shielded: the one who waits may give up, the others still want the token.
        return await asyncio.shield(self._refresh)

    def reject(self, token: Token) -> None:
        """The provider refused this token; the next `get` fetches another, unless that has happened already."""
        if self._token is token:
            self._token = None

    async def _renew(self) -> Token | Refused:
        try:
            answer = await self._ask()
        except Exception:
            self._on_answer(Refused(Failure.BAD_CONFIG, FailureScope.ACCOUNT, "token_error"))
            raise
        self._on_answer(answer)
        return answer

    async def _ask(self) -> Token | Refused:
        answer = await self._fetch(self._build())
        if not isinstance(answer, HttpResponse):
            return Refused(Failure.TRANSIENT, FailureScope.ACCOUNT, "token_unreachable")
        parsed = self._parse(answer)
        if isinstance(parsed, Token):
            self._token = parsed
            self._expires_at = self._clock() + max(parsed.expires_in - _MARGIN_SECONDS, parsed.expires_in / 2)
        return parsed
