"""The machine with freezes: any slice at any moment, what it holds, and how that goes on."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from hypothesis import note
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.dispatch.pipeline import Job
from gateway.ledger import freezes
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Channel, Failure
from tests.integration.plan_machine.brakes import EVERYTHING, PRODUCTS, Slice, named
from tests.integration.plan_machine.model import DEBTS, WITH_FREEZES
from tests.integration.plan_machine.rules import Plans
from tests.integration.plan_machine.work import planned
from tests.unit.cadence import facts

_KINDS: Final = (
    "product", "product", "product", "stage", "stage", "channel", "channel", "template", "source", "lender", "provider",
    "all",
)  # fmt: skip
_ENDS: Final = (None, None, None, 0.05, 2, 30)  # hours
# By when all that is free has its place, and the last of these is due.
_TURN: Final = dt.timedelta(seconds=8)
_MOST_ROUNDS: Final = 12

_FROZEN: Final = """
select r.id, r.borrower, r.debt, r.instalment, r.stage, r.step, r.ladder, l.rung, r.occasion, r.send_at, l.not_after
from live l join reminder r on r.id = l.id where l.state = 'held' and l.reason = 'frozen' order by r.id
"""
_NEXT: Final = """
select r.debt, r.stage, r.step, r.ladder, l.rung, r.occasion from live l join reminder r on r.id = l.id
order by l.at, l.id limit 8
"""
_STANDS: Final = "select id, state::text, reason, at from live where id = any($1::bigint[])"
_SCHEDULED: Final = "select id, at from live where state = 'scheduled'"
_SENDING: Final = "select attempt from live where state = 'sending'"
_DUE: Final = "select id from due where due_at <= $1"


class Freezing(Plans):
    operations = WITH_FREEZES

    def __init__(self) -> None:
        super().__init__()
        self.to_go: dict[int, dt.datetime] = {}  # when it was to go when it was scheduled last

    def do(self, name: str, slot: int, data: st.DataObject) -> None:
        match name:
            case "freeze":
                if rows := self.run(self.connection.fetch(_NEXT)):
                    self.freeze(self.draw_slice(of_row(data.draw(st.sampled_from(rows))), data), data)
            case "lift":
                in_force = self.brakes.in_force(self.now)
                self.lift(data.draw(st.sampled_from([*in_force, ("product", "card")])), data)
            case "frozen in hand":
                self.until_due(data)
                self.frozen_in_hand(slot, data)
            case "thaw":
                for each in self.brakes.in_force(self.now):
                    self.lift(each, data)
                self.all_goes_on()
            case "consequence":
                self.consequence(slot, data)
            case _:
                super().do(name, slot, data)

    def draw_together(self, data: st.DataObject) -> bool:
        return data.draw(st.sampled_from((True, True, True, False)))

    # --- somebody freezes, and lifts --------------------------------------------------------------------------------

    def draw_slice(self, facts_: dict[str, str | None], data: st.DataObject) -> Slice:
        kinds = [each for each in _KINDS if each == "all" or facts_[each] is not None]
        kind = data.draw(st.sampled_from(kinds))
        return EVERYTHING if kind == "all" else (kind, str(facts_[kind]))

    def freeze(self, slice_: Slice, data: st.DataObject) -> None:
        now, hours = self.tick(), data.draw(st.sampled_from(_ENDS))
        until = None if hours is None else now + dt.timedelta(hours=hours)
        note(f"{now}: {slice_} is frozen until {until}")
        added = self.run(self.tx(lambda c: freezes.add(c, *slice_, reason="why", author="who", now=now, until=until)))
        assert added == self.brakes.freeze(slice_, until, now), f"{slice_} until {until}: {added}"
        self.hear(data)

    def lift(self, slice_: Slice, data: st.DataObject) -> None:
        now = self.tick()
        note(f"{now}: {slice_} is lifted")
        lifted = self.run(self.tx(lambda c: freezes.lift(c, *slice_, reason="why", author="who", now=now)))
        assert lifted == self.brakes.lift(slice_, now), f"{slice_}: {lifted}"
        self.others_may_go()
        self.hear(data)

    def hear(self, data: st.DataObject) -> None:
        """A worker may hear of it later, and meets it when it intends."""
        if data.draw(st.booleans()):
            self.run(self.heard())

    async def heard(self) -> None:
        in_force = await freezes.read(self.connection, self.now)
        self.heard_of = {each.id: in_force for each in self.workers.values()}

    def others_may_go(self) -> None:
        """What was told of by nobody because of a freeze goes by itself, and that may be the second of a day."""
        self.known_at |= dict.fromkeys(DEBTS, self.step)

    # --- at once with what workers do -------------------------------------------------------------------------------

    def told_in_hand(self, slot: int, data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            self.frozen_in_hand(slot, data)
        else:
            super().told_in_hand(slot, data)

    def frozen_in_hand(self, slot: int, data: st.DataObject) -> None:
        """What a worker has claimed, or its message tells of, is frozen before it is intended; later it goes on."""
        draw = data.draw
        self.claim(slot)
        mine = [job for job in self.jobs[self.workers[slot].id].values() if planned(job)]
        slice_ = None
        if mine:
            job = max(mine, key=lambda each: len(each.told)) if draw(st.booleans()) else draw(st.sampled_from(mine))
            if job.told and draw(st.sampled_from((True, True, False))):
                slice_ = self.draw_slice_of(draw(st.sampled_from(job.told)).reminder, job.claimed.id, data)
            else:
                debt, _, stage, step = self.key(job.claimed.id)
                slice_ = self.draw_slice(named(debt, stage, step, job.claimed.channel), data)
            self.freeze(slice_, data)
            number = job.claimed.instalment
            if draw(st.sampled_from((True, False, False))) and number is not None:
                self.fact_about(job.claimed.borrower, job.claimed.debt, number, data)
            if draw(st.booleans()):  # another looks for work meanwhile
                self.until_due(data, dt.timedelta(hours=6))
                self.claim_and_intend(1 - slot)
        self.intend_all(slot)
        self.run(self.check())
        if slice_ is None:
            return
        if draw(st.booleans()):  # who waited for it goes by himself
            self.all_goes_on()
        if draw(st.sampled_from((True, True, False))):
            self.lift(slice_, data)
            self.all_goes_on()

    def next_contact(self, slot: int, data: st.DataObject) -> None:
        """A message fails, and of what it tells of something is frozen by its next one."""
        draw = data.draw
        if draw(st.booleans()):
            super().next_contact(slot, data)
            return
        self.claim_and_intend(slot)
        sending = {row[0] for row in self.run(self.connection.fetch(_SENDING))}
        gone = [each for each in self.sent.values() if each.planned and each.attempt in sending]
        if not gone:
            return
        sent = max(gone, key=lambda each: (each.told > 0, each.attempt))
        others = sorted(each for each, attempts in self.told_in.items() if sent.attempt in attempts)
        slice_ = self.draw_slice_of(draw(st.sampled_from(others)), sent.reminder, data) if others else None
        if slice_ is None or draw(st.sampled_from((False, False, True))):
            slice_ = ("channel", draw(st.sampled_from(self.channels(sent.reminder))))
        late, taken = draw(st.sampled_from((False, False, True))), draw(st.sampled_from((False, False, True)))
        if not late:
            self.freeze(slice_, data)
        if taken:
            self.record(sent, (A.ACCEPTED, None))
            self.receipt(sent, A.UNDELIVERED)
        else:
            self.record(sent, (A.REJECTED, Failure.BAD_RECIPIENT))
        self.claim(slot)
        if late:
            self.freeze(slice_, data)
        self.intend_all(slot)
        self.run(self.check())
        self.all_goes_on()
        if draw(st.booleans()):
            self.lift(slice_, data)
            self.all_goes_on()

    def draw_slice_of(self, told: int, leader: int, data: st.DataObject) -> Slice:
        """One that holds it and not the message that tells of it, where there is one."""
        (debt, _, stage, step), (own, _, leads, _) = self.key(told), self.key(leader)
        apart = [("product", PRODUCTS[debt])] if PRODUCTS[debt] not in (None, PRODUCTS[own]) else []
        apart += [("stage", stage)] * 2 if stage != leads else []
        if apart:
            kind, value = data.draw(st.sampled_from(apart))
            return kind, str(value)
        return self.draw_slice(named(debt, stage, step, None), data)

    def channels(self, reminder: int) -> list[Channel]:
        """By which it goes now, and next."""
        ladder, rung = self.run(self.connection.fetchrow("select ladder, rung from live where id = $1", reminder))
        return [_CHANNELS[each] for each in ladder[rung : rung + 2]]

    def consequence(self, slot: int, data: st.DataObject) -> None:
        """What waits for a fact is frozen, whether it is known or not, and taken back meanwhile."""
        draw = data.draw
        who, debt = self.draw_who(data)
        due = self.today(who) - dt.timedelta(days=draw(st.sampled_from((30, 30, 29))))
        slice_ = ("stage", "overdue_late")
        known, early, taken_back = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
        if known:
            self.tell(who, replace(facts.reported(self.tick()), debt=debt))
        if early:
            self.freeze(slice_, data)
        self.tell(who, facts.planned(due, as_of=self.tick(), debt=debt, zone="Europe/Berlin"))
        if not early:
            self.until_due(data)
            self.claim(slot)
            self.freeze(slice_, data)
            self.intend_all(slot)
        if taken_back:
            self.tell(who, replace(facts.reported(self.tick(), withdrawn=True), debt=debt))
        self.run(self.check())
        if draw(st.booleans()):
            self.lift(slice_, data)
            self.all_goes_on()

    # --- what must hold ---------------------------------------------------------------------------------------------

    def all_goes_on(self) -> None:
        """What is due leaves, and no freeze holds what it does not cover."""
        for slot in (0, 1):
            self.intend_all(slot)
        for _ in range(2):
            self.time_passes(self.now + _TURN, True)
        for _ in range(_MOST_ROUNDS):
            if not self.run(self.connection.fetch(_DUE, self.now)):
                break
            for slot in (0, 1):
                self.claim_and_intend(slot)
        waiting = self.run(self.connection.fetch(_DUE, self.now))
        assert not waiting, f"waits for ever: {waiting}"
        for row in self.run(self.connection.fetch(_FROZEN)):
            assert self.is_covered(row), f"no freeze covers what is frozen: {row}"

    async def check(self) -> None:
        """A freeze hides nothing: what is to end ends, and what lacks its fact waits for that."""
        await super().check()
        await self.note_times()
        for row in await self.connection.fetch(_FROZEN):
            if row["occasion"] is not None:
                who, key = row["borrower"], (row["debt"], row["instalment"], row["stage"], row["step"])
                over = list(self.truth.over(who, key))
                assert not over, f"{key} of {who} is frozen, and {over}"

    async def fire(self) -> None:
        """A round of recovery gives back what no freeze covers any more, for when it was to go, and nothing else."""
        await self.note_times()
        before = {row[0]: row for row in await self.connection.fetch(_FROZEN)}
        await super().fire()
        now = self.now
        if self.brakes.some_have_ended(now):
            self.others_may_go()
        self.known_at |= {row["borrower"]: self.step for row in before.values()}
        await self.heard()
        stands = {row[0]: row[1:] for row in await self.connection.fetch(_STANDS, list(before))}
        for id_, row in before.items():
            end, first = row["not_after"], row["send_at"]
            state, reason, at = stands.get(id_, (None, None, None))
            is_frozen = (state, reason) == ("held", "frozen")
            assert now < end or state is None, f"{id_} is {state} after {end}"
            if now >= end:
                continue
            if self.is_covered(row):
                assert is_frozen, f"{id_} is {state} {reason} under a freeze"
                continue
            assert state == "scheduled", f"{id_} is {state} {reason}, and nothing holds it"
            to_go = min(self.to_go.get(id_, first), end)
            latest = max(to_go, min(now + _TURN, end))
            assert max(to_go, now) <= at <= latest, f"{id_} was to go at {to_go}, and at {now} goes at {at}"
        for row in await self.connection.fetch(_FROZEN):
            assert row["id"] in before or self.is_covered(row), f"no freeze covers what is frozen: {row}"

    def is_covered(self, row: Any) -> bool:
        return bool(self.brakes.holding(of_row(row), self.now))

    async def note_times(self) -> None:
        self.to_go |= {row[0]: row[1] for row in await self.connection.fetch(_SCHEDULED)}

    def settle(self, worker: int, verdicts: list[tuple[Job, Any]]) -> None:
        self.run(self.note_times())
        super().settle(worker, verdicts)


_CHANNELS: Final = {"p": Channel.PUSH, "s": Channel.SMS, "v": Channel.VOICE}


def of_row(row: Any) -> dict[str, str | None]:
    """What a freeze can name of its next contact."""
    channel = _CHANNELS[row["ladder"][row["rung"]]]
    return named(row["debt"], row["stage"], row["step"], channel, planned=row["occasion"] is not None)
