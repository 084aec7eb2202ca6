"""Two workers, the provider and the clock; and what must be true of each message that may leave."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Final

from hypothesis import note
from hypothesis import strategies as st

from gateway.dispatch.commits import _verdict
from gateway.dispatch.pipeline import Job, inputs_of
from gateway.ids import bucket_of
from gateway.ledger import claims, intend, merged, outcomes, receipts, releases, stale, timers, workers
from gateway.ledger.freezes import Freezes
from gateway.ledger.intend import Intent
from gateway.ledger.outcomes import Outcome
from gateway.ledger.received import Stored
from gateway.personal import SEALED_FIELD, decode
from gateway.policy import Defer, Hold, Skip, Suppress, Verdict
from gateway.worker import Lease
from schemas.repayments import (
    BorrowerOptedIn,
    BorrowerOptedOut,
    ContactChanged,
    DebitFailed,
    PreferenceChanged,
    RepaymentPlanned,
    RepaymentRescheduled,
)
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Failure, Reason
from tests.integration.plan_machine.brakes import PROVIDERS, named
from tests.integration.plan_machine.lender import Lender
from tests.integration.plan_machine.model import RULES, STEPS, Sent
from tests.integration.plans_by_hand import SEALER

_NONE: Final = Freezes({})


class Work(Lender):
    async def check(self) -> None:
        raise NotImplementedError

    def claim(self, slot: int) -> None:
        worker = self.workers[slot]
        now = self.tick()
        rows = self.run(claims.claim(self.connection, worker.id, now, 4, 4, self.ids.next(0)))
        lease = Lease(worker.id, 0.0)
        for job in self.run(self.merger.merge([Job(each, lease) for each in rows], now)):
            note(f"{now}: {worker.id} has {job.claimed.id} {job.claimed.debt} {job.claimed.stage} told {len(job.told)}")
            self.jobs[worker.id][job.claimed.id] = job

    def intend(self, worker: int, chosen: list[int]) -> None:
        """Decides and intends, and gives back what may not leave."""
        now = self.tick()
        jobs = [self.jobs[worker].pop(each) for each in chosen]
        heard_of = self.heard_of.get(worker, _NONE)
        verdicts = [
            (job, STEPS.decide(job, now, heard_of) or STEPS.open(job, now)) if planned(job) else (job, None)
            for job in jobs
        ]
        refused = [(job, verdict) for job, verdict in verdicts if verdict is not None]
        self.settle(worker, refused)
        going = {self.ids.next(bucket_of(job.claimed.id)): job for job, verdict in verdicts if verdict is None}
        intents = [
            Intent(job.claimed, attempt, provider(job), b"", inputs_of(job), told=job.told)
            for attempt, job in going.items()
        ]
        done = self.run(self.tx(lambda c: intend.intend(c, worker, intents, now)))
        if done.sendable:
            assert worker in {each.id for each in self.workers.values()}, "sent under a lease that had ended"
        for attempt in sorted(done.sendable):
            self.leaves(attempt, going[attempt])
        held_back: list[tuple[Job, Verdict]] = []
        for attempt, job in going.items():
            if attempt in done.opted_out:
                held_back.append((job, Suppress(Reason.OPTED_OUT, "opted_out")))
            elif attempt in done.channel_out:
                held_back.append((job, Skip("channel_opted_out", Reason.OPTED_OUT)))
            elif attempt in done.frozen:
                held_back.append((job, Hold(Reason.FROZEN, "frozen")))
            elif attempt in done.elsewhere:
                held_back.append((job, Defer(now + dt.timedelta(minutes=5), "under_way_elsewhere")))
        self.settle(worker, held_back)

    def until_due(self, data: st.DataObject, within: dt.timedelta = dt.timedelta(days=99)) -> None:
        """Something is to be claimed, mostly."""
        at = self.run(self.connection.fetchval("select min(due_at) from due"))
        if (
            at is not None
            and self.now < at <= self.now + within
            and data.draw(st.sampled_from((True, True, True, False)))
        ):
            self.time_passes(at, data.draw(st.sampled_from((True, True, True, True, True, False))))

    def claim_and_intend(self, slot: int) -> list[Sent]:
        """What leaves of what is due."""
        self.claim(slot)
        before = set(self.sent)
        self.intend_all(slot)
        return [each for attempt, each in self.sent.items() if attempt not in before]

    def intend_all(self, slot: int) -> None:
        worker = self.workers[slot].id
        self.intend(worker, sorted(self.jobs[worker]))

    def told_in_hand(self, slot: int, data: st.DataObject) -> None:
        """What a worker has claimed, or its message tells of, changes before it is intended; then it is so again."""
        draw = data.draw
        self.claim(slot)
        mine = [job for job in self.jobs[self.workers[slot].id].values() if planned(job)]
        if mine:
            job = draw(st.sampled_from(mine))
            claimed = job.claimed
            about = [*((each.debt, each.instalment) for each in job.told), (claimed.debt, claimed.instalment)]
            debt, number = draw(st.sampled_from(about))
            assert number is not None
            for _ in range(draw(st.sampled_from((1, 1, 2)))):
                self.fact_about(claimed.borrower, debt, number, data)
            if draw(st.booleans()):  # another looks for work meanwhile
                self.until_due(data, dt.timedelta(hours=6))
                self.claim(1 - slot)
        self.intend_all(slot)
        if draw(st.booleans()):
            self.claim_and_intend(draw(st.sampled_from((0, 1))))

    def next_contact(self, slot: int, data: st.DataObject) -> None:
        """A contact fails, at once or after its rest was suppressed; facts come before that, and before the next."""
        gone = [each for each in self.claim_and_intend(slot) if each.planned]
        if not gone:
            return
        sent = max(gone, key=lambda each: (each.told, each.attempt))
        if data.draw(st.sampled_from((True, False, False, False))):
            debt, number, *_ = self.key(sent.reminder)
            self.fact_about(sent.who, debt, number, data)
            self.run(self.check())
        if data.draw(st.sampled_from((True, True, False))):
            self.record(sent, (A.ACCEPTED, None))
            self.receipt(sent, A.UNDELIVERED)
        else:
            self.record(sent, (A.REJECTED, Failure.BAD_RECIPIENT))
        self.told_in_hand(slot, data)

    def settle(self, worker: int, verdicts: list[tuple[Job, Any]]) -> None:
        if verdicts:
            note(f"{self.now}: " + ", ".join(f"{job.claimed.id}: {verdict}" for job, verdict in verdicts))
            made = [_verdict(job, verdict) for job, verdict in verdicts]
            self.run(self.tx(lambda c: outcomes.settle(c, worker, made, self.now, RULES)))

    def leaves(self, attempt: int, job: Job) -> None:
        """What may leave is what is so at the moment of the commit."""
        claimed = job.claimed
        who, now = claimed.borrower, self.now
        first = claimed.attempts == 0
        sent = Sent(
            attempt,
            claimed.id,
            who,
            self.step,
            self.today(who),
            first,
            planned(job),
            len(self.truth.facts),
            len(job.told),
            provider(job),
        )
        note(f"{now}: intended {attempt} of {claimed.id} {who} {claimed.debt} {claimed.instalment} {claimed.stage}")
        self.is_not_frozen(job)
        if planned(job):
            self.says_what_is_so(job)
            for each in job.told:
                self.told_in.setdefault(each.reminder, []).append(attempt)
            if first:
                self.one_message_a_day(sent)
        self.sent[attempt] = sent

    def today(self, who: str) -> dt.date:
        return self.truth.local(who, self.now).date() if self.truth.debts(who) else self.now.date()

    def says_what_is_so(self, job: Job) -> None:
        claimed, who, truth = job.claimed, job.claimed.borrower, self.truth
        assert job.personal is not None
        key = self.key(claimed.id)
        wrong = list(truth.wrong(who, key, claimed.channel, self.now))
        assert not wrong, f"{who} {key}: {wrong}"
        of = (key[0], truth.number(who, key))
        owed = truth.owed(who, *of)
        assert Decimal(job.personal.amount) == owed, f"{who} {key} says {job.personal.amount}, owed are {owed}"
        assert job.address == truth.address(who, claimed.channel), "to an address that is no longer his"
        due = truth.instalment(who, *of)
        assert due is not None
        assert job.personal.due_date == due.due_date, "another due date"
        waiting = self.run(merged.waiting(self.connection, [claimed.id]))
        assert set(waiting) <= {each.reminder for each in job.told}, "they wait for a message that tells of others"
        named = {(claimed.debt, claimed.instalment)} | {(each.debt, each.instalment) for each in job.told if each.along}
        for each in job.told:
            assert (each.debt, each.instalment) in named, f"they wait for a message that says nothing of {each.debt}"
            if each.along:
                opened = decode(SEALER.open(each.sealed, each.reminder, SEALED_FIELD))
                owed = truth.owed(who, each.debt, each.instalment)
                assert Decimal(opened.amount) == owed > 0, f"tells of {opened.amount} of {each.debt}, owed are {owed}"
                assert not truth.stopped(who, each.debt), f"tells of {each.debt}, which is stopped"
                now_due = truth.instalment(who, each.debt, each.instalment)
                assert now_due is not None and now_due.due_date == opened.due_date, "tells of another due date"

    def is_not_frozen(self, job: Job) -> None:
        """Neither it nor what its message tells of, which leaves by its channel."""
        of = job.claimed
        debt, _, stage, step = self.key(of.id)
        frozen = self.brakes.holding(named(debt, stage, step, of.channel, planned=planned(job)), self.now)
        assert not frozen, f"{debt} {stage} leaves under {frozen}"
        for each in job.told:
            debt, _, stage, step = self.key(each.reminder)
            frozen = self.brakes.holding(named(debt, stage, step, None), self.now)
            assert not frozen, f"it is told of {debt} {stage} under {frozen}"

    def key(self, reminder: int) -> tuple[str, int, str, str]:
        row = self.run(
            self.connection.fetchrow("select debt, instalment, stage, step from reminder where id = $1", reminder)
        )
        return tuple(row)

    def one_message_a_day(self, sent: Sent) -> None:
        """Unless something became known since the earlier one."""
        for each in self.sent.values():
            if each.who == sent.who and each.first and each.planned and each.day == sent.day:
                state = self.run(self.connection.fetchval("select state from attempt where id = $1", each.attempt))
                gone = state not in ("not_sent", "rejected")
                known = self.known_at.get(sent.who, -1) >= each.step
                assert not gone or known, f"a second message on {sent.day}: {each}, {sent}"

    def record(self, sent: Sent, outcome: tuple[A, Failure | None]) -> None:
        sent.recorded = True
        state, failure = outcome
        now = self.tick()
        note(f"{now}: {sent.attempt} {state} {failure}")
        subject = self.run(self.connection.fetchval("select subject from reminder where id = $1", sent.reminder))
        ref = f"ref{sent.attempt}" if state is A.ACCEPTED else None
        done = Outcome(sent.attempt, sent.reminder, subject, sent.provider, state, failure, "code", ref, 1.0)
        for _ in range(2):  # a lost COMMIT is answered by doing it again
            self.run(self.tx(lambda c: outcomes.record(c, [done], now, RULES, self.random.random)))

    def receipt(self, sent: Sent, state: A) -> None:
        now, id_ = self.tick(), self.ids.next(0)
        note(f"{now}: receipt {sent.attempt} {state}")
        stored = Stored(
            id=id_, provider=sent.provider, kind="receipt", code="c", received_at=now, replay=str(id_).encode(),
            attempt=sent.attempt, state=state, failure=None,
        )  # fmt: skip
        self.run(self.tx(lambda c: receipts.take(c, [stored], now, RULES, self.random.random)))

    def lose_lease(self, slot: int, paused: bool) -> None:
        worker = self.workers[slot]

        async def work() -> None:
            await self.connection.execute("update worker set lease_until = '-infinity' where id = $1", worker.id)
            await self.register(slot)

        self.run(work())
        if not paused:
            self.jobs.pop(worker.id)

    async def rescue(self) -> None:
        now = self.tick()
        for worker in await workers.dead(self.connection):
            await self.tx(lambda c, worker=worker: outcomes.rescue(c, worker, now, RULES, self.random.random))
            await workers.remove(self.connection, worker)

    def time_passes(self, until: dt.datetime, beats: bool) -> None:
        self.now = max(self.now, until)
        if beats:
            self.beat()
        self.run(self.fire())

    def next_moment(self) -> dt.datetime | None:
        """When something is to be done next; the hand of the clock stays there."""
        return self.run(
            self.connection.fetchval(
                "select min(at) from live where at > $1 and (state <> 'held' or reason <> 'merged_into')", self.now
            )
        )

    async def fire(self) -> None:
        now = self.tick()
        await self.tx(lambda c: timers.fire(c, now, RULES))
        await self.tx(lambda c: stale.turn(c, now))
        await self.tx(lambda c: releases.release(c, now, RULES))


# What moves an occasion, or its channels.
REPLANS = (
    RepaymentPlanned
    | RepaymentRescheduled
    | ContactChanged
    | PreferenceChanged
    | DebitFailed
    | BorrowerOptedOut
    | BorrowerOptedIn
)


def provider(job: Job) -> str:
    return PROVIDERS[job.claimed.channel]


def planned(job: Job) -> bool:
    return job.claimed.occasion is not None
