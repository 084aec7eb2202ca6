"""Redriving dead facts: read by the decoder of facts, planned as intake plans, counted as made by hand."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.cadence import loading
from gateway.cadence.model import Cadence
from gateway.content import Catalogue
from gateway.ids import subject_key
from gateway.intake.decode import Decoder, LenderFacts
from gateway.intake.decode_facts import FactDecoder
from gateway.intake.planner import Planner
from gateway.ledger.redrives import Became, Redriven
from gateway.redrive import Facts, Redriver
from schemas.vocabulary import Channel
from tests.integration import redrives_by_hand
from tests.integration.redrives_by_hand import RULES, SEALER

TOPIC = "repayments.events"
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


class Desk(redrives_by_hand.Desk):
    async def tell(self, kind: str, data: dict[str, Any], by: FactDecoder) -> list[int]:
        """Intake reads it; returns the id of the dead letter that it has become."""
        event = {"specversion": "1.0", "id": f"f-{self.read}", "source": "/core", "type": kind, "data": data}
        return await self.reads(by, [(b"b-1", json.dumps(event).encode())], planner(lambda: self.ids))

    async def redrive(self, letter: int, *, keep: bool = True) -> Redriven:
        requests = Decoder(lenders=LENDERS, catalogue=CATALOGUE, sealer=SEALER)
        redriver = Redriver(self.ledger, self.clock, requests, SEALER, RULES, Facts(TOPIC, decoder(), planner))
        [done] = await self.batch(redriver, [letter], "ann", keep=keep)
        return done

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
    async with redrives_by_hand.desk(Desk, database, TOPIC) as it:
        yield it


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
    found = await desk.assert_sums()
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
    await desk.assert_sums()
