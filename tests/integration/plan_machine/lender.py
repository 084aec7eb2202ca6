"""What the lender tells and asks for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway import ids
from gateway.intake.planner import Planner
from gateway.ledger import intake, replan
from gateway.ledger.commands import Heartbeat, Origin, Stop, Told
from schemas.repayments import Program, RepaymentPlanned
from schemas.vocabulary import Channel
from tests.integration.plan_machine.brakes import LENDER, PRODUCTS, SOURCE
from tests.integration.plan_machine.model import CADENCES, DEBTS, RULES, ZONES, Model
from tests.integration.plans_by_hand import SEALER, TOPIC
from tests.unit.cadence import facts

AMOUNTS = ("0", "40.00", "60.00", "100.00", "120.00")
LADDERS = (facts.ALL, facts.ALL, (Channel.SMS,), (Channel.PUSH, Channel.SMS))
HOURS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("09:00", "12:00"),),
    (("14:00", "18:00"),),
    (("18:00", "19:30"),),
)


class Lender(Model):
    def draw_who(self, data: st.DataObject) -> tuple[str, str]:
        who = data.draw(st.sampled_from(("b-1", "b-1", "b-2")))
        return who, data.draw(st.sampled_from(DEBTS[who]))

    def draw_dates(self, data: st.DataObject) -> list[dt.date]:
        """Near enough that something happens, and some on the same day."""
        today = self.now.date()
        offsets = data.draw(st.lists(st.sampled_from((-8, -2, -1, 0, 1, 4, 8, 8, 12, 19, 38)), min_size=1, max_size=2))
        return [today + dt.timedelta(days=each) for each in offsets]

    def draw_as_of(self, data: st.DataObject) -> dt.datetime:
        """Mostly now; what comes late is never of a moment that is taken."""
        now = self.tick()
        return now - dt.timedelta(hours=data.draw(st.sampled_from((0, 0, 0, 0, 0, 3, 30))))

    def fact(self, name: str, data: st.DataObject) -> None:
        who, debt = self.draw_who(data)
        as_of, draw = self.draw_as_of(data), data.draw
        number = draw(st.sampled_from((1, 1, 2)))
        fact: Any
        match name:
            case "plan":
                fact = facts.planned(
                    *self.draw_dates(data), as_of=as_of, debt=debt, zone=draw(st.sampled_from(ZONES[:1] * 3 + ZONES)),
                    channels=draw(st.sampled_from(LADDERS)), amount=draw(st.sampled_from(AMOUNTS[3:])),
                )  # fmt: skip
            case "pay":
                fact = facts.paid(as_of, draw(st.sampled_from((number, number, number, None))), debt=debt)
                if fact.instalment is not None:
                    fact = replace(fact, outstanding=draw(st.sampled_from(AMOUNTS)))
            case "stop" | "resume":
                tells = facts.stopped if name == "stop" else facts.resumed
                fact = tells(as_of, debt=draw(st.sampled_from((debt, debt, None))))
            case "reschedule":
                fact = facts.rescheduled(
                    *self.draw_dates(data), as_of=as_of, debt=debt, amount=draw(st.sampled_from(AMOUNTS[3:]))
                )
            case "debit failed":
                fact = facts.failed(as_of, number, debt)
            case "move":
                fact = self.moves(as_of, data, draw(st.sampled_from((None, *ZONES))))
            case "prefer":
                channels = draw(st.sampled_from((None, None, (Channel.SMS,))))
                fact = facts.prefers(as_of, *draw(st.sampled_from(HOURS)), channels=channels)
            case "opt":
                tells_ = draw(st.sampled_from((facts.out, facts.back_in, facts.back_in)))
                program = draw(st.sampled_from(Program))
                fact = tells_(as_of, program, draw(st.sampled_from((None, None, Channel.SMS))))
            case _:
                evident = draw(st.sampled_from((facts.reported, facts.filed)))
                fact = replace(evident(as_of, withdrawn=draw(st.booleans())), debt=debt)
        self.tell(who, fact)

    def fact_about(self, who: str, debt: str, number: int, data: st.DataObject) -> None:
        """One that changes what a message about this says, or tells of besides."""
        mine = self.truth.instalment(who, debt, number)
        due = self.now.date() if mine is None else mine.due_date
        as_of, draw = self.tick(), data.draw
        another = draw(st.sampled_from(DEBTS[who]))
        facts_ = {
            "part": facts.paid(as_of, number, draw(st.sampled_from(("30.00", "50.00"))), debt),
            "paid": facts.paid(as_of, number, debt=debt),
            "stopped": facts.stopped(as_of, debt=debt),
            "moved": self.moves(as_of, data),
            "another day": facts.rescheduled(
                due + dt.timedelta(days=draw(st.sampled_from((-1, 1)))), as_of=as_of, debt=debt
            ),
            "one more": facts.planned(due, as_of=as_of, debt=another, zone=self.truth.zone(who)),
        }
        self.tell(who, facts_[draw(st.sampled_from(("part", "one more", "one more", *facts_)))])

    def moves(self, as_of: dt.datetime, data: st.DataObject, zone: str | None = None) -> Any:
        """By the same channels mostly, and sometimes to another address."""
        fact = facts.moved(as_of, zone, data.draw(st.sampled_from(LADDERS)))
        suffix = data.draw(st.sampled_from(("", "7", "8")))
        return replace(fact, contacts=tuple(replace(each, address=each.address + suffix) for each in fact.contacts))

    def tell(self, who: str, *told: Any) -> None:
        mine = [of(who, each) for each in told]
        note(f"{self.now}: {who}: {[type(each).__name__ for each in mine]}")
        self.truth.facts += [(who, each) for each in mine]
        self.truth.heard = max(self.truth.heard, *(min(each.as_of, self.now) for each in mine))
        self.known_at[who] = self.step
        self.run(self.tx(lambda c: self.write(c, [(who, each) for each in mine])))

    def tell_again(self) -> None:
        """All that was ever told, in another order: not a row changes."""
        shuffled = list(self.truth.facts)
        self.random.shuffle(shuffled)
        if not shuffled:
            return
        self.run(self.told_again(shuffled))

    async def told_again(self, told: Sequence[tuple[str, Any]]) -> None:
        raise NotImplementedError

    def planner(self) -> Planner:
        return Planner(
            SEALER, CADENCES, lambda lender, product, at: CADENCES.in_force("default", at.date()),
            {LENDER: frozenset(Channel)}, lambda: self.ids,
        )  # fmt: skip

    async def plan_anew(self) -> None:
        """A round of recovery."""
        for reminder in await replan.waiting(self.connection, 0):

            async def work(connection: Any, reminder: int = reminder) -> None:
                await replan.plan(connection, reminder, self.now, RULES, self.planner())

            await self.tx(work)

    async def write(self, connection: Any, told: Sequence[tuple[str, Any]]) -> intake.Result:
        commands = []
        for who, fact in told:
            self.offset += 1
            subject = ids.subject_key(LENDER, who)
            origin = Origin(TOPIC, 0, self.offset)
            commands.append(Told(origin, self.ids.next(subject[0]), SOURCE, subject, LENDER, who, fact=fact))
        return await intake.write(
            connection, TOPIC, commands, {0: self.offset + 1}, self.now, RULES, planner=self.planner()
        )

    def beat(self) -> None:
        self.offset += 1
        beat = Heartbeat(Origin(TOPIC, 0, self.offset), self.ids.next(0), SOURCE, self.tick())
        stale = "select distinct r.borrower from live l join reminder r on r.id = l.id where l.reason = 'stale_facts'"
        for row in self.run(self.connection.fetch(stale)):
            self.known_at[row[0]] = self.step  # it goes out when he may have been told of all else
        self.read(beat)
        self.truth.heard = beat.as_of

    def cancel(self, data: st.DataObject) -> None:
        """Upstream wants no reminders of what is known now."""
        who, debt = self.draw_who(data)
        of = data.draw(st.sampled_from((debt, debt, None)))
        self.offset += 1
        subject, as_of = ids.subject_key(LENDER, who), self.tick()
        kind = "borrower" if of is None else "debt"
        note(f"{as_of}: cancelled {who} {of}")
        self.read(
            Stop(Origin(TOPIC, 0, self.offset), self.ids.next(0), SOURCE, subject, LENDER, who, kind, of or "", as_of)
        )
        self.truth.cancels.append((who, of, as_of))
        self.known_at[who] = self.step

    def read(self, command: Heartbeat | Stop) -> None:
        following = {0: self.offset + 1}
        self.run(self.tx(lambda c: intake.write(c, TOPIC, [command], following, self.now, RULES)))

    def request(self, data: st.DataObject) -> None:
        """Upstream asks for a stage that a plan may have, too."""
        who, debt = self.draw_who(data)
        stage, number = data.draw(st.sampled_from(("d7", "d3", "due"))), data.draw(st.sampled_from((1, 2)))
        self.hand.now = self.tick()
        subject = ids.subject_key(LENDER, who)
        asked = self.hand.request(
            "ps", stage, borrower=who, subject=subject, lender=LENDER, debt=debt, instalment=number,
            id=self.ids.next(subject[0]), stage_key=ids.stage_key(LENDER, who, debt, number, stage, ""),
            send_at=self.now + dt.timedelta(hours=data.draw(st.sampled_from((0, 5)))),
            not_after=self.now + dt.timedelta(days=2),
        )  # fmt: skip
        note(f"{self.now}: asked for {who} {debt} {number} {stage}: {asked.id}")
        self.run(self.hand.read(asked))
        self.known_at[who] = self.step


def of(who: str, fact: Any) -> Any:
    if isinstance(fact, RepaymentPlanned):
        return replace(fact, borrower=replace(fact.borrower, ref=who), product=PRODUCTS[fact.debt])
    return replace(fact, borrower_ref=who)
