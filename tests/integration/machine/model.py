"""What the machine knows by itself: who is who, the odds, and the provider's own truth of every message."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from dataclasses import dataclass, replace
from typing import Any, Final

from hypothesis.stateful import RuleBasedStateMachine

from gateway import ids
from gateway.ledger import claims, workers
from gateway.ledger.commands import Request, Stop
from gateway.ledger.quotas import Quota, Quotas
from gateway.ledger.standing import Rules
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Failure

TOPIC = "reminders.requests"
LENDER = "acme"
START = dt.datetime(2026, 11, 2, 9, tzinfo=dt.UTC)
RULES = Rules(
    default_receipt_window=dt.timedelta(minutes=10),
    backoff_base=dt.timedelta(seconds=30),
    max_tries=3,
    max_rescues=2,
    resend=frozenset(),
)


def rules(*, resend: bool) -> Rules:
    """Under `wait`, or with `resend` at every stage that the machine asks for."""
    stages = frozenset({("p", "d3"), ("p", "due")} if resend else ())
    return replace(RULES, resend=stages)


# What the last one says in a call is for ever, so only one says it: the others keep the machine busy.
PER_HOUR: Final = 6  # of the lender, so that an hour is now and then used up
QUOTAS: Final = Quotas(lenders={LENDER: Quota(per_hour=PER_HOUR)})
BORROWERS = ("b1", "b2", "b3")
SAYS_NO_MORE = "b3"


WEIGHTS = {
    "request": 6, "request again": 1, "read again": 1, "cancel": 2, "unreadable stop": 1, "claim": 3, "intend": 4,
    "claim and intend": 8, "record": 8, "receipts": 4, "no more": 2, "lose lease": 1, "rescue": 2, "time": 1,
    "freeze": 1, "unfreeze": 2, "redrive": 2, "held and let go": 2, "paused": 2, "unreadable request": 1, "settle": 3,
    "retry": 1,
}  # fmt: skip
OPERATIONS = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
OUTCOMES: list[tuple[A, Failure | None]] = [
    (A.ACCEPTED, None),
    (A.ACCEPTED, None),
    (A.UNKNOWN, Failure.AMBIGUOUS),
    (A.UNKNOWN, Failure.AMBIGUOUS),
    (A.NOT_SENT, Failure.TRANSIENT),
    (A.REJECTED, Failure.BAD_RECIPIENT),
    (A.REJECTED, Failure.THROTTLED),
    (A.REJECTED, Failure.OPTED_OUT),
    (A.REJECTED, Failure.BUG),
]
RECEIPTS = [A.SENT, A.DELIVERED, A.UNDELIVERED, A.NO_ANSWER, A.DECLINED, A.TTL_EXPIRED]


@dataclass
class Sent:
    """One message the provider may have: the model's truth."""

    attempt: int
    reminder: int
    worker: int
    taken: bool | None = None  # None until the provider has answered
    recorded: bool = False
    undelivered: bool = False
    accepted: bool = False  # by an answer that was recorded


class Model(RuleBasedStateMachine):
    """The state of one example, and its connection."""

    dsn: str = ""
    numbers: Rules = RULES
    occasion: str | None = None  # that what is requested stands for, as if it were planned

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = START
        self.offset = 0
        self.random = random.Random(7)
        self.sent: dict[int, Sent] = {}
        self.claimed: dict[int, dict[int, claims.Claimed]] = {}
        self.requests: list[Request] = []
        self.stops: list[tuple[Stop, int]] = []
        self.opted_out: set[bytes] = set()
        self.history: dict[int, str] = {}
        self.endings: dict[int, tuple[str, int]] = {}
        self.step = 0
        self.intended_at_step: dict[int, int] = {}
        self.arrived: set[int] = set()
        self.unread: dict[int, bytes] = {}  # dead letters that may be a borrower's stop, and whose
        self.buried: dict[int, Request] = {}  # dead letters that are requests, once somebody has mended what was wrong
        self.freezes: dict[tuple[str, str], dt.datetime | None] = {}  # in force, until when
        self.places: set[dt.datetime] = set()  # of the timetable by which what a freeze has held leaves
        self.sent_in: dict[dt.datetime, int] = {}  # hour -> attempts that its quota has allowed

    def is_frozen(self) -> bool:
        """Everything, since all is of one source and one lender."""
        return any(until is None or until > self.now for until in self.freezes.values())

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def tx(self, work: Any) -> Any:
        async with self.connection.transaction():
            return await work(self.connection)

    def new_ids(self, number: int) -> ids.IdSource:
        return ids.IdSource(number)

    async def register(self, slot: int) -> None:
        worker = await workers.register(self.connection, dt.timedelta(hours=1))
        self.workers[slot] = worker
        self.ids = self.new_ids(worker.number)
        self.claimed[worker.id] = {}
