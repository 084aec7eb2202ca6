"""What requires a fact says nothing that is not known to be so, whatever else keeps it or has let it go."""

from __future__ import annotations

import datetime as dt

import pytest

from gateway.ledger import outcomes
from gateway.ledger.outcomes import Outcome
from schemas.vocabulary import AttemptState, Failure, Reason
from tests.integration.plans_by_hand import Plans, plans
from tests.unit.cadence.facts import at, planned, reported

NAME = "overdue_late 01-09"
THEN = at("2027-01-09", "15:00")
SOON = dt.timedelta(seconds=10)


async def known(it: Plans) -> None:
    """All that it says is so."""
    await it.tell(planned())
    await it.tell(reported(at("2026-12-20")))
    await it.hand.connection.execute("delete from due where id in (select id from live where stage <> 'overdue_late')")


async def test_what_is_born_under_a_freeze_waits_for_its_fact_when_that_is_lifted(database: str) -> None:
    async with plans(database) as it:
        await it.hand.freeze("lender", "harbour")
        await it.tell(planned())
        assert (await it.standing())[NAME] == "held fact_missing"
        await it.hand.unfreeze("lender", "harbour")
        await it.hand.release(SOON)
        assert (await it.standing())[NAME] == "held fact_missing"
        assert (await it.standing())["d7"] == "12-03"


@pytest.mark.parametrize("kept", [Reason.FROZEN, Reason.STALE_FACTS, Reason.STOP_UNREADABLE])
async def test_what_is_withdrawn_while_something_else_holds_it_waits_for_it_then(kept: Reason, database: str) -> None:
    async with plans(database) as it:
        await known(it)
        it.hand.now = THEN
        worker = await it.hand.worker()
        (claimed,) = await it.hand.claim(worker)
        await it.hand.settle(worker, claimed, hold=kept, max_fact_age=dt.timedelta(days=1))
        await it.tell(reported(THEN, withdrawn=True))
        assert (await it.standing())[NAME] == "held fact_missing"
        await it.hand.release(SOON)
        await it.hand.fire(SOON)
        assert (await it.standing())[NAME] == "held fact_missing"
        await it.tell(reported(it.hand.now))
        assert await it.hand.value("select state from live where stage = 'overdue_late'") == "scheduled"


@pytest.mark.parametrize("recorded", [False, True])
async def test_what_is_withdrawn_while_it_is_out_is_not_said_by_the_next_channel(recorded: bool, database: str) -> None:
    async with plans(database) as it:
        await known(it)
        it.hand.now = THEN
        worker = await it.hand.worker()
        (claimed,) = await it.hand.claim(worker)
        (attempt,) = (await it.hand.intend(worker, it.hand.intent(claimed))).sendable

        async def became(state: AttemptState, failure: Failure | None) -> None:
            outcome = Outcome(attempt, claimed.id, claimed.subject, "p", state, failure, "code")
            await it.hand.tx(lambda c: outcomes.record(c, [outcome], it.hand.now, it.hand.rules, lambda: 1.0))

        if recorded:
            await became(AttemptState.ACCEPTED, None)
        await it.tell(reported(THEN, withdrawn=True))
        await became(AttemptState.UNDELIVERED, Failure.UNREACHABLE)
        assert (await it.standing())[NAME] == "undelivered ladder_closed"
        assert await it.hand.value("select count(*) from outbox where payload like '%too_late%'::bytea") == 0
