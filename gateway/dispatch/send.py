"""Send: from an intended attempt to its outcome.  The outcome table of docs/guarantees.md, in code.

Nothing here decides to send a second time once bytes may have left.  Seconds-long retries follow only proof that no
byte left, inside the lease, and pass the fences of intend again before each first byte.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_random_exponential

from gateway.crashpoints import CrashPoint, reached
from gateway.dispatch.pipeline import Job
from gateway.dispatch.provider import Provider
from gateway.dispatch.transport import MaybeSent, NotSent, Wire
from gateway.ledger.outcomes import Outcome
from providers.contract import Accepted, Ambiguous, HttpResponse, Refused, Token
from schemas.vocabulary import AttemptState, Failure, FailureScope

_UNAUTHORIZED: Final = 401
# It should never have come so far: a person has to look.
_OUR_BUG: Final = frozenset({Wire.BAD_REQUEST, Wire.NOT_ALLOWLISTED, Wire.NOT_LOOPBACK})
# Another try would find the same: the request may not or cannot be sent, or there is no time left for it.
_NOT_WORTH_A_RETRY: Final = _OUR_BUG | {Wire.CANCELLED, Wire.CANNOT_REACH}
# How long the record of an outcome may take after the last byte, added to the timeouts a lease must cover.
MARGIN_SECONDS: Final = 2.0

Again = Callable[[Job], Awaitable[bool]]
_Result = Accepted | Refused | Ambiguous | NotSent | MaybeSent


@dataclass(frozen=True, slots=True)
class Retries:
    """Seconds-long retries inside one lease."""

    attempts: int = 3
    longest_wait: float = 2.0


class Sender:
    """Sends intended attempts.  `again` repeats intend's fences for an attempt before another first byte."""

    def __init__(
        self,
        again: Again,
        now: Callable[[], dt.datetime],
        retries: Retries,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._again = again
        self._now = now
        self._retries = retries
        self._monotonic = monotonic
        self._sleep = sleep

    async def send(self, job: Job) -> Outcome:
        """The attempt's outcome; never raises for what a provider or the network does, nor when it is cancelled."""
        try:
            result = await self._try(job)
            if _worth_a_retry(result):
                result = await self._retry(job, result)
        except asyncio.CancelledError:
            # Between requests: the transport answers a cancellation during one itself.  Nothing was taken.
            result = NotSent(Wire.CANCELLED)
        return self._outcome(job, result)

    async def _retry(self, job: Job, first: _Result) -> _Result:
        """One tenacity object per call; the allow-list predicate retries nothing but proof that no byte left."""
        started = False

        async def once() -> _Result:
            nonlocal started
            if not started:
                started = True
                return first
            return await self._try(job) if await self._again(job) else first

        room = max(job.lease.deadline - self._monotonic() - MARGIN_SECONDS, 0.0)
        retrying = AsyncRetrying(
            retry=retry_if_result(_worth_a_retry),
            stop=stop_after_attempt(self._retries.attempts) | stop_after_delay(room),
            wait=wait_random_exponential(multiplier=0.1, max=self._retries.longest_wait),
            sleep=self._sleep,
            retry_error_callback=_last_result,
        )
        result: _Result = await retrying(once)
        return result

    async def _try(self, job: Job) -> _Result:
        provider, message = job.provider, job.message
        assert provider is not None
        assert message is not None
        token = await provider.token()
        if isinstance(token, Refused):
            return _without_token(token)
        reached(CrashPoint.BEFORE_FIRST_BYTE)
        answer = await provider.post(message, token, partial(self._may_start, job, provider))
        if isinstance(answer, NotSent | MaybeSent):
            return answer
        reached(CrashPoint.AFTER_ANSWER)
        if answer.status == _UNAUTHORIZED and token is not None:
            return await self._with_fresh_token(job, provider, token)
        return provider.classify(message, answer)

    async def _with_fresh_token(self, job: Job, provider: Provider, stale: Token) -> _Result:
        """A refused token is refreshed once.  A 401 is the provider's word that it took nothing."""
        assert job.message is not None
        provider.reject_token(stale)
        token = await provider.token()
        if isinstance(token, Refused):
            return _without_token(token)
        if not await self._again(job):
            return NotSent(Wire.CANCELLED)
        answer = await provider.post(job.message, token, partial(self._may_start, job, provider))
        return provider.classify(job.message, answer) if isinstance(answer, HttpResponse) else answer

    def _may_start(self, job: Job, provider: Provider) -> bool:
        """At the first byte, not before a connection was waited for: the business limit, and a lease that covers the
        timeouts.
        """
        assert job.send_by is not None
        return self._now() < job.send_by and job.lease.stands(provider.timeouts.total + MARGIN_SECONDS)

    def _outcome(self, job: Job, result: _Result) -> Outcome:
        provider = job.provider
        assert provider is not None
        reservation, template, since = provider.reservation, job.claimed.template, job.reserved_at
        attempt, name = job.attempt, provider.name
        reminder, subject = job.claimed.id, job.claimed.subject
        match result:
            case Accepted(ref):
                reservation.succeeded(template, since)
                return Outcome(attempt, reminder, subject, name, AttemptState.ACCEPTED, ref=ref)
            case Refused(failure, scope, code, retry_after):
                reservation.failed(failure, scope, template, retry_after, since)
                if failure is Failure.AMBIGUOUS:
                    return Outcome(attempt, reminder, subject, name, AttemptState.UNKNOWN, failure, code)
                return Outcome(
                    attempt, reminder, subject, name, AttemptState.REJECTED, failure, code, None, retry_after
                )
            case Ambiguous(code):
                reservation.failed(Failure.AMBIGUOUS, FailureScope.ACCOUNT, template, None, since)
                return Outcome(attempt, reminder, subject, name, AttemptState.UNKNOWN, Failure.AMBIGUOUS, code)
            case MaybeSent(wire):
                if wire is not Wire.CANCELLED:
                    reservation.failed(Failure.AMBIGUOUS, FailureScope.ACCOUNT, template, None, since)
                return Outcome(attempt, reminder, subject, name, AttemptState.UNKNOWN, Failure.AMBIGUOUS, wire)
            case NotSent(wire):
                failure = Failure.BUG if wire in _OUR_BUG else Failure.TRANSIENT
                if wire is Wire.CANNOT_REACH:
                    failure = Failure.BAD_RECIPIENT  # the next contact, or the next provider, may
                if wire not in _NOT_WORTH_A_RETRY:  # those are ours: they say nothing about the provider
                    reservation.failed(failure, FailureScope.ACCOUNT, template, None, since)
                return Outcome(attempt, reminder, subject, name, AttemptState.NOT_SENT, failure, wire)


def _without_token(refused: Refused) -> _Result:
    """Without a token no byte of the message can have left; trouble without a date is worth another try in a moment."""
    short = refused.failure is Failure.TRANSIENT and refused.retry_after is None
    return NotSent(Wire.NO_TOKEN) if short else refused


def _worth_a_retry(result: object) -> bool:
    return isinstance(result, NotSent) and result.wire not in _NOT_WORTH_A_RETRY


def _last_result(state: RetryCallState) -> object:
    assert state.outcome is not None
    return state.outcome.result()
