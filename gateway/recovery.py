"""Recovery: what nobody's memory holds any more: dead workers' claims, forgotten claims, ripe timers, what no freeze
holds any more, whose facts are fresh again, and whose plans have a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gateway.clock import ProcessClock
from gateway.ids import to_reference
from gateway.ledger import claims, outcomes, releases, replan, schema, stale, timers, workers
from gateway.ledger.database import Database
from gateway.ledger.standing import Move, Rules
from gateway.ledger.wanted import FactsBroken, LenderGone, Planner
from gateway.observability.logs import get_logger
from gateway.sealing import KeyUnknown
from gateway.worker import Worker
from schemas.vocabulary import AttemptState, Failure, Reason, ReminderState

log = get_logger(__name__)

_MOST_RELEASES: Final = 20
_MOST_PLANS: Final = 200


class RecoveryObserver(Protocol):
    def moved(self, moves: Sequence[Move]) -> None: ...
    def attempt(self, provider: str, outcome: AttemptState, failure: Failure | None) -> None: ...
    def born(self, state: ReminderState, reason: Reason | None, n: int = 1) -> None: ...
    def rescued(self, kind: str, n: int) -> None: ...


class Recovery:
    """Runs its rounds every `seconds`, each bounded and repeatable by any number of processes."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        clock: ProcessClock,
        rules: Rules,
        in_hand: Callable[[], frozenset[int]],
        metrics: RecoveryObserver,
        on_due: Callable[[], None],
        planner: Planner | None = None,
        sends: bool = True,
        seconds: float = 2.0,
    ) -> None:
        """`planner`: None where no facts are read.

        `sends`: this process sends, too.  Only such a one gives what a freeze has held its turn: while none does, all
        of it would come to its turn, and leave at once when one does again.
        """
        self._database = database
        self._worker = worker
        self._clock = clock
        self._rules = rules
        self._in_hand = in_hand
        self._metrics = metrics
        self._on_due = on_due
        self._planner = planner
        self._sends = sends
        self._seconds = seconds
        self._suspects: dict[int, int] = {}
        self._planned_to = 0  # the last reminder whose borrower was planned anew, or could not be
        self._unplanned: set[int] = set()  # told of
        self._partitions_on: dt.date | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="recovery")

    def wake(self) -> None:
        """Something may be ripe before the next round."""
        self._wake.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        rounds = (
            self._set_clock,
            self._rescue_dead,
            self._give_back_forgotten,
            self._fire_timers,
            self._plan_anew,
            *((self._refresh, self._release) if self._sends else ()),
            self._make_partitions,
        )
        while True:
            self._wake.clear()
            for each in rounds:
                try:
                    await each()
                except Exception as error:
                    log.warning("recovery_round_failed", round=each.__name__, exc_info=error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds * (0.5 + random.random())):  # noqa: S311  spreads replicas
                    await self._wake.wait()

    async def _set_clock(self) -> None:
        """Our monotonic clock may drift, or stand still while the machine sleeps."""
        async with self._database.connection() as connection:
            self._clock.anchor(await workers.clock(connection))

    async def _rescue_dead(self) -> None:
        async with self._database.connection() as connection:
            dead = await workers.dead(connection)
        for worker in dead:
            while moves := await self._rescue(worker):
                self._note(moves, "dead worker")
            async with self._database.connection() as connection:
                await workers.remove(connection, worker)

    async def _rescue(self, worker: int) -> list[Move]:
        now = self._clock.now()
        return await self._database.transaction(lambda c: outcomes.rescue(c, worker, now, self._rules, random.random))

    async def _give_back_forgotten(self) -> None:
        """A claim of ours that memory does not know in two rounds running belongs to a commit whose answer was lost."""
        lease = self._worker.lease
        async with self._database.connection() as connection:
            held = await claims.held_by(connection, lease.id)
        in_hand = self._in_hand()
        unknown = {reminder: token for reminder, token in held.items() if reminder not in in_hand}
        forgotten = {each: token for each, token in unknown.items() if self._suspects.get(each) == token}
        self._suspects = unknown
        if forgotten:
            moves = await self._database.transaction(
                lambda c: outcomes.give_back(c, lease.id, forgotten, self._clock.now(), self._rules, random.random)
            )
            self._note(moves, "forgotten")

    def _note(self, moves: Sequence[Move], why: str) -> None:
        self._metrics.moved(moves)
        self._count_attempts(moves, AttemptState.UNKNOWN)
        unknown = sum(1 for move in moves if move.was.state == "sending")
        kinds = {"intended": unknown, "unintended" if why == "dead worker" else "forgotten": len(moves) - unknown}
        for kind, n in kinds.items():
            self._metrics.rescued(kind, n)
        log.warning("rescued", why=why, n=len(moves), unknown=unknown)
        self._on_due()

    def _count_attempts(self, moves: Sequence[Move], state: AttemptState) -> None:
        for move in moves:
            for each in move.was.attempts:
                if each.state is state and (each.final_at == move.now or state is AttemptState.UNKNOWN):
                    self._metrics.attempt(each.provider, state, each.failure)

    async def _fire_timers(self) -> None:
        while True:
            moves = await self._database.transaction(lambda c: timers.fire(c, self._clock.now(), self._rules))
            self._metrics.moved(moves)
            self._count_attempts(moves, AttemptState.UNCONFIRMED)
            if moves:
                self._on_due()
            if len(moves) < 100:
                return

    async def _plan_anew(self) -> None:
        """One borrower at a time, each round behind the last one's end: who cannot be planned keeps nobody else."""
        if self._planner is None:
            return
        async with self._database.connection() as connection:
            waiting = await replan.waiting(connection, self._planned_to, _MOST_PLANS)
        for self._planned_to in waiting:
            await self._plan(self._planner, self._planned_to)
        if len(waiting) < _MOST_PLANS:
            self._planned_to = 0

    async def _plan(self, planner: Planner, reminder: int) -> None:
        now = self._clock.now()
        try:
            done = await self._database.transaction(lambda c: replan.plan(c, reminder, now, self._rules, planner))
        except (FactsBroken, KeyUnknown, LenderGone) as error:
            if reminder not in self._unplanned:  # it is tried again in every round
                self._unplanned.add(reminder)
                log.error("replan_failed", reminder=to_reference(reminder), error=type(error).__name__)
            return
        self._unplanned.discard(reminder)
        self._metrics.moved(done.moves)
        for each in done.accepted:
            self._metrics.born(each.state, each.reason)
        if done.accepted:
            log.info("planned_anew", reminder=to_reference(reminder), n=len(done.accepted))
            self._on_due()

    async def _refresh(self) -> None:
        """Whose facts are fresh again waits for his turn; `_release` gives it."""
        for _ in range(_MOST_RELEASES):
            if not await self._database.transaction(lambda c: stale.turn(c, self._clock.now())):
                return

    async def _release(self) -> None:
        """The timetable keeps the pace; the bound keeps the other rounds from waiting."""
        for _ in range(_MOST_RELEASES):
            done = await self._database.transaction(lambda c: releases.release(c, self._clock.now(), self._rules))
            self._metrics.moved(done.moves)
            self._count_attempts(done.moves, AttemptState.UNCONFIRMED)
            if done.moves:
                self._on_due()
            if not done.more:
                return

    async def _make_partitions(self) -> None:
        today = self._clock.now().date()
        if self._partitions_on != today:
            made = await self._database.transaction(lambda c: schema.ensure_partitions(c, self._clock.now()))
            self._partitions_on = today
            if made:
                log.info("partitions_made", n=len(made))
