"""What is due for a borrower on one of his days is one message: on a real Postgres, against other hands at work."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from gateway.content import Catalogue
from gateway.dispatch.merge import Merger
from gateway.dispatch.pipeline import Job, Steps
from gateway.ids import subject_key
from gateway.ledger import outcomes, timeline
from gateway.ledger.claims import Claimed
from gateway.ledger.database import Database
from gateway.ledger.intend import Intended
from gateway.ledger.outcomes import Outcome
from gateway.ledger.standing import Move
from gateway.ledger.workers import Worker
from gateway.personal import SEALED_FIELD, decode
from gateway.worker import Lease
from schemas.repayments import Fact, Program
from schemas.vocabulary import AttemptState, Failure, Mode, Reason
from tests.integration.by_hand import HOUR, Hand
from tests.integration.plans_by_hand import SEALER, Plans, plans
from tests.unit.cadence.facts import DUE, EARLY, at, back_in, paid, planned, stopped

EVE = at("2026-12-02", "22:00")
NOON = at("2026-12-03", "14:00")  # every first reminder of the day has come to its turn
MEDIUM = Catalogue.load()


class Day(Plans):
    """The day of the first reminders, seven before the due date."""

    def __init__(self, mine: Hand, database: Database) -> None:
        super().__init__(mine)
        self.moves: list[Move] = []
        self.merger = Merger(database, Steps(MEDIUM, SEALER, {}, {}, Mode.LIVE, None), self)
        self.database = database

    def moved(self, moves: Sequence[Move]) -> None:
        self.moves += moves

    async def debts(self, *debts: str, due: dt.date = DUE, amount: str = "100.00") -> None:
        await self.tell(*(planned(due, debt=each, amount=amount) for each in debts))

    async def claimed(self, worker: Worker, now: dt.datetime | None = None) -> list[Job]:
        """Claims what is due, and gives who leads and what its message tells of."""
        self.hand.now = now or self.hand.now
        rows = await self.hand.claim(worker)
        lease = Lease(worker.id, 0.0)
        return await self.merger.merge([Job(each, lease) for each in rows], self.hand.now)

    async def intend(self, worker: Worker, job: Job) -> Intended:
        return await self.hand.intend(worker, self.hand.intent(job.claimed))

    async def became(self, job: Job, attempt: int, state: AttemptState, failure: Failure | None = None) -> list[Move]:
        outcome = Outcome(attempt, job.claimed.id, job.claimed.subject, "p", state, failure, "code")
        done = await self.hand.tx(lambda c: outcomes.record(c, [outcome], self.hand.now, self.hand.rules, lambda: 1.0))
        return done.moves

    async def refused(self, job: Job, attempt: int) -> list[Move]:
        """The provider has no such recipient."""
        return await self.became(job, attempt, AttemptState.REJECTED, Failure.BAD_RECIPIENT)

    async def state(self, debt: str, stage: str = "d7") -> str:
        return await self.hand.value(
            "select concat_ws(' ', coalesce(l.state::text, e.state::text), coalesce(l.reason, e.reason))"
            " from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id"
            " where r.debt = $1 and r.stage = $2 order by r.id desc limit 1",
            debt,
            stage,
        )


@asynccontextmanager
async def day(dsn: str) -> AsyncIterator[Day]:
    async with plans(dsn) as it:
        database = Database(dsn, size=2, statement_timeout_ms=10_000)
        await database.open()
        try:
            yield Day(it.hand, database)
        finally:
            await database.close()


def told(job: Job) -> list[str]:
    """The amounts that its message tells of besides."""
    opened = [decode(SEALER.open(each.sealed, each.reminder, SEALED_FIELD)) for each in job.told if each.along]
    return [each.amount for each in opened]


async def debt_of(it: Day, claimed: Claimed) -> str:
    return await it.hand.value("select debt from reminder where id = $1", claimed.id)


async def test_of_one_day_one_leads_and_tells_of_all(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2", "loan-3")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        assert await debt_of(it, job.claimed) == "loan-1"
        assert told(job) == ["100.00", "100.00"]
        assert await it.state("loan-2") == await it.state("loan-3") == "held merged_into"
        (attempt,) = (await it.intend(worker, job)).sendable
        assert await it.state("loan-2") == "held merged_into"  # nobody knows yet whether anybody was told
        made = await it.became(job, attempt, AttemptState.ACCEPTED)
        assert [each.reason for each in made] == [None, Reason.MERGED_INTO, Reason.MERGED_INTO]
        assert await it.state("loan-1") == "awaiting"
        assert await it.state("loan-2") == await it.state("loan-3") == "suppressed merged_into"
        waiting = "select count(*) from timer t join live l on l.id = t.id where l.stage = 'd7' and l.state = 'held'"
        assert await it.hand.value(waiting) == 0
        # Nobody is told of it again, whoever asks.
        keys = "select count(*) from stage_key s join reminder r on r.stage_key = s.key and r.id = s.reminder"
        assert await it.hand.value(f"{keys} where r.stage = 'd7'") == 3
        assert not [each for each in it.moves if each.queue is None]


async def test_what_is_due_tomorrow_and_what_upstream_asked_for_go_by_themselves(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1")
        await it.debts("loan-2", due=DUE + dt.timedelta(days=1))
        await it.hand.read(it.hand.request(borrower="b-1", lender="harbour", send_at=NOON, not_after=at("2026-12-09")))
        jobs = await it.claimed(await it.hand.worker(), NOON)
        assert sorted(job.claimed.stage for job in jobs) == ["d3", "d7"]  # the one that was asked for is a d3
        assert not any(job.told for job in jobs)
        assert await it.state("loan-2") == "scheduled"


async def test_the_more_urgent_leads_even_when_its_turn_is_later(database: str) -> None:
    async with day(database) as it:
        overdue = planned(dt.date(2026, 11, 30), debt="loan-0")  # three days over: later that day
        await it.tell(planned(debt="loan-1"), overdue, now=EVE)
        first, second = await it.hand.connection.fetch(
            "select r.debt, l.at from live l join reminder r on r.id = l.id"
            " where l.at between $1 and $2 order by l.at", at("2026-12-03", "00:00"), at("2026-12-03", "23:59"),
        )  # fmt: skip
        assert {first["debt"], second["debt"]} == {"loan-0", "loan-1"}
        worker = await it.hand.worker()
        jobs = await it.claimed(worker, first["at"])
        if first["debt"] == "loan-0":
            (job,) = jobs
        else:
            assert jobs == []
            (job,) = await it.claimed(worker, second["at"])
        assert await debt_of(it, job.claimed) == "loan-0"
        assert told(job) == ["100.00"]
        assert await it.state("loan-1") == "held merged_into"


async def test_the_rest_goes_when_its_leader_is_paid(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2", "loan-3")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        result = await it.tell(paid(NOON, debt="loan-1"), now=NOON)
        assert sum(each.reason is Reason.RELEASED for each in result.moves) == 2
        assert (await it.intend(worker, job)).sendable == frozenset()
        (job,) = await it.claimed(worker)
        assert await debt_of(it, job.claimed) == "loan-2"
        assert len(told(job)) == 1


async def test_a_message_in_hand_is_taken_back_when_what_it_tells_of_is_no_longer_so(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        for fact, amounts in [
            (paid(NOON, outstanding="40.00", debt="loan-2"), ["40.00"]),
            (stopped(NOON, debt="loan-2"), []),
        ]:
            (job,) = await it.claimed(worker, NOON)
            assert told(job) != amounts
            await it.tell(fact, now=NOON)
            assert (await it.intend(worker, job)).sendable == frozenset()
            assert await it.state("loan-1") == "scheduled revised"
            (job,) = await it.claimed(worker)
            assert told(job) == amounts
            await it.tell(paid(NOON, outstanding="90.00", debt="loan-1"), now=NOON)  # back, for the next turn
        assert await it.state("loan-2") == "cancelled stopped"


async def test_all_of_a_message_may_change_at_once(database: str) -> None:
    """One fact after another would find what the one before has moved."""
    async with day(database) as it:
        await it.debts("loan-1", "loan-2", "loan-3")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        await it.tell(
            paid(NOON, outstanding="90.00", debt="loan-1"), paid(NOON, debt="loan-2"),
            paid(NOON, outstanding="80.00", debt="loan-3"), now=NOON,
        )  # fmt: skip
        assert (await it.intend(worker, job)).sendable == frozenset()
        (job,) = await it.claimed(worker)
        assert decode(SEALER.open(job.claimed.sealed, job.claimed.id, SEALED_FIELD)).amount == "90.00"
        assert told(job) == ["80.00"]


async def test_a_message_in_other_hands_is_taken_back_when_one_more_joins_it(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1")
        one, other = await it.hand.worker(), await it.hand.worker()
        (job,) = await it.claimed(one, NOON)
        await it.tell(planned(debt="loan-2", as_of=NOON), now=NOON)
        assert await it.claimed(other) == []  # it waits for the other, whose words do not tell of it
        assert await it.state("loan-2") == "held merged_into"
        assert (await it.intend(one, job)).sendable == frozenset()
        (job,) = await it.claimed(other)
        assert await debt_of(it, job.claimed) == "loan-1"
        assert told(job) == ["100.00"]


async def test_what_joins_too_late_goes_by_itself(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1")
        one, other = await it.hand.worker(), await it.hand.worker()
        (job,) = await it.claimed(one, NOON)
        await it.tell(planned(debt="loan-2", as_of=NOON), now=NOON)
        assert (await it.intend(one, job)).sendable
        (job,) = await it.claimed(other)
        assert (await debt_of(it, job.claimed), job.told) == ("loan-2", ())


async def test_what_was_contacted_for_joins_no_message(database: str) -> None:
    """Its next contact goes out by itself, and one message is made of the others."""
    async with day(database) as it:
        await it.debts("loan-1")
        worker = await it.hand.worker()
        (first,) = await it.claimed(worker, NOON)
        (attempt,) = (await it.intend(worker, first)).sendable
        await it.became(first, attempt, AttemptState.UNDELIVERED, Failure.UNREACHABLE)
        assert await it.state("loan-1") == "scheduled next_contact"
        await it.debts("loan-2", "loan-3")
        jobs = {await debt_of(it, job.claimed): told(job) for job in await it.claimed(worker, NOON + HOUR)}
        assert jobs == {"loan-1": [], "loan-2": ["100.00"]}
        assert await it.state("loan-3") == "held merged_into"


async def test_a_leader_that_is_held_lets_the_rest_go(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        made = await it.hand.settle(worker, job.claimed, hold=Reason.BUG)
        assert {each.reason for each in made} == {Reason.BUG, Reason.RELEASED}
        (job,) = await it.claimed(worker)
        assert await debt_of(it, job.claimed) == "loan-2"
        await it.intend(worker, job)
        assert await it.state("loan-1") == "held bug"


async def test_a_more_urgent_one_takes_over_with_all_that_waited(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        await it.tell(planned(dt.date(2026, 11, 30), debt="loan-9", as_of=NOON), now=NOON)
        jobs = await it.claimed(worker, at("2026-12-03", "16:00"))
        assert [await debt_of(it, each.claimed) for each in jobs] == ["loan-9"]
        assert told(jobs[0]) == ["100.00", "100.00"]
        assert (await it.intend(worker, job)).sendable == frozenset()
        (attempt,) = (await it.intend(worker, jobs[0])).sendable
        await it.became(jobs[0], attempt, AttemptState.UNKNOWN, Failure.AMBIGUOUS)
        assert await it.state("loan-1") == await it.state("loan-2") == "suppressed merged_into"


async def test_who_waits_until_it_is_too_late_expires_and_is_told_of_no_more(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        over = await it.hand.value("select not_after from live where id = $1", job.claimed.id)
        await it.hand.connection.execute(
            "update live set not_after = not_after + interval '1 day' where id = $1", job.claimed.id
        )
        it.hand.now = over
        await it.hand.fire()
        assert await it.state("loan-2") == "expired not_after"
        assert (await it.intend(worker, job)).sendable == frozenset()
        (job,) = await it.claimed(worker)
        assert job.told == ()


async def test_the_next_contact_tells_of_the_same_unless_it_is_paid_meanwhile(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2", "loan-3")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        intended = await it.intend(worker, job)
        (attempt,) = intended.sendable
        await it.refused(job, attempt)
        assert await it.state("loan-1") == "scheduled next_contact"
        (job,) = await it.claimed(worker)
        assert told(job) == ["100.00", "100.00"]
        await it.tell(paid(NOON, debt="loan-2"), now=NOON)
        assert (await it.intend(worker, job)).sendable == frozenset()
        (job,) = await it.claimed(worker)
        assert told(job) == ["100.00"]
        (attempt,) = (await it.intend(worker, job)).sendable
        await it.became(job, attempt, AttemptState.SENT)
        assert await it.state("loan-3") == "suppressed merged_into"
        assert await it.state("loan-2") == "cancelled paid"


async def test_the_rest_goes_when_nobody_could_be_told_by_its_leader(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        for more in (True, False):
            (job,) = await it.claimed(worker, NOON)
            assert told(job) == ["100.00"]
            (attempt,) = (await it.intend(worker, job)).sendable
            made = await it.refused(job, attempt)
            assert (Reason.RELEASED in {each.reason for each in made}) is not more
        assert await it.state("loan-1") == "undelivered contacts_exhausted"
        (job,) = await it.claimed(worker)
        assert (await debt_of(it, job.claimed), job.told) == ("loan-2", ())


async def test_what_is_due_while_a_message_is_on_its_way_does_not_take_the_rest_along(database: str) -> None:
    """They are told of already, as far as anybody knows."""
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        worker = await it.hand.worker()
        (job,) = await it.claimed(worker, NOON)
        (attempt,) = (await it.intend(worker, job)).sendable
        await it.tell(planned(debt="loan-3", as_of=NOON), planned(debt="loan-4", as_of=NOON), now=NOON)
        (other,) = await it.claimed(worker)
        assert (await debt_of(it, other.claimed), told(other)) == ("loan-3", ["100.00"])
        await it.became(job, attempt, AttemptState.SENT)
        assert await it.state("loan-2") == "suppressed merged_into"
        assert await it.state("loan-4") == "held merged_into"


LESSON = at("2026-11-22", "19:00")  # eighteen days before


async def lessons(it: Day, *more: Fact) -> list[Job]:
    """What is claimed on the day of the first lesson of who has agreed to be taught, lessons that yield included."""
    await it.tell(planned(), back_in(EARLY, Program.EDUCATION), *more)
    return await it.claimed(await it.hand.worker(), LESSON)


async def test_a_lesson_goes_out_on_a_day_of_its_own(database: str) -> None:
    async with day(database) as it:
        (job,) = await lessons(it)
        assert (job.claimed.stage, job.yields, job.told) == ("education", False, ())


async def test_a_lesson_yields_to_what_is_planned(database: str) -> None:
    async with day(database) as it:
        jobs = await lessons(it, planned(dt.date(2026, 11, 29), debt="loan-2"))
        assert {(job.claimed.stage, job.yields) for job in jobs} == {("education", True), ("d7", False)}
        assert not any(job.told for job in jobs)


@pytest.mark.parametrize("under_way", [False, True])
async def test_a_lesson_yields_to_what_upstream_asked_for(under_way: bool, database: str) -> None:
    async with day(database) as it:
        it.hand.now = LESSON
        asked = it.hand.request(
            borrower="b-1", subject=subject_key("harbour", "b-1"), lender="harbour",
            send_at=LESSON + dt.timedelta(hours=2), not_after=LESSON + dt.timedelta(days=1),
        )  # fmt: skip
        if under_way:
            await it.hand.read(replace(asked, send_at=LESSON))
            (worker, claimed) = await it.hand.claimed(asked)
            await it.hand.intend(worker, it.hand.intent(claimed))
        else:
            await it.hand.read(asked)
        assert [job.yields for job in await lessons(it)] == [True]


@pytest.mark.parametrize(("before", "yields"), [(dt.timedelta(hours=5), True), (dt.timedelta(days=1), False)])
async def test_a_lesson_yields_to_what_was_sent_that_day(before: dt.timedelta, yields: bool, database: str) -> None:
    async with day(database) as it:
        it.hand.now = LESSON - before
        asked = it.hand.request(
            borrower="b-1", subject=subject_key("harbour", "b-1"), lender="harbour",
            send_at=it.hand.now, not_after=LESSON,
        )  # fmt: skip
        await it.hand.read(asked)
        sending = await it.hand.sent(asked)
        await it.hand.record(sending, AttemptState.ACCEPTED)
        await it.hand.receipt(sending, AttemptState.DELIVERED)
        assert (await it.hand.state(asked))[0] == "delivered"
        assert [job.yields for job in await lessons(it)] == [yields]


async def test_one_lesson_a_day(database: str) -> None:
    async with day(database) as it:
        jobs = await lessons(it, planned(DUE - dt.timedelta(days=2), debt="loan-2"))
        assert {job.claimed.template: job.yields for job in jobs} == {"spot_fraud": True, "ask_for_help": False}


async def test_both_stories_name_the_other(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        (job,) = await it.claimed(await it.hand.worker(), NOON)
        other = await it.hand.value("select id from live where reason = 'merged_into'")
        leads, waits = [await timeline.read(it.hand.connection, each, NOON) for each in (job.claimed.id, other)]
        assert leads is not None
        assert waits is not None
        assert ("its message is also that of", waits.reminder) in leads.now
        assert ("its message is that of", leads.reminder) in waits.now
        assert ("occasion", "default/1/d7") in waits.now
        assert ("ends, if still held, at", waits.situation.not_after) in waits.now


async def test_what_does_not_open_is_merged_with_nothing(database: str) -> None:
    async with day(database) as it:
        await it.debts("loan-1", "loan-2")
        await it.hand.connection.execute("update reminder set sealed = 'x' where debt = 'loan-2' and stage = 'd7'")
        jobs = await it.claimed(await it.hand.worker(), NOON)
        assert len(jobs) == 2
        assert not any(job.told for job in jobs)
