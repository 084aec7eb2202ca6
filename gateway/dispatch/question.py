"""The question to a lender's own service just before a reminder leaves: may it?

It fails closed: without an answer that says so nothing leaves, and the reminder is asked about again later.  Whoever
waits for one has no slot of a provider and no connection to the ledger.  It names the debt by the lender's own
references: nobody's address, name or amount, and nothing at all in the URL.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, Literal

import msgspec
from msgspec import Struct

from gateway import policy
from gateway.dispatch.reserve import Reservation
from gateway.dispatch.spread import after
from gateway.dispatch.transport import Transport
from gateway.ledger.claims import Claimed
from gateway.ledger.merged import Told
from providers.contract import HttpRequest, HttpResponse
from schemas.vocabulary import Failure, FailureScope, Reason

_AFTER_NO_ANSWER: Final = dt.timedelta(seconds=30)
_AFTER_LATER: Final = dt.timedelta(minutes=10)
_MOST_KEPT: Final = 10_000
_OK: Final = 200
_LOGINS: Final = frozenset({401, 403})


class Asked(StrEnum):
    """What came of a question."""

    SEND = "send"
    LATER = "later"
    NEVER = "never"
    CACHED = "cached"  # answered a moment ago
    BUSY = "busy"  # no place for it, or its circuit is open: not asked
    FAILED = "failed"  # none, late, or one that nobody can read


class About(Struct, frozen=True, gc=False):
    """What is asked; the body of the request."""

    lender: str
    borrower_ref: str
    debt: str
    instalment: int | None
    stage: str


class Never(Struct, frozen=True, gc=False):
    """This reminder, which another one's message was to tell of, ends by its lender's word."""

    reminder: int
    reason: Reason


class _Send(Struct, frozen=True, tag_field="answer", tag="send"):
    pass


class _Later(Struct, frozen=True, tag_field="answer", tag="later"):
    pass


class _Never(Struct, frozen=True, tag_field="answer", tag="never"):
    reason: Literal["paid", "stopped", "opted_out"]


_Answer = _Send | _Later | _Never
_decode = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


class Question:
    """One lender's.  Lives on the event loop."""

    def __init__(
        self,
        url: str,
        token: str,
        transport: Transport,
        reservation: Reservation,
        cache_seconds: float,
        now: Callable[[], dt.datetime],
        on_asked: Callable[[Asked, float], None],
        requests: bool = False,
    ) -> None:
        """`requests`: also about what upstream asked for.  `on_asked` hears of each question and how long it took."""
        self._url = url
        self._token = token
        self.transport = transport
        self._reservation = reservation
        self._cache_seconds = cache_seconds
        self._now = now
        self._on_asked = on_asked
        self._requests = requests
        self._known: dict[About, tuple[float, _Answer]] = {}

    def renew(self, url: str, token: str) -> None:
        """Whatever is asked from now on goes there, with that."""
        self._url, self._token = url, token

    def concerns(self, claimed: Claimed) -> bool:
        return self._requests or claimed.occasion is not None

    async def ask(self, claimed: Claimed, told: Sequence[Told] = ()) -> policy.Verdict | Never | None:
        """None when it may leave.  Never raises for what a service or the network does.

        Of what its message tells besides (`told`) it is asked, too: while that may not be told the message waits, and
        where it never may the message is to be made without it.
        """
        about = About(claimed.lender, claimed.borrower, claimed.debt, claimed.instalment, claimed.stage)
        verdict = await self._ask(about, claimed)
        for each in told:
            if verdict is not None:
                break
            other = About(claimed.lender, claimed.borrower, each.debt, each.instalment, each.stage)
            verdict = await self._ask(other, claimed)
            if isinstance(verdict, policy.Cancel):
                return Never(each.reminder, verdict.reason)
        return verdict

    async def _ask(self, about: About, claimed: Claimed) -> policy.Verdict | None:
        started = self._reservation.clock()
        kept = self._known.get(about)
        if kept is not None and started < kept[0]:
            self._on_asked(Asked.CACHED, 0.0)
            return self._verdict(kept[1], claimed)
        if await self._turn(claimed) > 0:
            self._on_asked(Asked.BUSY, self._reservation.clock() - started)
            return self._defer(claimed, _AFTER_NO_ANSWER, "question_failed")
        try:
            answer = await self._answer(about)
        finally:
            self._reservation.done()
        if answer is None:
            self._on_asked(Asked.FAILED, self._reservation.clock() - started)
            return self._defer(claimed, _AFTER_NO_ANSWER, "question_failed")
        self._on_asked(_ASKED[type(answer)], self._reservation.clock() - started)
        self._keep(about, answer)
        return self._verdict(answer, claimed)

    async def _turn(self, claimed: Claimed) -> float:
        """0.0 with a place, a token and a closed circuit."""
        told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        # Who was cancelled in line hears nothing any more: the process stops.
        wait = self._reservation.ask("", claimed.lane, lambda wait: None if told.done() else told.set_result(wait))
        return await told if wait is None else wait

    async def _answer(self, about: About) -> _Answer | None:
        since = self._reservation.clock()
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        response = await self.transport.post(HttpRequest(self._url, headers, _encode(about)))
        if isinstance(response, HttpResponse) and response.status == _OK:
            try:
                answer: _Answer = _decode(response.body)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                pass
            else:
                self._reservation.succeeded("", since)
                return answer
        refused = isinstance(response, HttpResponse) and response.status in _LOGINS
        failure = Failure.BAD_CONFIG if refused else Failure.TRANSIENT
        self._reservation.failed(failure, FailureScope.ACCOUNT, "", None, since)
        return None

    def _keep(self, about: About, answer: _Answer) -> None:
        if self._cache_seconds > 0:
            self._known.pop(about, None)  # so that it stands last
            self._known[about] = (self._reservation.clock() + self._cache_seconds, answer)
            if len(self._known) > _MOST_KEPT:
                del self._known[next(iter(self._known))]

    def _verdict(self, answer: _Answer, claimed: Claimed) -> policy.Verdict | None:
        match answer:
            case _Never(reason):
                return policy.Cancel(Reason(reason), "question_never")
            case _Later():
                return self._defer(claimed, _AFTER_LATER, "question_later")
        return None

    def _defer(self, claimed: Claimed, wait: dt.timedelta, rule: str) -> policy.Defer:
        return policy.Defer(after(wait, self._now(), claimed.id), rule)


_ASKED: Final = {_Send: Asked.SEND, _Later: Asked.LATER, _Never: Asked.NEVER}
