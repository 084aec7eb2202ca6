"""The dispatcher: claims what is due as slots are free and takes it through the pipeline.

Two lanes: a part of the slots is kept for urgent, so bulk never delays it.  Capacity comes first, work second: rows
are claimed only for slots that are free, so back-pressure needs no code.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway import policy
from gateway.batcher import Batcher
from gateway.clock import Clock
from gateway.crashpoints import CrashPoint, reached
from gateway.dispatch.pipeline import Job, Steps
from gateway.dispatch.send import Retries, Sender
from gateway.ledger import claims, freezes, intend, outcomes
from gateway.ledger.accept import Slots
from gateway.ledger.claims import Claimed
from gateway.ledger.database import Database
from gateway.ledger.follow import Move, Rules
from gateway.ledger.freezes import Freezes
from gateway.ledger.outcomes import Outcome, Verdict
from gateway.observability.logs import get_logger
from gateway.personal import Sealed
from gateway.worker import Lease, Worker
from schemas.vocabulary import AttemptState, Failure, Lane, Reason

log = get_logger(__name__)


class DispatchObserver(Protocol):
    def moved(self, moves: Sequence[Move]) -> None: ...
    def attempt(self, provider: str, outcome: AttemptState, failure: Failure | None) -> None: ...
    def sent(self, provider: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """`slots` reminders in hand at once, `urgent_share` of them only for urgent; seconds for the waits."""

    slots: int = 128
    urgent_share: float = 0.25
    claim_batch: int = 64
    poll_seconds: float = 0.5
    freeze_refresh_seconds: float = 1.0
    longest_reserve_wait: float = 1.0


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
    ) -> None:
        self._on_events = on_events
        self._database = database
        self._worker = worker
        self._clock = clock
        self._steps = steps
        self._rules = rules
        self._limits = limits
        self._metrics = metrics
        self._free = {Lane.BULK: limits.slots - int(limits.slots * limits.urgent_share), Lane.URGENT: limits.slots}
        self._in_hand: dict[int, Job] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._freezes = Freezes(frozenset())
        self._claiming = True
        self._more_due = False  # the last claim took all it could: a free slot is worth another
        self._sender = Sender(self._intend_again, clock.now, retries)
        self._intents: Batcher[Job, bool] = Batcher("intend", self._intend)
        self._verdicts: Batcher[tuple[Verdict, int], None] = Batcher("settle", self._settle)
        self._outcomes: Batcher[Outcome, None] = Batcher("record", self._record)

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
        """Waits for what is in hand, then cuts it off; returns how many were cut.  A send cut off is unknown."""
        self.stop_claiming()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=seconds)
        cut = [task for task in self._jobs if not task.done()]
        for task in cut:
            task.cancel()
        if cut:
            await asyncio.wait(cut, timeout=2.0)
        return len(cut)

    async def stop(self) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        for batcher in (self._intents, self._verdicts, self._outcomes):
            await batcher.flushed()

    @property
    def in_hand(self) -> frozenset[int]:
        """Reminders this process has claimed and not yet recorded."""
        return frozenset(self._in_hand)

    # --- claim ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def offer(self) -> Slots | None:
        """Slots for intake's fast path, or None when there are none."""
        free = min(self._free[Lane.BULK], self._limits.slots // 2)
        if not self._claiming or free <= 0 or not self._worker.lease.stands(1.0):
            return None
        return Slots(self._worker.lease.id, self._worker.ids.next(0), free)

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
                    await asyncio.wait_for(self._wake.wait(), self._limits.poll_seconds)
                except TimeoutError:
                    continue

    async def _claim_once(self) -> int:
        found, more = 0, False
        for lane in (Lane.URGENT, Lane.BULK):
            limit = min(self._free[lane], self._free[Lane.URGENT], self._limits.claim_batch)
            lease = self._worker.lease
            if limit <= 0 or not lease.stands(1.0):
                more = True
                continue
            token = self._worker.ids.next(0)
            async with self._database.connection() as connection:
                rows = await claims.claim(connection, lease.id, lane, self._clock.now(), limit, token)
            if rows:
                reached(CrashPoint.AFTER_CLAIM)
                self._begin([Job(each, lease) for each in rows])
            found += len(rows)
            more = more or len(rows) == limit
        self._more_due = more
        return found

    async def _freeze_loop(self) -> None:
        """Saves work on what is frozen; the fence itself is in intend."""
        while True:
            try:
                async with self._database.connection() as connection:
                    self._freezes = await freezes.read(connection, self._clock.now())
            except Exception as error:
                log.warning("freeze_refresh_failed", exc_info=error)
            await asyncio.sleep(self._limits.freeze_refresh_seconds)

    # --- the pipeline ---------------------------------------------------------------------------------------------

    def _begin(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.claimed.id in self._in_hand:
                continue  # handed over twice: the first still has it
            self._in_hand[job.claimed.id] = job
            self._take_slot(job.claimed.lane, 1)
            task = asyncio.create_task(self._run(job))
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)

    def _take_slot(self, lane: Lane, n: int) -> None:
        self._free[Lane.URGENT] -= n
        if lane is Lane.BULK:
            self._free[Lane.BULK] -= n

    async def _run(self, job: Job) -> None:
        claimed = job.claimed
        try:
            await self._steps_of(job)
        except Exception as error:
            # The claim stays in the ledger: recovery gives it back, or marks the attempt unknown.
            log.error("job_failed", reminder=claimed.id, attempt=job.attempt, exc_info=error)
        finally:
            del self._in_hand[claimed.id]
            self._take_slot(claimed.lane, -1)
            if self._more_due:
                self._wake.set()

    async def _steps_of(self, job: Job) -> None:
        now = self._clock.now()
        verdict = self._steps.prepare(job, now, self._freezes, self._worker.ids) or await self._reserve(job, now)
        if verdict is not None:
            await self._verdicts.submit((_verdict(job.claimed, verdict), job.lease.id))
            return
        provider = job.provider
        assert provider is not None
        try:
            reached(CrashPoint.AFTER_RESERVE)
            if not await self._intents.submit(job):
                return
            reached(CrashPoint.AFTER_INTEND)
            started = time.perf_counter()
            outcome = await self._sender.send(job)
            self._metrics.sent(provider.name, time.perf_counter() - started)
        finally:
            provider.reservation.done()
        await asyncio.shield(self._outcomes.submit(outcome))
        reached(CrashPoint.AFTER_RECORD)

    async def _reserve(self, job: Job, now: dt.datetime) -> policy.Verdict | None:
        """Waits a moment for a slot or a token; longer waits go back to the queue, where they cost nothing."""
        provider = job.provider
        assert provider is not None
        waited = 0.0
        while (wait := provider.reservation.take(job.claimed.template)) > 0:
            if waited + wait > self._limits.longest_reserve_wait:
                jitter = 1 + random.random()  # noqa: S311  spreads the return, not a secret
                return policy.Defer(now + dt.timedelta(seconds=wait * jitter), "provider_busy")
            await asyncio.sleep(wait)
            waited += wait
        return None

    # --- grouped commits ------------------------------------------------------------------------------------------

    async def _intend(self, jobs: Sequence[Job]) -> list[bool]:
        permitted: dict[int, bool] = {}
        for lease in {id(job.lease): job.lease for job in jobs}.values():
            mine = [job for job in jobs if job.lease is lease]
            permitted.update(await self._intend_for(lease, mine))
        return [permitted.get(job.attempt, False) for job in jobs]

    async def _intend_for(self, lease: Lease, jobs: Sequence[Job]) -> dict[int, bool]:
        intents = [job.intent for job in jobs if job.intent is not None]
        now = self._clock.now()
        try:
            done = await self._database.transaction(lambda c: intend.intend(c, lease.id, intents, now), attempts=1)
        except Exception as error:
            # The COMMIT may have happened.  What is there under our claim may be sent; what is not is dropped.
            log.warning("intend_uncertain", n=len(intents), exc_info=error)
            async with self._database.connection() as connection:
                present = await intend.read_back(connection, lease.id, intents)
            done = intend.Intended(present, frozenset(), frozenset())
        for job in jobs:
            if job.attempt in done.frozen or job.attempt in done.stopped:
                reason = Reason.FROZEN if job.attempt in done.frozen else Reason.STOP_UNREADABLE
                held = _verdict(job.claimed, policy.Hold(reason, str(reason)))
                self._verdicts.submit((held, lease.id))
        for intent in intents:
            if intent.attempt in done.sendable:
                self._metrics.attempt(intent.provider, AttemptState.INTENDED, None)
        return dict.fromkeys(done.sendable, True)

    async def _intend_again(self, job: Job) -> bool:
        intent = job.intent
        assert intent is not None
        now = self._clock.now()
        try:
            done = await self._database.transaction(lambda c: intend.again(c, job.lease.id, [intent], now))
        except Exception as error:
            log.warning("intend_again_failed", attempt=job.attempt, exc_info=error)
            return False
        return job.attempt in done.sendable

    async def _settle(self, verdicts: Sequence[tuple[Verdict, int]]) -> list[None]:
        for lease_id in {lease_id for _, lease_id in verdicts}:
            mine = [verdict for verdict, owner in verdicts if owner == lease_id]
            self._metrics.moved(await self._settle_for(lease_id, mine))
        self._on_events()
        return [None] * len(verdicts)

    async def _settle_for(self, lease_id: int, verdicts: Sequence[Verdict]) -> list[Move]:
        now = self._clock.now()
        return await self._database.transaction(lambda c: outcomes.settle(c, lease_id, verdicts, now, self._rules))

    async def _record(self, done: Sequence[Outcome]) -> list[None]:
        """Until it is written: an outcome that is lost would end as unknown."""
        moves = await self._record_once(done)
        while moves is None:
            await asyncio.sleep(0.5)
            moves = await self._record_once(done)
        self._on_events()
        self._metrics.moved(moves)
        for each in done:
            self._metrics.attempt(each.provider, each.state, each.failure)
        return [None] * len(done)

    async def _record_once(self, done: Sequence[Outcome]) -> list[Move] | None:
        now = self._clock.now()
        try:
            return await self._database.transaction(lambda c: outcomes.record(c, done, now, self._rules, random.random))
        except Exception as error:
            log.error("record_failed", n=len(done), exc_info=error)
            return None


def _verdict(claimed: Claimed, verdict: policy.Verdict) -> Verdict:
    match verdict:
        case policy.Expire(rule):
            return Verdict(claimed.id, claimed.token, rule, "{}", expire=True)
        case policy.Hold(reason, rule):
            return Verdict(claimed.id, claimed.token, rule, "{}", hold=reason)
        case policy.Suppress(reason, rule):
            return Verdict(claimed.id, claimed.token, rule, "{}", suppress=reason)
        case policy.Defer(until, rule):
            return Verdict(claimed.id, claimed.token, rule, "{}", defer_until=until)
        case policy.Send():
            raise AssertionError("a send verdict is stored by intend")
