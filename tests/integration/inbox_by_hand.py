"""A receipt inbox on a real Postgres, at a business time that stands still, and what it has told others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg

from gateway.clock import VirtualClock
from gateway.ids import IdSource, to_reference
from gateway.ledger.database import Database
from gateway.ledger.standing import Move
from gateway.observability import logs
from gateway.receipts.inbox import ReceiptInbox
from gateway.sealing import Sealer
from providers.contract import ProviderEvent, Receipt
from schemas.vocabulary import AttemptState, Disposition, Failure, FailureScope
from tests.integration.by_hand import Hand, Sending, hand
from tests.stack.scene import until


class Bench:
    """The inbox under test and everything around it."""

    def __init__(self, mine: Hand, database: Database, answer_seconds: float, burst_seconds: float) -> None:
        self.hand = mine
        self.clock = VirtualClock(mine.now)
        self.moves: list[Move] = []
        self.dispositions: list[tuple[str, Disposition]] = []
        self.failures: list[tuple[str, Failure, FailureScope, str, float]] = []
        self._callbacks = 0
        self.sealer = Sealer({1: b"k" * 32}, 1, b"i" * 32)
        self.inbox = ReceiptInbox(
            database,
            SimpleNamespace(ids=IdSource(62)),  # type: ignore[arg-type]  # of a worker it needs only that
            self.clock,
            self.sealer,
            mine.rules,
            self,
            lambda: None,
            lambda *failure: self.failures.append(failure),
            sweep_seconds=0.05,
            answer_seconds=answer_seconds,
            burst_seconds=burst_seconds,
        )

    # --- what the inbox tells its metrics -------------------------------------------------------------------------

    def moved(self, moves: Sequence[Move]) -> None:
        self.moves += moves

    def attempt(self, provider: str, outcome: AttemptState, failure: Failure | None, was: AttemptState | None) -> None:
        pass

    def disposed(self, provider: str, disposition: Disposition) -> None:
        self.dispositions.append((provider, disposition))

    def receipt_lag(self, provider: str, seconds: float) -> None:
        pass

    # --- what a test does -----------------------------------------------------------------------------------------

    async def keep(self, *receipts: ProviderEvent, replay: str | None = None) -> bool:
        """One callback, a new one unless `replay` says otherwise."""
        self._callbacks += 1
        return await self.inbox.keep("p", b"raw", replay or f"callback-{self._callbacks}", receipts)

    async def accepted(self, n: int, **request: Any) -> list[Sending]:
        """So many reminders of as many borrowers, each handed over to the provider."""
        mine = self.hand
        requests = [mine.request(**request) for _ in range(n)]
        await mine.read(*requests)
        worker = await mine.worker()
        claimed = {each.id: each for each in await mine.claim(worker, n)}
        intents = {each.id: mine.intent(claimed[each.id]) for each in requests}
        assert len((await mine.intend(worker, *intents.values())).sendable) == n
        sendings = [Sending(each, worker, claimed[each.id], intents[each.id].attempt) for each in requests]
        for each in sendings:
            await mine.record(each, AttemptState.ACCEPTED)
        return sendings

    async def counts(self) -> tuple[int, int]:
        """How many receipts there are, and how many of them are parked."""
        [row] = await self.hand.connection.fetch("select (select count(*) from receipt), (select count(*) from parked)")
        return tuple(row)

    async def swept(self) -> None:
        async def empty() -> bool:
            return not await self.hand.value("select count(*) from parked")

        await until(empty, "end of the sweep", within=10, every=0.01)

    async def stored(self, sending: Sending) -> list[str | None]:
        """The dispositions of the receipts for an attempt, in the order in which they came."""
        rows = await self.hand.connection.fetch(
            "select disposition from receipt where attempt = $1 or ref = $2 order by id",
            sending.attempt,
            f"ref-{sending.attempt}",
        )
        return [row[0] for row in rows]


def receipt(sending: Sending, state: AttemptState = AttemptState.DELIVERED, **says: Any) -> Receipt:
    """The provider's word about an attempt, by our own reference."""
    return Receipt(state, **({"code": "c", "attempt": to_reference(sending.attempt)} | says))


@asynccontextmanager
async def bench(
    dsn: str, *, sweeps: bool = True, answer_seconds: float = 5.0, burst_seconds: float = 60.0
) -> AsyncIterator[Bench]:
    """Without `sweeps` what is parked stays parked until the test starts the inbox.  Many at once are a burst here
    however slow the machine is, unless `burst_seconds` says otherwise.
    """
    logs.setup()  # structlog's own default writes whole tracebacks, and takes a second for each
    database = Database(dsn, size=4, statement_timeout_ms=5000)
    await database.open()
    try:
        async with hand(dsn) as mine:
            made = Bench(mine, database, answer_seconds, burst_seconds)
            if sweeps:
                await made.inbox.start()
            try:
                yield made
            finally:
                await made.inbox.stop()
    finally:
        await database.close()


@asynccontextmanager
async def locked(dsn: str, sending: Sending) -> AsyncIterator[None]:
    """Somebody else is at work on this borrower."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            assert await connection.fetchval(
                "select 1 from subject where key = $1 for no key update", sending.request.subject
            )
            yield
    finally:
        await connection.close()
