"""One borrower's facts, told to a real ledger by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway import personal
from gateway.cadence import loading
from gateway.ids import IdSource, subject_key
from gateway.intake.planner import Planner
from gateway.ledger import claims, intake, outcomes
from gateway.ledger.claims import Claimed
from gateway.ledger.commands import Origin, Told
from gateway.ledger.outcomes import Outcome
from gateway.sealing import Sealer
from schemas.repayments import Fact
from schemas.vocabulary import AttemptState, Channel, Failure
from tests.integration.by_hand import Hand, hand
from tests.unit.cadence.facts import EARLY

TOPIC = "repayments.events"
SEALER = Sealer({1: b"k" * 32}, 1, b"i" * 32)

USUAL = {
    "d7": "12-03", "d3": "12-07", "due": "12-11", "overdue_early 12-13": "12-13", "overdue_mid 12-17": "12-17",
    "overdue_mid 12-25": "12-25", "overdue_late 01-09": "held fact_missing",
}  # fmt: skip


class Plans:
    """One borrower's facts, told to the ledger."""

    def __init__(self, mine: Hand) -> None:
        self.hand = mine
        self.hand.now = EARLY
        self.ids = IdSource(61, lambda: int(self.hand.now.timestamp() * 1000))
        self.planner = self.planner_of({"harbour": frozenset(Channel)})
        self._offset = 0

    def planner_of(self, reachable: Mapping[str, Collection[Channel]]) -> Planner:
        cadences = loading.load()
        return Planner(
            SEALER,
            cadences,
            lambda lender, product, at: cadences.in_force("default", at.date()),
            reachable,
            lambda: self.ids,
        )

    async def tell(self, *facts: Fact, now: dt.datetime | None = None) -> intake.Result:
        """In one batch."""
        self.hand.now = now or max((self.hand.now, *(each.as_of for each in facts)))
        subject = subject_key("harbour", "b-1")
        told = []
        for fact in facts:
            self._offset += 1
            where, id_ = Origin(TOPIC, 0, self._offset), self.ids.next(subject[0])
            told.append(Told(where, id_, "/core", subject, "harbour", "b-1", fact=fact))
        return await self.hand.tx(
            lambda c: intake.write(
                c, TOPIC, told, {0: self._offset + 1}, self.hand.now, self.hand.rules, planner=self.planner
            )
        )

    async def standing(self) -> dict[str, str]:
        """By occasion: the state of the newest reminder, with its local date while it waits."""
        rows = await self.hand.connection.fetch(
            "select r.stage, r.step, r.send_at, coalesce(l.state::text, e.state::text) as state,"
            " coalesce(l.reason, e.reason) as reason"
            " from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id order by r.id"
        )
        found = {}
        for row in rows:
            name = row["stage"] if not row["step"] else f"{row['stage']} {row['step'][5:]}"
            when = f"{row['send_at'].astimezone(dt.timezone(dt.timedelta(hours=8))):%m-%d}"
            found[name] = when if row["state"] == "scheduled" else f"{row['state']} {row['reason']}"
        return found

    async def leaves(self, at: dt.datetime) -> tuple[Claimed, int]:
        """What is due at that moment is on its way: the claim and the attempt."""
        self.hand.now = at
        worker = await self.hand.worker()
        (claimed,) = await self.hand.claim(worker)
        (attempt,) = (await self.hand.intend(worker, self.hand.intent(claimed))).sendable
        return claimed, attempt

    async def became(self, claimed: Claimed, attempt: int, state: AttemptState, failure: Failure | None) -> None:
        outcome = Outcome(attempt, claimed.id, claimed.subject, "p", state, failure, "code")
        await self.hand.tx(lambda c: outcomes.record(c, [outcome], self.hand.now, self.hand.rules, lambda: 1.0))

    async def reminders(self) -> int:
        return await self.hand.value("select count(*) from reminder")

    async def says(self, stage: str) -> personal.Sealed:
        """What a claim of it would say."""
        worker = await self.hand.worker()
        due = await self.hand.value("select l.at from live l where l.stage = $1", stage)
        rows = await self.hand.tx(lambda c: claims.claim(c, worker.id, due, 100, 100, self.ids.next(0)))
        (mine,) = [each for each in rows if each.stage == stage]
        return personal.decode(SEALER.open(mine.sealed, mine.id, personal.SEALED_FIELD))


async def everything(connection: Any) -> list[tuple[Any, ...]]:
    """All that facts can change, each row behind the name of its table, for two runs to be compared."""
    rows: list[tuple[Any, ...]] = []
    for table, sql in {
        "live": "select id, state::text, reason, at, seq from live order by 1",
        "ending": "select reminder, state::text, reason from ending order by 1",
        "occurrence": "select * from occurrence order by 1, 2, 3, 4, 5",
        "revision": "select reminder, sealed from revision order by 1",
        "outbox": "select bucket, reminder, seq, id from outbox order by 1, 2, 3, 4",
        "merged": "select reminder, leader, along from merged order by 1",
    }.items():
        rows += [(table, *row) for row in await connection.fetch(sql)]
    return rows


@asynccontextmanager
async def plans(dsn: str) -> AsyncIterator[Plans]:
    async with hand(dsn) as mine:
        yield Plans(mine)
