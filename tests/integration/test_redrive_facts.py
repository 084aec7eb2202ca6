"""Redriving dead facts: read by the decoder of facts, planned as intake plans, counted as made by hand."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from gateway.cadence import loading
from gateway.cadence.model import Cadence
from gateway.clock import VirtualClock
from gateway.content import Catalogue
from gateway.ids import IdSource, subject_key
from gateway.intake.decode import Decoder, LenderFacts, Record
from gateway.intake.decode_facts import FactDecoder
from gateway.intake.planner import Planner
from gateway.ledger import intake, sums
from gateway.ledger.database import Database
from gateway.ledger.redrives import Became, Redriven
from gateway.ledger.standing import Rules
from gateway.redrive import Facts, Redriver
from gateway.sealing import Sealer
from schemas.vocabulary import Channel

TOPIC = "repayments.events"
SEALER = Sealer({1: b"k" * 32}, 1, b"i" * 32)
RULES = Rules(routes={"acme": {Channel.SMS: "p"}})
LENDERS = {"acme": LenderFacts("Acme")}
CADENCES = loading.load()
CATALOGUE = Catalogue.load()


def in_force(lender: str, product: str | None, at: dt.datetime) -> Cadence | None:
    return CADENCES.in_force("default", at.date())


def none_yet(lender: str, product: str | None, at: dt.datetime) -> Cadence | None:
    return None


def decoder(cadence_of: Any = in_force) -> FactDecoder:
    return FactDecoder(lenders=LENDERS, catalogue=CATALOGUE, sealer=SEALER, cadence_of=cadence_of)


def planner(ids: Any) -> Planner:
    return Planner(SEALER, CADENCES, in_force, {"acme": frozenset(Channel)}, ids)


@dataclass
class Desk:
    """A ledger that facts have been told to, and a redriver that reads what was refused."""

    ledger: Database
    clock: VirtualClock
    ids: IdSource = field(default_factory=lambda: IdSource(62))
    read: int = 0

    async def tell(self, kind: str, data: dict[str, Any], by: FactDecoder) -> list[int]:
        """Intake reads it; returns the ids of all dead letters."""
        event = {"specversion": "1.0", "id": f"f-{self.read}", "source": "/core", "type": kind, "data": data}
        record = Record(TOPIC, 0, self.read, b"b-1", json.dumps(event).encode())
        self.read += 1
        command = by.decode(record, self.ids, self.clock.now()).command
        await self.ledger.transaction(
            lambda c: intake.write(
                c, TOPIC, [command], {0: self.read}, self.clock.now(), RULES,
                seal=lambda each: by.seal(record, each.id), planner=planner(lambda: self.ids),
            )
        )  # fmt: skip
        return [row[0] for row in await self.ledger.fetch("select id from deadletter order by id")]

    async def redrive(self, letter: int, *, keep: bool = True) -> Redriven:
        requests = Decoder(lenders=LENDERS, catalogue=CATALOGUE, sealer=SEALER)
        redriver = Redriver(self.ledger, self.clock, requests, SEALER, RULES, Facts(TOPIC, decoder(), planner))
        await redriver.start()
        try:
            [done] = await redriver.batch([letter], "ann", keep=keep)
            return done
        finally:
            await redriver.stop()

    async def value(self, sql: str) -> Any:
        return (await self.ledger.fetch(sql))[0][0]

    async def standing(self) -> set[tuple[str, str | None]]:
        rows = await self.ledger.fetch(
            "select coalesce(l.state::text, e.state::text), coalesce(l.reason, e.reason) from reminder r"
            " left join live l on l.id = r.id left join ending e on e.reminder = r.id"
        )
        return {(row[0], row[1]) for row in rows}

    def planned(self) -> dict[str, Any]:
        due = self.clock.now().date() + dt.timedelta(days=20)
        return {
            "lender": "acme", "debt": "loan-1", "currency": "USD", "as_of": self.clock.now().isoformat(),
            "borrower": {"ref": "b-1", "locale": "en", "timezone": "America/New_York", "jurisdiction": "US-NY"},
            "contacts": [{"channel": "sms", "address": "+12025550177"}],
            "instalments": [{"number": 1, "due_date": due.isoformat(), "amount": "100.00"}],
            "params": {"pay_url": "https://pay.example.com/1"},
        }  # fmt: skip


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    ledger = Database(database, size=4, statement_timeout_ms=10_000)
    await ledger.open()
    connection = await asyncpg.connect(database)
    await connection.execute("insert into intake_offset values ($1, 0, 0, 0)", TOPIC)
    await connection.close()
    yield Desk(ledger, VirtualClock(dt.datetime.now(dt.UTC)))
    await ledger.close()


async def add_up(desk: Desk) -> sums.Conservation:
    async with desk.ledger.connection() as connection:
        found = await sums.conservation(connection)
    assert found.gaps == []
    return found


async def test_a_plan_whose_cadence_is_in_force_now(desk: Desk) -> None:
    [letter] = await desk.tell("repayment.planned.v1", desk.planned(), decoder(none_yet))
    assert await desk.value("select reason from deadletter") == "no_cadence"
    assert await desk.standing() == set()

    would = await desk.redrive(letter, keep=False)
    assert (would.was, would.became) == ("no_cadence", Became.COMMAND)
    assert await desk.standing() == set()
    assert await desk.value("select count(*) from debt_fact") == 0

    assert (await desk.redrive(letter)).became is Became.COMMAND
    assert await desk.standing() == {("scheduled", None), ("held", "fact_missing")}
    made = await desk.value("select count(*) from reminder")
    assert made > 3
    found = await add_up(desk)
    assert (found.planned, found.planned_by_hand) == (made, made)
    desk.clock.advance(dt.timedelta(minutes=1))
    assert (await desk.redrive(letter)).became is Became.DONE
    assert await desk.value("select count(*) from reminder") == made


async def test_a_plan_that_was_in_doubt_is_as_fresh_as_its_source_again(desk: Desk) -> None:
    """Whatever was told meanwhile, and however old it is."""
    await desk.tell("repayment.planned.v1", desk.planned(), decoder())
    [letter] = await desk.tell("repayment.planned.v1", desk.planned(), decoder(none_yet))
    desk.clock.advance(dt.timedelta(minutes=1))
    paid = {
        "lender": "acme", "borrower_ref": "b-1", "debt": "loan-1", "instalment": 1, "outstanding": "60.00",
        "as_of": desk.clock.now().isoformat(),
    }  # fmt: skip
    await desk.tell("repayment.paid.v1", paid, decoder())
    assert await desk.value("select source from debt_fact") == ""
    assert (await desk.redrive(letter, keep=False)).became is Became.COMMAND
    assert await desk.value("select source from debt_fact") == ""
    assert (await desk.redrive(letter)).became is Became.COMMAND
    assert await desk.value("select source from debt_fact") == "/core"


async def test_a_payment_that_can_be_read_now_ends_the_rest_and_lifts_its_hold(desk: Desk) -> None:
    await desk.tell("repayment.planned.v1", desk.planned(), decoder())
    paid = {
        "lender": "acme", "borrower_ref": "b-1", "debt": "loan-1",
        "as_of": (desk.clock.now() + dt.timedelta(hours=25)).isoformat(),  # too far ahead, an hour ago
    }  # fmt: skip
    [letter] = await desk.tell("repayment.paid.v1", paid, decoder())
    assert await desk.value("select reason from deadletter") == "unreadable_stop"
    assert await desk.standing() == {("held", "stop_unreadable"), ("held", "fact_missing")}
    assert (await desk.redrive(letter)).became is Became.REFUSED
    desk.clock.advance(dt.timedelta(hours=2))
    done = await desk.redrive(letter)
    assert (done.became, done.lifted) == (Became.COMMAND, True)
    assert await desk.standing() == {("cancelled", "paid")}
    held = await desk.ledger.fetch("select subject from subject where unreadable_stop_at is not null")
    assert subject_key("acme", "b-1") not in [row[0] for row in held]
    await add_up(desk)
