"""From a provider's events to rows that are kept, and from kept rows to moves.

`keep` is what the provider waits for: one grouped commit.  Applying follows at once from memory, in groups; what a
crash leaves behind is parked and swept.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gateway.batcher import Batcher
from gateway.clock import Clock
from gateway.crashpoints import CrashPoint, reached
from gateway.ids import bucket_of, from_reference
from gateway.ledger import receipts
from gateway.ledger.database import Database
from gateway.ledger.follow import Move, Rules
from gateway.ledger.receipts import CallbackToStore, Stored
from gateway.observability.logs import get_logger
from gateway.sealing import Sealer
from gateway.worker import Worker
from providers.contract import Engaged, Inbound, Invalid, KeyPress, ProviderEvent, Receipt
from schemas.vocabulary import AttemptState, Disposition, Failure

log = get_logger(__name__)

# The sweep leaves what this process is about to apply from memory alone for so long.
_SWEEP_AFTER: Final = dt.timedelta(seconds=3)
_MOVED: Final = frozenset({Disposition.APPLIED, Disposition.LATE})
_KEEP_PARKED: Final = dt.timedelta(hours=72)


class ReceiptObserver(Protocol):
    def moved(self, moves: Sequence[Move]) -> None: ...
    def attempt(self, provider: str, outcome: AttemptState, failure: Failure | None) -> None: ...
    def disposed(self, provider: str, disposition: Disposition) -> None: ...
    def receipt_lag(self, provider: str, seconds: float) -> None: ...


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
        sweep_seconds: float = 2.0,
    ) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock
        self._sealer = sealer
        self._rules = rules
        self._metrics = metrics
        self._on_moved = on_moved
        self._sweep_seconds = sweep_seconds
        self._store: Batcher[CallbackToStore, bool] = Batcher("receipts", self._store_group)
        self._apply: Batcher[Stored, None] = Batcher("apply", self._apply_group)
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep_loop(), name="receipt-sweep")

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._store.flushed()
        await self._apply.flushed()

    async def keep(self, provider: str, raw: bytes, replay_key: str | None, events: Sequence[ProviderEvent]) -> bool:
        """Stores one authentic callback; False when it was stored before.  Raises when the ledger cannot store it."""
        now = self._clock.now()
        stored = tuple(
            self._stored(provider, event, now, raw if position == 0 else None) for position, event in enumerate(events)
        )
        key = None
        if replay_key is not None:
            key = self._sealer.fingerprint(f"{provider}\0{replay_key}".encode(), "replay")
        # Shielded: a provider that hangs up must not undo what it has told us.
        first = await asyncio.shield(self._store.submit(CallbackToStore(key, stored)))
        reached(CrashPoint.AFTER_STORE)
        if first:
            for each in stored:
                if each.disposition is None:
                    self._apply.submit(each)
                else:
                    self._metrics.disposed(provider, each.disposition)
        return first

    def _stored(self, provider: str, event: ProviderEvent, now: dt.datetime, raw: bytes | None) -> Stored:
        reference = getattr(event, "attempt", None)
        attempt = None if reference is None else from_reference(reference)
        id_ = self._worker.ids.next(bucket_of(attempt or 0))
        sealed = None if raw is None else self._sealer.seal(raw, id_, "receipt")
        sweep_at = now + _SWEEP_AFTER
        match event:
            case Receipt(state, code, _, ref, failure, occurred_at):
                return Stored(
                    id_,
                    provider,
                    "receipt",
                    code[:64],
                    now,
                    sweep_at,
                    attempt,
                    ref,
                    state,
                    failure,
                    occurred_at,
                    sealed,
                )
            case Engaged(kind, _, ref, occurred_at):
                return Stored(
                    id_, provider, "engaged", kind, now, sweep_at, attempt, ref,
                    occurred_at=occurred_at, sealed=sealed,
                )  # fmt: skip
            case KeyPress(_, _, ref, occurred_at):
                return Stored(
                    id_, provider, "engaged", "key_pressed", now, sweep_at, attempt, ref,
                    occurred_at=occurred_at, sealed=sealed,
                )  # fmt: skip
            case Inbound(ref, _, _, _, occurred_at):
                return Stored(
                    id_, provider, "inbound", "inbound", now, sweep_at, None, ref,
                    occurred_at=occurred_at, sealed=sealed, disposition=Disposition.UNMATCHED,
                )  # fmt: skip
            case Invalid(code):
                return Stored(
                    id_, provider, "invalid", code[:64], now, sweep_at,
                    sealed=sealed, disposition=Disposition.INVALID,
                )  # fmt: skip

    async def _store_group(self, callbacks: Sequence[CallbackToStore]) -> list[bool]:
        now = self._clock.now()
        return await self._database.transaction(lambda c: receipts.store(c, callbacks, now), attempts=2)

    async def _apply_group(self, group: Sequence[Stored]) -> list[None]:
        await self._apply_now(group)
        return [None] * len(group)

    async def _apply_now(self, group: Sequence[Stored]) -> None:
        now = self._clock.now()
        disposed, moves = await self._database.transaction(
            lambda c: receipts.apply(c, group, now, self._rules, random.random, _KEEP_PARKED)
        )
        self._metrics.moved(moves)
        for each in disposed:
            self._metrics.disposed(each.receipt.provider, each.disposition)
            if each.receipt.state is not None and each.disposition in _MOVED:
                self._metrics.attempt(each.receipt.provider, each.receipt.state, each.receipt.failure)
            if each.handed_over_at is not None:
                lag = (each.receipt.received_at - each.handed_over_at).total_seconds()
                self._metrics.receipt_lag(each.receipt.provider, max(lag, 0.0))
        if moves:
            self._on_moved()

    async def _sweep_loop(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_seconds * (0.5 + random.random()))  # noqa: S311  spreads replicas
            try:
                await self._sweep()
            except Exception as error:
                log.warning("receipt_sweep_failed", exc_info=error)

    async def _sweep(self) -> None:
        while True:
            async with self._database.connection() as connection:
                ripe = await receipts.ripe(connection, self._clock.now())
            if not ripe:
                return
            await self._apply_now(ripe)
