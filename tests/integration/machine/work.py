"""What two workers do, one of which may be paused past its lease and go on; and what must be true of what they send."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway import ids
from gateway.ledger import claims, freezes, intend, outcomes, volume, workers
from gateway.ledger.intend import Intent
from gateway.ledger.outcomes import Outcome, Verdict
from gateway.ledger.quotas import Breach
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Failure, Reason
from tests.integration.machine.model import LENDER, PER_HOUR, QUOTAS, Sent
from tests.integration.machine.upstream import Upstream


class Work(Upstream):
    def claim(self, slot: int, limit: int) -> None:
        worker = self.workers[slot]
        token = self.ids.next(0)
        for each in self.run(claims.claim(self.connection, worker.id, self.now, limit, limit, token)):
            self.claimed[worker.id][each.id] = each

    def claim_and_intend(self, slot: int) -> None:
        self.claim(slot, 3)
        worker = self.workers[slot].id
        if self.claimed[worker]:
            self.intend_claimed(worker, sorted(self.claimed[worker]))

    def later_claim_and_intend(self, slot: int, wait: int) -> None:
        self.time_passes(wait)
        self.claim_and_intend(slot)

    def intend(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([each for each, mine in self.claimed.items() if mine]))
        mine = self.claimed[worker]
        chosen = data.draw(st.lists(st.sampled_from(sorted(mine)), unique=True, min_size=1))
        self.intend_claimed(worker, chosen, twice=True)

    def paused(self, slot: int, after_intend: bool, taken_back: bool) -> None:
        """A worker sleeps past its lease with claims in its hands, or messages about to leave, and goes on."""
        self.claim(slot, 3)
        worker = self.workers[slot].id
        mine = self.claimed[worker]
        if after_intend and mine:
            self.intend_claimed(worker, sorted(mine)[:2])
        self.lose_lease(slot, paused=True)
        if taken_back:
            self.rescue()
        if mine:
            self.intend_claimed(worker, sorted(mine))
        self.retry([each for each in self.sent.values() if each.worker == worker])

    def intend_claimed(self, worker: int, chosen: list[int], *, twice: bool = False) -> None:
        """Decides, intends, and gives back what may not leave now, as a worker does.

        `twice`: the same claims once more, which must be good for one attempt only.
        """
        mine = self.claimed[worker]
        jobs = [mine.pop(each) for each in chosen]
        stale = [each for each in jobs if self.now >= each.not_after]
        self.settle(worker, [Verdict(each.id, each.token, "not_after", "{}", expire=True) for each in stale])
        intents = [
            Intent(each, self.ids.next(ids.bucket_of(each.id)), "p", b"", "{}") for each in jobs if each not in stale
        ]

        async def work(connection: Any) -> intend.Intended:
            return await intend.intend(connection, worker, intents, self.now, QUOTAS)

        done = self.run(self.tx(work))
        asked = intents
        for each in asked:
            if each.attempt in done.sendable:
                note(f"intended {each.attempt} for {each.claimed.id} by {worker}")
                self.sent[each.attempt] = Sent(each.attempt, each.claimed.id, worker)
                self.intended_at_step[each.attempt] = self.step
                assert worker in {each.id for each in self.workers.values()}, "sent under a lease that had ended"
                self.no_second_message(each.claimed.id)
                self.no_send_after_a_stop(each.claimed.id)
                assert not self.is_frozen(), "intent while a freeze is in force"
        if twice and done.sendable:
            intents = [replace(each, attempt=self.ids.next(ids.bucket_of(each.claimed.id))) for each in intents]
            assert not self.run(self.tx(work)).sendable, "a second attempt by the same claim"
        self.no_more_than_its_quota(len(done.sendable))
        self.brake({breach for breaches in done.over.values() for breach in breaches})
        self.settle(worker, [verdict for each in asked if (verdict := held_back(each, done)) is not None])

    def settle(self, worker: int, verdicts: list[Verdict]) -> None:
        async def work(connection: Any) -> Any:
            return await outcomes.settle(connection, worker, verdicts, self.now, self.numbers)

        if verdicts:
            self.run(self.tx(work))

    def brake(self, breaches: set[Breach]) -> None:
        """As `dispatch.commits`: behind the transaction of the intent, unless somebody was faster."""

        async def work(connection: Any, breach: Breach) -> None:
            await freezes.exclude(connection)
            if await volume.run_out(connection, breach.kind, breach.value):
                self.freezes[breach.kind, breach.value] = breach.until
                await freezes.add(
                    connection, breach.kind, breach.value, reason=breach.reason, author=freezes.VOLUME_BRAKE,
                    now=self.now, until=breach.until,
                )  # fmt: skip

        for breach in breaches:
            self.run(self.tx(lambda connection, breach=breach: work(connection, breach)))

    def retry(self, sent: Iterable[Sent]) -> None:
        """A worker asks again before another first byte of what it has intended: the fences are the same."""
        for each in sent:
            if each.taken is None and not each.recorded:
                self.retry_one(each)

    def retry_one(self, sent: Sent) -> None:
        request = next(each for each in self.requests if each.id == sent.reminder)
        row = self.run(self.connection.fetchrow("select token, rung from live where id = $1", sent.reminder))
        if row is None or row["token"] is None:
            return
        claimed = claims.Claimed(
            request.id, request.subject, request.lender, request.source, request.request_id, request.product,
            request.stage, request.template, request.lane, request.ladder, row["rung"], 0, 0, request.not_after,
            request.sealed, request.send_at, row["token"],
        )  # fmt: skip
        intent = Intent(claimed, sent.attempt, "p", b"", "{}")

        async def work(connection: Any) -> intend.Intended:
            return await intend.again(connection, sent.worker, [intent], self.now)

        if self.run(self.tx(work)).sendable:
            assert sent.worker in {each.id for each in self.workers.values()}, "sent again under a lease that had ended"
            self.no_send_after_a_stop(sent.reminder)
            assert not self.is_frozen(), "sent again while a freeze is in force"

    def no_more_than_its_quota(self, n: int) -> None:
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        self.sent_in[hour] = self.sent_in.get(hour, 0) + n
        assert self.sent_in[hour] <= PER_HOUR, f"{self.sent_in[hour]} of {LENDER} in the hour of {hour}"

    def no_second_message(self, reminder: int) -> None:
        """I3: a new attempt only when every earlier one is proven not to have arrived.

        Where a repeat replaces the first on the screen: only while no earlier one is known to have been taken.
        """
        *earlier, _ = [each for each in self.sent.values() if each.reminder == reminder]
        if self.numbers.resend:
            out = [each for each in earlier if each.accepted and not each.undelivered]
        else:
            out = [each for each in earlier if each.taken is not False and not each.undelivered]
        assert not out, f"second message for {reminder}: {out}"

    def no_send_after_a_stop(self, reminder: int) -> None:
        """I9: no intent after a committed stop."""
        request = next(each for each in self.requests if each.id == reminder)
        for stop, _ in self.stops:
            if stop.subject != request.subject:
                continue
            if stop.kind == "request":
                assert stop.request_key != request.request_key
            elif stop.kind == "borrower" or stop.value == request.debt:
                assert request.state_as_of > stop.as_of, "intent after a stop"
        assert request.subject not in self.unread.values(), "intent behind a stop that nobody can read"
        assert request.subject not in self.opted_out, "intent after the borrower wanted no more"

    def record(self, data: st.DataObject, outcome: tuple[A, Failure | None], lost: bool) -> None:
        sent = data.draw(st.sampled_from([each for each in self.sent.values() if not each.recorded]))
        state, failure = outcome
        if sent.taken:  # the provider has it already: a receipt came first
            state, failure = (A.UNKNOWN, Failure.AMBIGUOUS) if lost else (A.ACCEPTED, None)
        elif state is A.UNKNOWN:
            sent.taken = not lost
        else:
            sent.taken = state is A.ACCEPTED
        sent.recorded = True
        sent.accepted = state is A.ACCEPTED
        ref = f"ref{sent.attempt}" if state is A.ACCEPTED else None
        subject = next(each.subject for each in self.requests if each.id == sent.reminder)
        done = Outcome(sent.attempt, sent.reminder, subject, "p", state, failure, "code", ref, 1.0)

        async def work(connection: Any) -> Any:
            return await outcomes.record(connection, [done], self.now, self.numbers, self.random.random)

        self.run(self.tx(work))
        self.run(self.tx(work))  # repeatable: a lost COMMIT is answered by doing it again

    def lose_lease(self, slot: int, paused: bool) -> None:
        """The worker dies, or is paused past its lease and goes on with what it had claimed and intended."""
        worker = self.workers[slot]

        async def work() -> None:
            await self.connection.execute("update worker set lease_until = '-infinity' where id = $1", worker.id)
            assert not await workers.renew(self.connection, worker.id, dt.timedelta(hours=1))
            await self.register(slot)

        self.run(work())
        if not paused:
            self.claimed.pop(worker.id)
            for each in self.sent.values():
                if each.worker == worker.id and not each.recorded:
                    each.recorded = True  # nobody is left to record it
                    each.taken = each.taken or self.random.random() < 0.5

    def rescue(self) -> None:
        self.run(self.rescue_all())

    async def rescue_all(self) -> None:
        for worker in await workers.dead(self.connection):

            async def work(connection: Any, worker: int = worker) -> Any:
                return await outcomes.rescue(connection, worker, self.now, self.numbers, self.random.random)

            await self.tx(work)
            await workers.remove(self.connection, worker)


def held_back(intent: Intent, done: intend.Intended) -> Verdict | None:
    """What becomes of an intent that may not leave: None where it has, and where its claim is lost."""
    claimed = intent.claimed
    if intent.attempt in done.frozen or intent.attempt in done.over:
        return Verdict(claimed.id, claimed.token, "frozen", "{}", hold=Reason.FROZEN)
    if intent.attempt in done.opted_out:
        return Verdict(claimed.id, claimed.token, "opted_out", "{}", suppress=Reason.OPTED_OUT)
    if intent.attempt in done.stopped:
        return Verdict(claimed.id, claimed.token, "stop_unreadable", "{}", hold=Reason.STOP_UNREADABLE)
    return None
