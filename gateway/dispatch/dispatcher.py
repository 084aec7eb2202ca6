"""The dispatcher: claims what is due as slots are free and takes it through the pipeline.

Capacity comes first, work second: rows are claimed only for slots that are free, so back-pressure needs no code.
Reminders travel in groups wherever a commit is involved, and alone only while a provider is asked.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from gateway import policy
from gateway.batcher import Batcher
from gateway.clock import Clock
from gateway.crashpoints import CrashPoint, reached
from gateway.dispatch.commits import CommitObserver, Commits
from gateway.dispatch.hands import Hands
from gateway.dispatch.head import Head
from gateway.dispatch.merge import Merger
from gateway.dispatch.pipeline import Job, Steps
from gateway.dispatch.question import Never, Question
from gateway.dispatch.send import Retries, Sender
from gateway.dispatch.trail import trail_of
from gateway.ids import to_reference
from gateway.ledger import claims, freezes
from gateway.ledger.accept import Slots
from gateway.ledger.claims import Claimed
from gateway.ledger.database import Database
from gateway.ledger.freezes import Freezes
from gateway.ledger.outcomes import Outcome
from gateway.ledger.standing import Rules
from gateway.observability.logs import get_logger
from gateway.personal import Sealed
from gateway.tracing import Tracer
from gateway.worker import Worker

log = get_logger(__name__)

_CUT_SECONDS: Final = 2.0


class DispatchObserver(CommitObserver, Protocol):
    def sent(self, provider: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """`slots` reminders in hand at once, `urgent_share` of them only for urgent; seconds for the waits."""

    slots: int = 256
    urgent_share: float = 0.25
    claim_batch: int = 128
    poll_seconds: float = 0.5
    gather_seconds: float = 0.005
    freeze_refresh_seconds: float = 1.0
    enough_room: int = 64
    room_seconds: float = 0.05


class Dispatcher:
    """Owns every claim of this process from claim to record.  `start`, then `drain`, then `stop`."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        clock: Clock,
        steps: Steps,
        rules: Rules,
        limits: Limits,
        retries: Retries,
        metrics: DispatchObserver,
        on_events: Callable[[], None],
        tracer: Tracer | None = None,
    ) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock
        self._steps = steps
        self._limits = limits
        self._tracer = tracer
        self._metrics = metrics
        self._hands = Hands(limits.slots, limits.urgent_share)
        self._head = Head()
        self._sends: dict[int, asyncio.Task[None]] = {}  # by attempt
        self._asks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._freezes = Freezes({})
        self._claiming = True
        self._more_due = False  # the last claim took all it could: a free slot is worth another
        self._commits = Commits(database, clock, rules, metrics, on_events)
        self._merger = Merger(database, steps, metrics)
        self._sender = Sender(self._commits.intend_again, clock.now, retries)
        self._intents: Batcher[Job] = Batcher("intend", self._intend)
        self._verdicts: Batcher[tuple[Job, policy.Verdict]] = Batcher("settle", self._settle)
        self._outcomes: Batcher[tuple[Job, Outcome]] = Batcher("record", self._record)

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._loops = [
            asyncio.create_task(self._claim_loop(), name="claim"),
            asyncio.create_task(self._freeze_loop(), name="freezes"),
        ]

    def stop_claiming(self) -> None:
        self._claiming = False
        self._wake.set()

    async def drain(self, seconds: float) -> int:
        """Waits for what is in hand, then cuts it off, all in `seconds`; returns how many were cut.

        A send cut off is unknown.
        """
        cut_seconds = min(_CUT_SECONDS, seconds / 2)
        ends = time.monotonic() + seconds - cut_seconds
        self.stop_claiming()
        if self._loops:
            # A claim under way brings more: first that, then what is in hand.
            await asyncio.wait(self._loops[:1], timeout=max(ends - time.monotonic(), 0.0))
        if await self._hands.emptied(max(ends - time.monotonic(), 0.0)):
            return 0
        cut = 0
        ends = time.monotonic() + cut_seconds
        while time.monotonic() < ends:
            # What is intended meanwhile is cut too: until nothing is in hand.
            under_way = [task for task in self._sends.values() if not task.cancelling()]
            for task in under_way:
                task.cancel()
            cut += len(under_way)
            if await self._hands.emptied(0.05):
                break
        return cut

    async def stop(self) -> None:
        for task in (*self._loops, *self._asks):
            task.cancel()
        await asyncio.gather(*self._loops, *self._asks, return_exceptions=True)
        for batcher in (self._intents, self._verdicts, self._outcomes):
            await batcher.flushed()

    @property
    def in_hand(self) -> frozenset[int]:
        """Reminders this process has claimed and not yet recorded."""
        return self._hands.reminders

    # --- claim ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def offer(self) -> Slots | None:
        """Slots for intake's fast path, or None when there are none."""
        free = self._free_for_new()
        if not self._claiming or free <= 0 or not self._worker.lease.stands(1.0):
            return None
        return Slots(self._worker.lease.id, self._worker.ids.next(0), free, self._head.places)

    async def room(self) -> int | None:
        """How many new reminders could go straight on; waits a moment for some.  None: there is none, let them queue.

        What is read ahead of the slots takes the long way through the queue; so a busy process reads as it sends.  But
        it reads: among what comes may be a stop.
        """
        if self._claiming and await self._hands.roomy(self._limits.enough_room, self._limits.room_seconds):
            return self._free_for_new()
        return None

    def _free_for_new(self) -> int:
        return min(self._hands.free_for_bulk, self._limits.slots // 2)

    def take(self, lease_id: int, claimed: Sequence[tuple[Claimed, Sealed]]) -> None:
        """Takes over what intake has claimed for us, with its facts still in memory."""
        lease = self._worker.lease
        if lease.id != lease_id:
            return  # registered anew in between: the claims of the old worker are rescued
        self._begin([Job(each, lease, personal) for each, personal in claimed])

    async def _claim_loop(self) -> None:
        while self._claiming:
            try:
                found = await self._claim_once()
            except Exception as error:
                log.warning("claim_failed", exc_info=error)
                found = 0
                await asyncio.sleep(self._limits.poll_seconds)
            if not found:
                self._wake.clear()
                try:
                    async with asyncio.timeout(self._limits.poll_seconds):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _claim_once(self) -> int:
        if self._more_due and self._hands.free < self._limits.claim_batch:
            # Slots come free one after another; a moment's patience makes one group of them.
            await asyncio.sleep(self._limits.gather_seconds)
        limit = min(self._hands.free, self._limits.claim_batch)
        lease = self._worker.lease
        if limit <= 0 or not lease.stands(1.0):
            self._more_due = True
            return 0
        of_bulk = min(self._hands.free_for_bulk, limit)
        token = self._worker.ids.next(0)
        async with self._database.connection() as connection:
            begin = self._head.begin()
            rows = await claims.claim(connection, lease.id, self._clock.now(), limit, of_bulk, token, begin)
        self._more_due = len(rows) >= min(limit, of_bulk)
        self._head.took(rows, plenty=self._more_due)
        if rows:
            reached(CrashPoint.AFTER_CLAIM)
            # What upstream asked for waits for nothing.
            self._begin([Job(each, lease) for each in rows if each.occasion is None])
            if planned := [Job(each, lease) for each in rows if each.occasion is not None]:
                self._begin(await self._merged(planned))
        return len(rows)

    async def _merged(self, planned: Sequence[Job]) -> Sequence[Job]:
        """Where the ledger does not answer they go back to their queue, rather than alone."""
        try:
            return await self._merger.merge(planned, self._clock.now())
        except Exception as error:
            log.warning("merge_failed", n=len(planned), exc_info=error)
            for job in planned:
                job.unmerged = True
            return planned

    async def _freeze_loop(self) -> None:
        """Saves work on what is frozen; the fence itself is in intend."""
        while True:
            try:
                async with self._database.connection() as connection:
                    self._freezes = await freezes.read(connection, self._clock.now())
            except Exception as error:
                log.warning("freeze_refresh_failed", exc_info=error)
            await asyncio.sleep(self._limits.freeze_refresh_seconds)

    # --- decide, render, route, reserve ---------------------------------------------------------------------------

    def _begin(self, jobs: Sequence[Job]) -> None:
        now = self._clock.now()
        ready = []
        for job in jobs:
            if not self._hands.take(job):
                continue  # its turn comes when the one in hand is released
            if self._tracer is not None:
                job.trail = trail_of(self._tracer, job.claimed)
            try:
                verdict = self._steps.prepare(job, now, self._freezes, self._worker.ids)
            except Exception as error:
                self._give_up(job, error)
                continue
            if verdict is not None:
                self._verdicts.add((job, verdict))
                continue
            if job.trail is not None:
                job.trail.mark("rendered")
            if (question := self._steps.question(job)) is not None:
                task = asyncio.create_task(self._ask(job, question))
                self._asks.add(task)
                task.add_done_callback(self._asks.discard)
            elif self._reserve(job):
                ready.append(job)
        self._intents.extend(ready)

    async def _ask(self, job: Job, question: Question) -> None:
        """Its lender has the last word; then it goes on as the others."""
        try:
            verdict = await question.ask(job.claimed, job.told)
        except Exception as error:
            self._give_up(job, error)
            return
        if isinstance(verdict, Never):
            await self._without(job, verdict)
        elif verdict is not None:
            self._verdicts.add((job, verdict))
        elif self._reserve(job):
            self._intents.add(job)

    async def _without(self, job: Job, other: Never) -> None:
        """Its message is made anew, without the other one: that takes its claim back."""
        try:
            await self._commits.never(other)
        except Exception as error:
            self._give_up(job, error)
        else:
            self._release([job])

    def _reserve(self, job: Job) -> bool:
        """Whether it is reserved at once; else it stands in line, or is sent back to the queue."""
        wait = job.reserve(partial(self._reserved, job))
        if wait == 0:
            job.reserved()
            reached(CrashPoint.AFTER_RESERVE)
        elif wait is not None:
            self._defer(job, wait)
        return wait == 0

    def _reserved(self, job: Job, wait: float) -> None:
        """Its time in line is over, one way or the other."""
        if wait > 0:
            self._defer(job, wait)
            return
        job.reserved()
        reached(CrashPoint.AFTER_RESERVE)
        self._intents.add(job)

    def _defer(self, job: Job, seconds: float) -> None:
        jitter = 1 + random.random()  # noqa: S311  spreads the return, not a secret
        until = self._clock.now() + dt.timedelta(seconds=seconds * jitter)
        self._verdicts.add((job, policy.Defer(until, "provider_busy")))

    # --- intend, send, record -------------------------------------------------------------------------------------

    async def _intend(self, jobs: Sequence[Job]) -> None:
        try:
            found = await self._commits.intend(jobs)
        except Exception as error:
            for job in jobs:
                job.unreserve()
                self._give_up(job, error)
            return
        lost = []
        for job in jobs:
            verdict = found.get(job.attempt)
            if job.attempt in found and verdict is None:
                if job.trail is not None:
                    job.trail.mark("intended")
                reached(CrashPoint.AFTER_INTEND)
                self._sends[job.attempt] = asyncio.create_task(self._send(job))
                continue
            job.unreserve()
            if verdict is None:
                lost.append(job)
            else:
                self._verdicts.add((job, verdict))
        self._release(lost)

    async def _send(self, job: Job) -> None:
        started = time.perf_counter()
        try:
            outcome = await self._sender.send(job)
        except Exception as error:
            self._give_up(job, error)
            return
        finally:
            self._sends.pop(job.attempt, None)
            job.unreserve()
        seconds = time.perf_counter() - started
        self._metrics.sent(outcome.provider, seconds)
        if job.trail is not None:
            job.trail.sent(outcome, seconds)
        self._outcomes.add((job, outcome))

    async def _settle(self, verdicts: Sequence[tuple[Job, policy.Verdict]]) -> None:
        try:
            await self._commits.settle(verdicts)
            for job, verdict in verdicts:
                if job.trail is not None:
                    job.trail.ended(type(verdict).__name__.lower(), rule=verdict.rule)
        finally:
            self._release([job for job, _ in verdicts])

    async def _record(self, done: Sequence[tuple[Job, Outcome]]) -> None:
        try:
            await self._commits.record([outcome for _, outcome in done])
            for job, outcome in done:
                reached(CrashPoint.AFTER_RECORD)
                if job.trail is not None:
                    job.trail.ended(outcome.state.value, attempt=outcome.attempt)
        finally:
            self._release([job for job, _ in done])

    # --- bookkeeping ----------------------------------------------------------------------------------------------

    def _give_up(self, job: Job, error: BaseException) -> None:
        """The claim stays in the ledger: recovery gives it back, or marks the attempt unknown."""
        reminder, attempt = to_reference(job.claimed.id), to_reference(job.attempt)
        log.error("job_failed", reminder=reminder, attempt=attempt, exc_info=error)
        if job.trail is not None:
            job.trail.ended("given_up", attempt=job.attempt, failed=True)
        self._release([job])

    def _release(self, jobs: Sequence[Job]) -> None:
        again = self._hands.release(jobs)
        if self._more_due:
            self._wake.set()
        if again:
            self._begin(again)
