"""Any interleaving of the ledger's operations by two workers keeps the promise, against real Postgres.

The machine plays upstream, two workers (one may be paused past its lease and go on), the provider and the clock.  It
keeps its own truth of what the provider took and compares with what the ledger allowed.
"""

import asyncio
import datetime as dt
import os
import random
from dataclasses import dataclass
from dataclasses import replace as replace_rules
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from msgspec.structs import replace

from gateway import ids
from gateway.ledger import claims, freezes, intake, intend, outcomes, receipts, releases, timers, workers
from gateway.ledger.accept import Slots
from gateway.ledger.commands import Command, Letter, Origin, Request, Stop
from gateway.ledger.follow import Rules
from gateway.ledger.intend import Intent
from gateway.ledger.outcomes import Outcome
from gateway.ledger.received import Stored
from gateway.ledger.states import FAILED
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Choice, Failure, Lane, Rejection

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
# What the last one says in a call is for ever, so only one says it: the others keep the machine busy.
BORROWERS = ("b1", "b2", "b3")
SAYS_NO_MORE = "b3"


WEIGHTS = {
    "request": 6, "request again": 1, "read again": 1, "cancel": 2, "unreadable stop": 1, "claim": 2, "intend": 3,
    "claim and intend": 8, "record": 8, "receipts": 4, "no more": 2, "lose lease": 1, "rescue": 2, "time": 1,
    "freeze": 1, "unfreeze": 2,
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


class Ledger(RuleBasedStateMachine):
    dsn: str = ""
    numbers: Rules = RULES

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

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def tx(self, work: Any) -> Any:
        async with self.connection.transaction():
            return await work(self.connection)

    @initialize()
    def start(self) -> None:
        async def begin() -> None:
            self.connection = await asyncpg.connect(self.dsn)
            await self.connection.execute(
                "truncate subject, tombstone, inbox, stage_key, reminder, live, ending, due, claim, timer, attempt,"
                " unsettled, provider_ref, decision, receipt, reply, parked, engagement, outbox, deadletter,"
                ' intake_count, intake_offset, worker, "freeze", frozen'
            )
            await self.connection.execute("update release_pace set next_at = '-infinity'")
            await self.connection.execute("insert into intake_offset values ($1, 0, 1, 1)", TOPIC)
            for slot in (0, 1):
                await self.register(slot)

        self.workers: dict[int, workers.Worker] = {}
        self.run(begin())

    async def register(self, slot: int) -> None:
        worker = await workers.register(self.connection, dt.timedelta(hours=1))
        self.workers[slot] = worker
        self.ids = ids.IdSource(worker.number)
        self.claimed[worker.id] = {}

    def teardown(self) -> None:
        """Heals, and closes what the example opened whether or not it can be healed."""
        try:
            if hasattr(self, "connection"):
                self.run(self.heal())
        finally:
            self.close()

    def close(self) -> None:
        if hasattr(self, "connection"):
            self.run(self.connection.close(timeout=10))
        self.loop.close()

    # --- upstream -----------------------------------------------------------------------------------------------

    def request(self, borrower: str, debt: str, stage: str, ladder: str, request_id: str) -> Request:
        subject = ids.subject_key(LENDER, borrower)
        self.offset += 1
        return Request(
            origin=Origin(TOPIC, 0, self.offset),
            id=self.ids.next(ids.subject_bucket(subject)),
            request_key=ids.request_key("test", request_id),
            hash=f"{borrower}{debt}{stage}{ladder}".encode(),
            stage_key=ids.stage_key(LENDER, borrower, debt, None, stage, ""),
            subject=subject,
            source="test",
            request_id=request_id,
            lender=LENDER,
            borrower=borrower,
            debt=debt,
            instalment=None,
            product=None,
            stage=stage,
            step="",
            template="repayment",
            lane=Lane.BULK,
            ladder=ladder,
            send_at=self.now,
            not_after=self.now + dt.timedelta(hours=2),
            state_as_of=self.now,
            sealed=b"sealed",
        )

    def deliver(self, commands: list[Command], slots: Slots | None = None) -> intake.Result:
        following = {0: self.offset + 1}

        async def work(connection: Any) -> intake.Result:
            return await intake.write(connection, TOPIC, commands, following, self.now, self.numbers, slots)

        return self.run(self.tx(work))

    def requested(self, borrower: str, debt: str, stage: str, ladder: str, fast: int | None) -> None:
        request = self.request(borrower, debt, stage, ladder, f"r{self.offset + 1}")
        slots = None
        if fast is not None:
            worker = self.workers[fast]
            slots = Slots(worker.id, self.ids.next(0), 1)
        result = self.deliver([request], slots)
        assert sum(result.outcomes.values()) == 1
        self.requests.append(request)
        for each in result.claimed:
            assert slots is not None
            self.claimed[slots.worker][each.id] = as_claimed(each, slots.token)

    def requested_again(self, data: st.DataObject, other: bool) -> None:
        known = data.draw(st.sampled_from(self.requests))
        self.offset += 1
        again = replace(known, id=self.ids.next(0), origin=Origin(TOPIC, 0, self.offset))
        result = self.deliver([replace(again, hash=b"other") if other else again])
        assert dict(result.outcomes) == {(0, "deadletter" if other else "duplicate"): 1}

    def read_again_below_the_stored_offset(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(self.requests))
        assert not self.deliver([known]).outcomes

    def cancelled(self, borrower: str, scope: str, data: st.DataObject) -> None:
        mine = [each for each in self.requests if each.borrower == borrower]
        key = data.draw(st.sampled_from(mine)).request_key if scope == "request" and mine else b"none"
        value = {"debt": "d1", "borrower": "", "request": key.hex()}[scope]
        self.offset += 1
        stop = Stop(
            Origin(TOPIC, 0, self.offset), self.ids.next(0), "test", ids.subject_key(LENDER, borrower), LENDER,
            borrower, scope, value, self.now, key if scope == "request" else None,
        )  # fmt: skip
        self.deliver([stop])
        self.stops.append((stop, self.step))

    def unreadable_stop(self, borrower: str) -> None:
        self.offset += 1
        subject = ids.subject_key(LENDER, borrower)
        letter = Letter(
            Origin(TOPIC, 0, self.offset), self.ids.next(0), Rejection.UNREADABLE_STOP, self.now, b"", b"",
            holds=((subject, LENDER, borrower),),
        )  # fmt: skip
        assert self.deliver([letter]).outcomes == {(0, "deadletter"): 1}
        self.held_at = getattr(self, "held_at", {}) | {subject: self.step}

    # --- two workers --------------------------------------------------------------------------------------------

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
        self.intend_claimed(worker, data.draw(st.lists(st.sampled_from(sorted(mine)), unique=True, min_size=1)))

    def intend_claimed(self, worker: int, chosen: list[int]) -> None:
        mine = self.claimed[worker]
        intents = [Intent(mine[each], self.ids.next(ids.bucket_of(each)), "p", b"", "{}") for each in chosen]

        async def work(connection: Any) -> intend.Intended:
            return await intend.intend(connection, worker, intents, self.now)

        done = self.run(self.tx(work))
        for each in intents:
            claimed = mine.pop(each.claimed.id)
            if each.attempt in done.sendable:
                note(f"intended {each.attempt} for {claimed.id} by {worker}")
                self.sent[each.attempt] = Sent(each.attempt, claimed.id, worker)
                self.intended_at_step[each.attempt] = self.step
                self.no_second_message(claimed.id)
                self.no_send_after_a_stop(claimed.id)

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
        assert request.subject not in getattr(self, "held_at", {})
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

    # --- the provider -------------------------------------------------------------------------------------------

    def receipts(self, data: st.DataObject, states: list[A], how: str) -> None:
        """One to three receipts in one group, in any order, of one reminder or of several."""
        reminders = [each.reminder for each in self.sent.values()]
        # Those with several attempts are few, and the only ones whose receipts can contradict each other.
        several = {each for each in reminders if reminders.count(each) > 1}
        of = several if several and data.draw(st.booleans()) else set(reminders)
        group = [each for state in states if (each := self.one_receipt(data, state, of)) is not None]

        async def take(connection: Any) -> frozenset[int]:
            return (await receipts.take(connection, group, self.now, self.numbers, self.random.random)).kept

        async def store(connection: Any) -> frozenset[int]:
            return await receipts.store(connection, group, self.now)

        if group:
            assert self.run(self.tx(store if how == "parked" else take)) == {each.id for each in group}
        if how == "twice":
            assert self.run(self.tx(take)) == frozenset()
        self.run(self.sweep())
        self.run(self.what_arrived_has_ended())

    def one_receipt(self, data: st.DataObject, state: A, of: set[int]) -> Stored | None:
        candidates = [each for each in self.sent.values() if each.taken is not False and each.reminder in of]
        if not candidates:
            return None
        sent = data.draw(st.sampled_from(candidates))
        if sent.undelivered and state is not A.DELIVERED:
            return None
        sent.taken = True  # a provider that reports it has it
        if state in FAILED:
            sent.undelivered = True
        by_ref = data.draw(st.booleans())
        if state is A.DELIVERED and not by_ref:
            self.arrived.add(sent.reminder)
        id_ = self.ids.next(0)
        return Stored(
            id=id_, provider="p", kind="receipt", code="c", received_at=self.now, replay=str(id_).encode(),
            attempt=None if by_ref else sent.attempt, ref=f"ref{sent.attempt}", state=state,
            failure=Failure.UNREACHABLE if state in FAILED else None, occurred_at=self.now,
        )  # fmt: skip

    def says_no_more(self, data: st.DataObject, how: str) -> None:
        """The borrower presses the key in a call that is still being recorded, or is long over."""
        subject = ids.subject_key(LENDER, SAYS_NO_MORE)
        mine = {each.id for each in self.requests if each.subject == subject}
        called = [each for each in self.sent.values() if each.reminder in mine and each.taken is not False]
        if not called:
            return
        sent = data.draw(st.sampled_from(called))
        sent.taken = True
        id_ = self.ids.next(0)
        key = Stored(
            id=id_, provider="p", kind="key", code=Choice.STOP, received_at=self.now, replay=str(id_).encode(),
            attempt=sent.attempt,
        )  # fmt: skip

        async def take(connection: Any) -> Any:
            return await receipts.take(connection, [key], self.now, self.numbers, self.random.random)

        async def store(connection: Any) -> Any:
            return await receipts.store(connection, [key], self.now)

        self.run(self.tx(store if how == "parked" else take))
        if how == "twice":
            self.run(self.tx(take))
        self.run(self.sweep())
        self.opted_out.add(subject)

    async def sweep(self) -> None:
        async def work(connection: Any) -> Any:
            ripe = await receipts.ripe(connection, self.now)
            if ripe:
                await receipts.sweep(connection, ripe, self.now, self.numbers, self.random.random)

        await self.tx(work)

    async def what_arrived_has_ended(self) -> None:
        """Whatever else is said of a reminder in the same breath, a delivery ends it."""
        living = await self.connection.fetch("select id from live where id = any($1::bigint[])", list(self.arrived))
        assert not living, f"delivered and still alive: {living}"

    # --- time and brakes ----------------------------------------------------------------------------------------

    def time_passes(self, seconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds)
        self.run(self.fire())

    async def fire(self) -> None:
        async def work(connection: Any) -> Any:
            return await timers.fire(connection, self.now, self.numbers)

        await self.tx(work)
        await self.tx(lambda connection: releases.release(connection, self.now, self.numbers))

    def freeze(self, on: bool) -> None:
        async def work(connection: Any) -> Any:
            if on:
                await freezes.add(connection, "source", "test", reason="t", author="t", now=self.now)
            else:
                await freezes.lift(connection, "source", "test", reason="t", author="t", now=self.now)

        self.run(self.tx(work))

    # --- choice -------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        """Several operations at once: Hypothesis's own choice of rules leaves most of the deep paths untried."""
        for name in data.draw(st.lists(st.sampled_from(OPERATIONS), min_size=4, max_size=10)):
            draw = data.draw
            match name:
                case "request":
                    ladder, stage = draw(st.sampled_from(("s", "psv"))), draw(st.sampled_from(("d3", "due")))
                    borrower, debt = draw(st.sampled_from(BORROWERS)), draw(st.sampled_from(("d1", "d2")))
                    self.requested(borrower, debt, stage, ladder, draw(st.sampled_from((None, 0, 1))))
                case "request again" if self.requests:
                    self.requested_again(data, draw(st.booleans()))
                case "read again" if self.requests:
                    self.read_again_below_the_stored_offset(data)
                case "cancel":
                    scope = draw(st.sampled_from(("debt", "borrower", "request", "request")))
                    self.cancelled(draw(st.sampled_from(BORROWERS)), scope, data)
                case "unreadable stop":
                    self.unreadable_stop(draw(st.sampled_from(BORROWERS)))
                case "claim":
                    self.claim(draw(st.sampled_from((0, 1))), draw(st.integers(1, 3)))
                case "intend" if any(self.claimed.values()):
                    self.intend(data)
                case "claim and intend":
                    self.later_claim_and_intend(draw(st.sampled_from((0, 1))), draw(st.sampled_from((0, 0, 45, 400))))
                case "record" if any(not each.recorded for each in self.sent.values()):
                    self.record(data, draw(st.sampled_from(OUTCOMES)), draw(st.booleans()))
                case "receipts" if self.sent:
                    states = draw(st.lists(st.sampled_from(RECEIPTS), min_size=1, max_size=3))
                    self.receipts(data, states, draw(st.sampled_from(("once", "twice", "parked"))))
                case "no more":
                    self.says_no_more(data, draw(st.sampled_from(("once", "twice", "parked"))))
                case "lose lease":
                    self.lose_lease(draw(st.sampled_from((0, 1))), draw(st.booleans()))
                case "rescue":
                    self.rescue()
                case "time":
                    self.time_passes(draw(st.sampled_from((1, 45, 400, 4000))))
                case "freeze":
                    self.freeze(True)
                case "unfreeze":
                    self.freeze(False)
            self.step += 1
            self.run(self.check())

    # --- what always holds --------------------------------------------------------------------------------------

    async def check(self) -> None:
        fetch = self.connection.fetch
        broken = await fetch(
            """
            select r.id from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id
            where (l.id is null) = (e.reminder is null)
            """
        )
        assert not broken, f"neither or both live and ended: {broken}"
        broken = await fetch(
            """
            with q as (select id, 'due' as queue, due_at as at from due
                union all select id, 'claim', due_at from claim union all select id, 'timer', at from timer)
            select l.id, l.state, array_agg(q.queue) from live l left join q on q.id = l.id
            group by l.id having count(q.id) <> 1 or min(q.at) <> l.at or min(q.queue) <> all (case l.state
                when 'scheduled' then array['due', 'claim'] when 'sending' then array['claim'] else array['timer'] end)
            union all select q.id, null, array[q.queue] from q left join live l on l.id = q.id where l.id is null
            """
        )
        assert not broken, f"queue rows do not fit: {broken}"
        for row in await fetch("select id, state from attempt"):
            before = self.history.get(row[0])
            if before is not None and before != row[1]:
                assert await self.connection.fetchval("select attempt_moves($1, $2)", before, row[1]), (before, row[1])
            self.history[row[0]] = row[1]
        for row in await fetch("select reminder, state, seq from ending"):
            before_end = self.endings.get(row[0])
            if before_end is not None and before_end[0] != row[1]:
                assert await self.connection.fetchval("select reminder_moves($1, $2)", before_end[0], row[1])
            self.endings[row[0]] = (row[1], row[2])
        broken = await fetch(
            """
            select o.reminder from outbox o
            left join live l on l.id = o.reminder left join ending e on e.reminder = o.reminder
            where o.seq > 0 and o.topic = 'reminders.events' group by o.reminder, l.seq, e.seq
            having min(o.seq) <> 1 or max(o.seq) <> count(distinct o.seq) or max(o.seq) <> coalesce(l.seq, e.seq)
            """
        )
        assert not broken, f"events are not 1..seq: {broken}"
        broken = await fetch(
            """
            select coalesce(l.id, u.id) from unsettled u full join (
                select distinct l.id from live l join attempt a on a.reminder = l.id where a.state = 'unknown'
            ) l on l.id = u.id where l.id is null or u.id is null
            """
        )
        assert not broken, f"unsettled does not fit: {broken}"
        broken = await fetch(
            """
            select coalesce(l.id, f.id) from frozen f full join (
                select id from live where state = 'held' and reason = 'frozen'
            ) l on l.id = f.id where l.id is null or f.id is null
            """
        )
        assert not broken, f"frozen does not fit: {broken}"
        counted = await self.connection.fetchval("select sum(n) from intake_count where outcome = 'accepted'")
        assert (counted or 0) == await self.connection.fetchval("select count(*) from reminder")

    async def heal(self) -> None:
        """I8: once faults end, everything ends."""
        await self.tx(
            lambda connection: freezes.lift(connection, "source", "test", reason="t", author="t", now=self.now)
        )
        for worker in list(self.workers.values()):
            await self.connection.execute("update worker set lease_until = '-infinity' where id = $1", worker.id)
        await self.rescue_all()
        for _ in range(4):
            self.now += dt.timedelta(hours=3)
            await self.fire()
            await self.register(0)
            token = self.ids.next(0)
            worker = self.workers[0]
            taken = await claims.claim(self.connection, worker.id, self.now, 1000, 1000, token)
            verdicts = [outcomes.Verdict(each.id, token, "not_after", "{}", expire=True) for each in taken]

            async def work(
                connection: Any, worker: workers.Worker = worker, verdicts: list[outcomes.Verdict] = verdicts
            ) -> Any:
                return await outcomes.settle(connection, worker.id, verdicts, self.now, self.numbers)

            if verdicts:
                await self.tx(work)
            await self.check()
        assert await self.connection.fetchval("select count(*) from live") == 0


def as_claimed(each: Request, token: int) -> claims.Claimed:
    return claims.Claimed(
        each.id, each.subject, each.lender, each.source, each.request_id, each.product, each.stage, each.template,
        each.lane, each.ladder, 0, 0, 0, each.not_after, each.sealed, each.send_at, token,
    )  # fmt: skip


def test_what_cannot_be_healed_is_closed_all_the_same(database: str) -> None:
    class Broken(Ledger):
        dsn = database

        async def heal(self) -> None:
            raise AssertionError("it does not end")

    example = Broken()
    example.start()
    with pytest.raises(AssertionError, match="it does not end"):
        example.teardown()
    assert example.connection.is_closed()
    assert example.loop.is_closed()


def machine(dsn: str, resend: bool) -> type[Ledger]:
    stages = frozenset({("p", "d3"), ("p", "due")} if resend else ())
    return type("Ledger", (Ledger,), {"dsn": dsn, "numbers": replace_rules(RULES, resend=stages)})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("resend", [False, True], ids=["wait", "resend"])
def test_every_interleaving_keeps_the_promise(database: str, resend: bool) -> None:
    examples = int(os.environ.get("MACHINE_EXAMPLES", "60"))
    run_state_machine_as_test(
        machine(database, resend),
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
