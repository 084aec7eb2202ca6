"""One message a day, and what is told, frozen, put off or too old by the time it leaves: on a real Postgres."""

from __future__ import annotations

import datetime as dt

from msgspec.structs import replace

from gateway.dispatch.merge import Merger
from gateway.dispatch.pipeline import Steps
from gateway.ledger import intend, outcomes
from gateway.ledger.intend import Intended, Intent
from gateway.ledger.workers import Worker
from schemas.repayments import Fact
from schemas.vocabulary import AttemptState, Failure, Mode, Reason
from tests.integration.plans_by_hand import SEALER, everything
from tests.integration.test_merging import EVE, MEDIUM, NOON, Day, day, debt_of, told
from tests.unit.cadence.facts import DUE, at, paid, planned, rescheduled

DAYS = dt.timedelta(days=7)


async def test_words_that_are_no_longer_so_are_not_tried_again(database: str) -> None:
    """Nothing has left yet, and another first byte is to follow: as after a connection that was refused."""
    revises: list[Fact] = [
        paid(NOON, outstanding="40.00"), paid(NOON, debt="loan-2"), paid(NOON, debt="loan-2", outstanding="40.00"),
    ]  # fmt: skip
    for fact in revises:
        async with day(database) as it:
            await it.debts("loan-1", "loan-2")
            worker = await it.hand.worker()
            (job,) = await it.claimed(worker, NOON)
            intent = replace(it.hand.intent(job.claimed), told=job.told)
            (attempt,) = (await it.hand.intend(worker, intent)).sendable
            assert (await again(it, worker, intent)).sendable == {attempt}
            await it.tell(fact)
            assert (await again(it, worker, intent)).sendable == frozenset()
            await it.became(job, attempt, AttemptState.NOT_SENT, Failure.TRANSIENT)
            (job,) = await it.claimed(worker, NOON + dt.timedelta(minutes=5))
            assert told(job) == ([] if fact == revises[1] else ["40.00"] if fact == revises[2] else ["100.00"])


async def again(it: Day, worker: Worker, intent: Intent) -> Intended:
    return await it.hand.tx(lambda c: intend.again(c, worker.id, [intent], it.hand.now))


async def test_what_is_frozen_is_told_of_in_nobodys_message(database: str) -> None:
    """Whether the freeze is there before they are merged, or comes while the leader is in hand."""
    for before in (True, False):
        async with day(database) as it:
            await it.debts("loan-1")
            await it.tell(replace(planned(DUE, debt="loan-2", amount="70.00"), product="wrong"))
            worker = await it.hand.worker()
            if before:
                await it.hand.freeze("product", "wrong")
                jobs = await it.claimed(worker, NOON)
                assert sorted([(await debt_of(it, job.claimed), told(job)) for job in jobs]) == [
                    ("loan-1", []),
                    ("loan-2", []),
                ]
                continue
            (job,) = await it.claimed(worker, NOON)
            intent = replace(it.hand.intent(job.claimed), told=job.told)
            await it.hand.freeze("product", "wrong")
            done = await it.hand.intend(worker, intent)
            assert (done.sendable, done.frozen) == (frozenset(), {intent.attempt})
            await it.hand.settle(worker, job.claimed, hold=Reason.FROZEN)
            assert (await it.state("loan-1"), await it.state("loan-2")) == ("held frozen", "scheduled released")
            await it.hand.release(dt.timedelta(seconds=1))
            jobs = await it.claimed(worker, it.hand.now + dt.timedelta(seconds=5))
            assert sorted([(await debt_of(it, each.claimed), told(each)) for each in jobs]) == [
                ("loan-1", []),
                ("loan-2", []),
            ]


async def test_who_is_frozen_while_he_waits_is_let_go_when_another_takes_over(database: str) -> None:
    """Whoever he waited for waits himself by then."""
    async with day(database) as it:
        await it.debts("loan-1")
        await it.tell(replace(planned(DUE, debt="loan-2", amount="70.00"), product="wrong"))
        worker = await it.hand.worker()
        await it.claimed(worker, NOON)
        assert await it.state("loan-2") == "held merged_into"
        await it.hand.freeze("product", "wrong")
        await it.tell(planned(dt.date(2026, 11, 30), debt="loan-9", as_of=NOON), now=NOON)
        (job,) = await it.claimed(worker, at("2026-12-03", "16:00"))
        assert (await debt_of(it, job.claimed), told(job)) == ("loan-9", ["100.00"])
        assert await it.state("loan-2") == "scheduled released"


async def test_a_later_contact_tells_of_nothing_that_is_frozen_by_then(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1")
        await it.tell(replace(planned(DUE, debt="loan-2", amount="70.00"), product="wrong"))
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        (attempt,) = (await it.intend(worker, job)).sendable
        await it.became(job, attempt, AttemptState.ACCEPTED)
        await it.hand.freeze("product", "wrong")
        await it.became(job, attempt, AttemptState.UNDELIVERED, Failure.UNREACHABLE)
        (job,) = await it.claimed(worker, NOON + dt.timedelta(minutes=5))
        assert (await debt_of(it, job.claimed), told(job)) == ("loan-1", [])
        assert (await it.hand.intend(worker, replace(it.hand.intent(job.claimed), told=job.told))).sendable


async def test_what_its_lender_never_wants_told_ends_and_its_message_is_made_anew(database: str) -> None:
    """Before anybody was told, and before a later contact tells of it again."""
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        other = job.told[0].reminder
        for _ in range(2):
            await it.hand.tx(lambda c: outcomes.never(c, other, Reason.PAID, it.hand.now, it.hand.rules))
        assert await it.state("loan-2") == "cancelled paid"
        assert (await it.intend(worker, job)).sendable == frozenset()
        assert await it.hand.value("select count(*) from decision where rule = 'question_never'") == 1
        (job,) = await it.claimed(worker)
        assert (await debt_of(it, job.claimed), job.told) == ("loan-1", ())
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        (attempt,) = (await it.intend(worker, job)).sendable
        await it.became(job, attempt, AttemptState.ACCEPTED)
        await it.became(job, attempt, AttemptState.UNDELIVERED, Failure.UNREACHABLE)
        (job,) = await it.claimed(worker, NOON + dt.timedelta(minutes=5))
        other = job.told[0].reminder
        await it.hand.tx(lambda c: outcomes.never(c, other, Reason.PAID, it.hand.now, it.hand.rules))
        assert await it.state("loan-2") == "suppressed merged_into"
        assert (await it.intend(worker, job)).sendable == frozenset()
        (job,) = await it.claimed(worker)
        assert (await debt_of(it, job.claimed), job.told) == ("loan-1", ())


# On that day fifteen days after it was due, and good for two; and told of as due, which is good for that day alone.
FIFTEEN, ONE = dt.date(2026, 11, 18), dt.date(2026, 12, 2)


async def test_who_cannot_wait_until_its_leader_has_been_put_off_goes_by_itself(database: str) -> None:
    async with day(database) as it:
        await it.tell(
            planned(FIFTEEN, debt="loan-1"), planned(ONE, debt="loan-2"), planned(DUE, debt="loan-3"), now=EVE
        )
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, at("2026-12-03", "15:00"))
        assert (await debt_of(it, job.claimed), len(job.told)) == ("loan-1", 2)
        tomorrow = at("2026-12-04", "10:00")
        await it.hand.settle(worker, job.claimed, defer_until=tomorrow)
        assert await it.state("loan-2", "due") == "scheduled released"
        assert await it.state("loan-3") == "held merged_into"
        (job,) = await it.claimed(worker)
        assert (await debt_of(it, job.claimed), job.told) == ("loan-2", ())
        (job,) = await it.claimed(worker, tomorrow)
        assert (await debt_of(it, job.claimed), len(job.told)) == ("loan-1", 1)


async def test_what_is_no_longer_good_neither_leads_nor_is_told_of(database: str) -> None:
    """Nobody has sent anything for days."""
    async with day(database) as it:
        await it.tell(planned(FIFTEEN, debt="loan-1"), planned(DUE, debt="loan-3"), now=at("2026-11-20", "22:00"))
        jobs = await it.claimed(await it.hand.worker(), NOON)
        told_of = {(await debt_of(it, job.claimed), job.claimed.stage, job.claimed.not_after): job.told for job in jobs}
        good = {key[:2]: len(told) for key, told in told_of.items() if key[2] > NOON}
        assert good == {("loan-1", "overdue_mid"): 1}
        assert all(told == () for key, told in told_of.items() if key[2] <= NOON)


async def test_a_stop_of_what_is_told_of_in_this_moment_is_too_late(database: str) -> None:
    """The message that tells of it has been intended: it may have left.  Before and after that nobody is answered."""
    too_late = "select count(*) from outbox where payload like '%too_late%'::bytea"
    async with day(database) as it:
        await it.debts("loan-1", "loan-2", "loan-3", "loan-4")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        await it.tell(paid(NOON, debt="loan-4"))
        assert await it.hand.value(too_late) == 0
        (job,) = await it.claimed(worker)
        (attempt,) = (await it.intend(worker, job)).sendable
        await it.tell(paid(NOON, debt="loan-2"))
        assert (await it.state("loan-2"), await it.hand.value(too_late)) == ("cancelled paid", 1)
        of = await it.hand.value("select r.debt from outbox o join reminder r on r.id = o.reminder where o.id <> 0")
        assert of == "loan-2"
        await it.became(job, attempt, AttemptState.ACCEPTED)
        await it.tell(paid(NOON, debt="loan-3"))
        assert (await it.state("loan-3"), await it.hand.value(too_late)) == ("suppressed merged_into", 1)


async def test_a_later_contact_tells_of_nothing_that_is_due_at_another_time_by_then(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2", "loan-3")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        (attempt,) = (await it.intend(worker, job)).sendable
        await it.became(job, attempt, AttemptState.ACCEPTED)
        await it.tell(rescheduled(DUE + dt.timedelta(days=30), as_of=NOON, debt="loan-2", amount="70.00"))
        await it.became(job, attempt, AttemptState.UNDELIVERED, Failure.UNREACHABLE)
        (job,) = await it.claimed(worker, NOON + dt.timedelta(minutes=5))
        assert told(job) == ["100.00"]
        before = await everything(it.hand.connection)
        await it.tell(rescheduled(DUE + dt.timedelta(days=30), as_of=NOON, debt="loan-2", amount="70.00"))
        assert await everything(it.hand.connection) == before


async def test_a_later_contact_tells_of_nothing_that_is_too_old_by_then(database: str) -> None:
    """Of the one debt something was told a moment ago, of the other nothing for days."""
    async with day(database) as it:
        it.merger = Merger(
            it.database, Steps(MEDIUM, SEALER, {}, {}, Mode.LIVE, None, max_fact_ages={"default/1/d7": DAYS}), it
        )
        await it.debts("loan-1")
        await it.tell(planned(DUE, debt="loan-2", as_of=NOON - DAYS + dt.timedelta(minutes=5)))
        await it.tell(paid(NOON - dt.timedelta(hours=1), debt="loan-1", outstanding="90.00"), now=NOON)
        await it.hand.connection.execute("truncate fact_watermark")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        assert (await debt_of(it, job.claimed), told(job)) == ("loan-1", ["100.00"])
        (attempt,) = (await it.intend(worker, job)).sendable
        await it.became(job, attempt, AttemptState.ACCEPTED)
        await it.became(job, attempt, AttemptState.UNDELIVERED, Failure.UNREACHABLE)
        (job,) = await it.claimed(worker, NOON + dt.timedelta(minutes=10))
        assert (await debt_of(it, job.claimed), told(job)) == ("loan-1", [])


async def test_who_waits_and_may_not_be_told_of_any_more_waits_no_longer(database: str) -> None:
    """Else he would be suppressed with a message that says nothing of him.  Nobody has been told yet."""
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        (attempt,) = (await it.intend(worker, job)).sendable
        await it.became(job, attempt, AttemptState.NOT_SENT, Failure.TRANSIENT)
        assert await it.state("loan-2") == "held merged_into"
        await it.tell(paid(NOON, outstanding="90.00"))
        it.merger = Merger(
            it.database, Steps(MEDIUM, SEALER, {}, {}, Mode.LIVE, None, max_fact_ages={"default/1/d7": DAYS}), it
        )
        await it.hand.connection.execute("truncate fact_watermark")
        assert await it.claimed(worker, NOON + dt.timedelta(minutes=10)) == []
        assert await it.state("loan-2") == "scheduled released"
        jobs = await it.claimed(worker)
        assert sorted([(await debt_of(it, job.claimed), told(job)) for job in jobs]) == [("loan-1", []), ("loan-2", [])]
