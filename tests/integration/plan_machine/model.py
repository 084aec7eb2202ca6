"""The state of one example: who is who, what was told, what has left, and the odds."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from hypothesis.stateful import RuleBasedStateMachine

from gateway import ids
from gateway.cadence import loading
from gateway.content import Catalogue
from gateway.dispatch.merge import Merger
from gateway.dispatch.pipeline import Job, Steps
from gateway.ledger import workers
from gateway.ledger.database import Database
from gateway.ledger.freezes import Freezes
from gateway.ledger.standing import Rules
from gateway.parameters import max_fact_ages
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Failure, Mode
from tests.integration.by_hand import Hand
from tests.integration.plan_machine.brakes import LENDER, PROVIDERS, Brakes
from tests.integration.plan_machine.truth import Truth
from tests.integration.plans_by_hand import SEALER

DEBTS: Final = {"b-1": ("loan-1", "loan-2", "loan-3"), "b-2": ("loan-1", "loan-2")}
ZONES: Final = ("Europe/Berlin", "Asia/Shanghai", "America/New_York")
# Five days before the clocks of Berlin go forward, and back, and a quiet time.
STARTS: Final = tuple(dt.datetime(2026, month, day, 8, tzinfo=dt.UTC) for month, day in ((3, 24), (10, 20), (11, 20)))
RULES: Final = Rules(
    default_receipt_window=dt.timedelta(hours=6), max_tries=3, max_rescues=3, routes={LENDER: PROVIDERS}
)
CADENCES: Final = loading.load()
STEPS: Final = Steps(Catalogue.load(), SEALER, {}, {}, Mode.LIVE, None, max_fact_ages=max_fact_ages(CADENCES))

WEIGHTS: Final = {
    "plan": 4, "pay": 4, "stop": 2, "resume": 2, "reschedule": 2, "debit failed": 3, "move": 2, "prefer": 2, "opt": 2,
    "evidence": 1, "request": 2, "claim": 6, "intend": 6, "claim and intend": 10, "told in hand": 12, "cancel": 1,
    "next contact": 10, "record": 8, "receipt": 4, "lose lease": 1, "rescue": 2, "time": 3, "next": 10,
}  # fmt: skip
OPERATIONS: Final = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
FREEZES: Final = {"freeze": 8, "lift": 6, "frozen in hand": 20, "next contact": 14, "thaw": 6, "consequence": 4}
WITH_FREEZES: Final = [*OPERATIONS, *(name for name, weight in FREEZES.items() for _ in range(weight))]
OUTCOMES: Final[list[tuple[A, Failure | None]]] = [
    (A.ACCEPTED, None),
    (A.ACCEPTED, None),
    (A.ACCEPTED, None),
    (A.UNKNOWN, Failure.AMBIGUOUS),
    (A.NOT_SENT, Failure.TRANSIENT),
    (A.REJECTED, Failure.BAD_RECIPIENT),
    (A.REJECTED, Failure.BAD_RECIPIENT),
    (A.REJECTED, Failure.BUG),
]
RECEIPTS: Final = [A.DELIVERED, A.DELIVERED, A.UNDELIVERED, A.NO_ANSWER]


@dataclass
class Sent:
    """A message that was allowed to leave."""

    attempt: int
    reminder: int
    who: str
    step: int
    day: dt.date
    first: bool
    planned: bool
    known: int  # how many facts had been told
    told: int  # of how many others it tells
    provider: str
    recorded: bool = False


class Nobody:
    def moved(self, moves: Any) -> None: ...


class Model(RuleBasedStateMachine):
    dsn: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.random = random.Random(7)
        self.truth = Truth()
        self.brakes = Brakes()
        self.heard_of: dict[int, Freezes] = {}  # by worker: the freezes that it has heard of last
        self.now = STARTS[0]
        self.step = 0
        self.known_at: dict[str, int] = {}  # borrower -> the step at which something became known of him
        self.offset = 0
        self.sent: dict[int, Sent] = {}
        self.told_in: dict[int, list[int]] = {}  # by reminder, the contacts whose message tells of it, too
        self.suppressed: set[int] = set()
        self.jobs: dict[int, dict[int, Job]] = {}  # by worker: what it has claimed, by reminder
        self.workers: dict[int, workers.Worker] = {}
        self.history: dict[int, str] = {}
        self.endings: dict[int, tuple[str, int]] = {}

    async def open(self) -> None:
        self.connection = await asyncpg.connect(self.dsn)
        self.hand = Hand(self.connection, RULES)
        await self.hand.clear()
        self.database = Database(self.dsn, size=1, statement_timeout_ms=10_000)
        await self.database.open()
        self.merger = Merger(self.database, STEPS, Nobody())
        self.ids = ids.IdSource(61)
        for slot in (0, 1):
            await self.register(slot)

    async def register(self, slot: int) -> None:
        self.workers[slot] = worker = await workers.register(self.connection, dt.timedelta(hours=1))
        self.jobs[worker.id] = {}

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def tx(self, work: Any) -> Any:
        async with self.connection.transaction():
            return await work(self.connection)

    def tick(self) -> dt.datetime:
        """No two things happen at one moment."""
        self.now += dt.timedelta(milliseconds=1)
        return self.now
