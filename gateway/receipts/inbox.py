"""A provider's events are kept as rows, and kept rows become moves.

`keep` is what the provider waits for: one grouped commit that stores and applies.  Where that is held up, the group is
only stored, and the sweep applies it, as it does with what belongs to nothing yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, NamedTuple, Protocol

from gateway.batcher import Batcher
from gateway.clock import Clock
from gateway.crashpoints import CrashPoint, reached
from gateway.ids import milliseconds_of, to_reference
from gateway.ledger import receipts
from gateway.ledger.database import Database, worth_repeating
from gateway.ledger.receipts import Taken
from gateway.ledger.received import Disposed, Stored
from gateway.ledger.standing import Move, Rules
from gateway.observability.logs import get_logger
from gateway.receipts.rows import Rows
from gateway.sealing import Sealer
from gateway.tracing import Field, Kind, SpanName, Tracer
from gateway.worker import Worker
from providers.contract import ProviderEvent
from schemas.vocabulary import AttemptState, Disposition, Failure, FailureScope

log = get_logger(__name__)

# So many receipts whose providers wait, and the first of them not for long: more a second than can be applied.  A busy
# process has as many waiting, for longer; to keep theirs for later as well would only be more work.
_BURST: Final = 200
_BURST_SECONDS: Final = 0.03
_EBB_SECONDS: Final = 0.1
_EBB_TURNS: Final = 20
# A vendor gives up on us after some seconds and calls again: what waits for longer only keeps others waiting.
_ANSWER_SECONDS: Final = 5.0
_MOST_WAITING: Final = 5000
_MOVED: Final = frozenset({Disposition.APPLIED, Disposition.LATE})


class ReceiptObserver(Protocol):
    def moved(self, moves: Sequence[Move]) -> None: ...
    def attempt(
        self, provider: str, outcome: AttemptState, failure: Failure | None, was: AttemptState | None
    ) -> None: ...
    def disposed(self, provider: str, disposition: Disposition) -> None: ...
    def receipt_lag(self, provider: str, seconds: float) -> None: ...


class NotStored(Exception):
    """The ledger could not take a callback in time; it may have all the same, and then its repeat is a copy."""


class _Kept(NamedTuple):
    """One callback on its way into the ledger, and who waits for it since when."""

    events: tuple[Stored, ...]
    answer: asyncio.Future[bool]
    since: float


class ReceiptInbox:
    """Keeps callbacks and applies their receipts."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        clock: Clock,
        sealer: Sealer,
        rules: Rules,
        metrics: ReceiptObserver,
        on_moved: Callable[[], None],
        on_failure: Callable[[str, Failure, FailureScope, str, float], None] = lambda *_: None,
        sweep_seconds: float = 2.0,
        answer_seconds: float = _ANSWER_SECONDS,
        burst_seconds: float = _BURST_SECONDS,
        tracer: Tracer | None = None,
    ) -> None:
        """`on_failure(provider, failure, scope, template, seconds since it was sent)` hears of receipts that complain
        of more than their recipient.
        """
        self._database = database
        self._clock = clock
        self._rows = Rows(worker, sealer)
        self._rules = rules
        self._metrics = metrics
        self._on_moved = on_moved
        self._on_failure = on_failure
        self._sweep_seconds = sweep_seconds
        self._answer_seconds = answer_seconds
        self._burst_seconds = burst_seconds
        self._tracer = tracer
        self._incoming: Batcher[_Kept] = Batcher("receipts", self._keep_group)
        self._burst_at = 0.0
        self._unanswered = 0  # receipts whose providers wait
        self._asked: deque[_Kept] = deque()  # in the order they came; those in front may have been answered
        self._parked = asyncio.Event()  # something waits for a sweep
        self._sweeper: asyncio.Task[None] | None = None
        self._storing: set[asyncio.Task[frozenset[int]]] = set()

    async def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep_loop(), name="receipt-sweep")

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._incoming.flushed()

    async def keep(self, provider: str, raw: bytes, replay_key: str | None, events: Sequence[ProviderEvent]) -> bool:
        """Stores one authentic callback; False when it was stored before.  Raises when the ledger cannot store it, and
        after some seconds when it does not answer.

        A provider that hangs up does not undo what it has told us.
        """
        if len(self._incoming) >= _MOST_WAITING:
            raise NotStored("too many wait")
        now = self._clock.now()
        stored = tuple([self._rows.of(provider, each, now, raw, replay_key, n) for n, each in enumerate(events)])
        if not stored:
            return True
        loop = asyncio.get_running_loop()
        kept = _Kept(stored, loop.create_future(), loop.time())
        self._incoming.add(kept)
        self._asked.append(kept)
        self._unanswered += len(stored)
        try:
            return await kept.answer
        finally:
            self._unanswered -= len(stored)

    # --- grouped commits ------------------------------------------------------------------------------------------

    async def _keep_group(self, waiting: Sequence[_Kept]) -> None:
        oldest = asyncio.get_running_loop().time() - self._answer_seconds
        group = [each for each in waiting if each.since >= oldest]
        if len(group) < len(waiting):
            late = [each for each in waiting if each.since < oldest]
            log.error("receipts_late", n=len(late))
            _answer_all(late, NotStored("the ledger is late"))
        if not group:
            return
        try:
            kept = await self._in_time(self._take_or_store([event for each in group for event in each.events]))
        except Exception as error:
            if len(group) == 1 or isinstance(error, NotStored) or worth_repeating(error):
                log.error("receipts_not_stored", n=len(group), exc_info=error)
                _answer_all(group, error)
                return
            # One callback that cannot be written does not take its neighbours with it.
            log.warning("receipts_apart", n=len(group), exc_info=error)
            for each in group:
                await self._keep_group([each])
            return
        for each in group:
            reached(CrashPoint.AFTER_STORE)
            _answer(each, each.events[0].id in kept)

    async def _in_time(self, work: Coroutine[None, None, frozenset[int]]) -> frozenset[int]:
        """The work's result.  Raises NotStored when it takes too long, and does not wait for its end: a client that is
        cancelled while its server hangs tells the server first.
        """
        task = asyncio.create_task(work)
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        await asyncio.wait([task], timeout=self._answer_seconds)
        if task.done():
            return task.result()
        task.cancel()
        raise NotStored("the ledger does not answer")

    async def _take_or_store(self, stored: Sequence[Stored]) -> frozenset[int]:
        now = self._clock.now()
        if self._is_burst():
            # More than can be applied while their providers wait: keep them, answer, apply when it has ebbed.
            self._burst_at = time.monotonic()
            return await self._only_store(stored, now)
        try:
            taken = await self._database.transaction(
                lambda c: receipts.take(c, stored, now, self._rules, random.random), attempts=1
            )
        except Exception as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # nobody waits for it any more
            # A lock that does not come free, a claim that was first: no reason to keep a provider waiting.
            log.info("receipts_only_stored", n=len(stored), exc_info=error)
            return await self._only_store(stored, now)
        self._note(taken)
        return taken.kept

    def _is_burst(self) -> bool:
        while self._asked and self._asked[0].answer.done():
            self._asked.popleft()
        if self._unanswered < _BURST or not self._asked:
            return False
        return asyncio.get_running_loop().time() - self._asked[0].since < self._burst_seconds

    async def _only_store(self, stored: Sequence[Stored], now: dt.datetime) -> frozenset[int]:
        kept = await self._database.transaction(lambda c: receipts.store(c, stored, now), attempts=2)
        self._note_disposed(
            [Disposed(each, each.disposition) for each in stored if each.disposition is not None and each.id in kept]
        )
        for each in stored:
            if each.id in kept:
                self._tell(each, "", _sent_at(each))
        self._parked.set()
        return kept

    def _note(self, taken: Taken) -> None:
        self._metrics.moved(taken.moves)
        self._note_disposed(taken.disposed)
        if taken.moves:
            self._on_moved()

    def _note_disposed(self, disposed: Sequence[Disposed]) -> None:
        for each in disposed:
            receipt = each.receipt
            self._metrics.disposed(receipt.provider, each.disposition)
            if self._tracer is not None and each.traceparent is not None:
                _trace(self._tracer, each)
            if each.disposition is Disposition.UNMATCHED:
                self._tell(receipt, "", _sent_at(receipt))  # how much it speaks of is not kept
            if receipt.state is not None and each.disposition in _MOVED:
                self._metrics.attempt(receipt.provider, receipt.state, receipt.failure, each.was)
                self._tell(receipt, each.template, each.handed_over_at or receipt.received_at)
            if each.handed_over_at is not None:
                lag = (receipt.received_at - each.handed_over_at).total_seconds()
                self._metrics.receipt_lag(receipt.provider, max(lag, 0.0))

    def _tell(self, receipt: Stored, template: str, sent_at: dt.datetime) -> None:
        """What is wrong with more than one recipient is the circuits' business: burning the others helps nobody."""
        if receipt.failure is None or receipt.scope is FailureScope.RECIPIENT:
            return
        if receipt.scope is not FailureScope.TEMPLATE or template:
            age = (self._clock.now() - sent_at).total_seconds()
            self._on_failure(receipt.provider, receipt.failure, receipt.scope, template, age)

    # --- what is parked -------------------------------------------------------------------------------------------

    async def _sweep_loop(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sweep_seconds * (0.5 + random.random())):  # noqa: S311  spreads replicas
                    await self._parked.wait()
            self._parked.clear()
            try:
                ripe = await self._ripe()
                if ripe:
                    await self._ebb()  # once: where the burst never ends, what is parked is applied beside it
                while ripe:
                    await self._sweep(ripe)
                    ripe = await self._ripe()
            except Exception as error:
                log.warning("receipt_sweep_failed", exc_info=error)

    async def _ebb(self) -> None:
        """Lets a burst pass, but not for ever."""
        for _ in range(_EBB_TURNS):
            if time.monotonic() > self._burst_at + _EBB_SECONDS:
                return
            await asyncio.sleep(_EBB_SECONDS)

    async def _ripe(self) -> list[Stored]:
        async with self._database.connection() as connection:
            return await receipts.ripe(connection, self._clock.now())

    async def _sweep(self, parked: Sequence[Stored]) -> None:
        now = self._clock.now()
        try:
            taken = await self._database.transaction(
                lambda c: receipts.sweep(c, parked, now, self._rules, random.random)
            )
        except Exception as error:
            if len(parked) == 1:
                # It keeps its place; the others must not wait behind it.
                log.error("receipt_not_applied", receipt=to_reference(parked[0].id), exc_info=error)
                await self._database.transaction(lambda c: receipts.postpone(c, parked, now))
                return
            for half in (parked[: len(parked) // 2], parked[len(parked) // 2 :]):
                await self._sweep(half)
            return
        # What is unmatched still was counted when it came.
        taken.disposed = [each for each in taken.disposed if each.disposition is not Disposition.UNMATCHED]
        self._note(taken)


def _trace(tracer: Tracer, each: Disposed) -> None:
    receipt = each.receipt
    tracer.tell_below(
        SpanName.RECEIPT,
        Kind.SERVER,
        each.traceparent,
        int(receipt.received_at.timestamp() * 1e9),
        {
            Field.RECEIPT: receipt.kind,
            Field.REMINDER: None if each.reminder is None else to_reference(each.reminder),
            Field.ATTEMPT: None if each.attempt is None else to_reference(each.attempt),
            Field.PROVIDER: receipt.provider,
            Field.STATE: None if receipt.state is None else receipt.state.value,
            Field.FAILURE: None if receipt.failure is None else receipt.failure.value,
            Field.OUTCOME: each.disposition.value,
        },
    )


def _sent_at(receipt: Stored) -> dt.datetime:
    """As far as a receipt itself tells: ids are made when a message is, but not every receipt has ours."""
    if receipt.attempt is None:
        return receipt.received_at
    return min(dt.datetime.fromtimestamp(milliseconds_of(receipt.attempt) / 1000, dt.UTC), receipt.received_at)


def _answer_all(group: Sequence[_Kept], error: Exception) -> None:
    for each in group:
        _answer(each, error)


def _answer(kept: _Kept, result: bool | Exception) -> None:
    if kept.answer.done():
        return  # whoever asked has gone
    if isinstance(result, Exception):
        kept.answer.set_exception(result)
    else:
        kept.answer.set_result(result)
