"""The machine: any of its operations at any moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.integration.plan_machine.invariants import Invariants
from tests.integration.plan_machine.model import DEBTS, OPERATIONS, OUTCOMES, RECEIPTS, STARTS, ZONES
from tests.unit.cadence import facts

_HOURS = (0.1, 1, 4, 12, 24, 72)


class Plans(Invariants):
    operations: Sequence[str] = OPERATIONS

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.run(self.open())
        self.now = data.draw(st.sampled_from(STARTS))
        dates, together = self.draw_dates(data), self.draw_together(data)
        for debt in DEBTS["b-1"]:  # often due together, so that one message tells of all
            due = dates if together else self.draw_dates(data)
            self.tell("b-1", facts.planned(*due, as_of=self.tick(), debt=debt, zone=ZONES[0]))

    def draw_together(self, data: st.DataObject) -> bool:
        return data.draw(st.booleans())

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.run(self.database.close())
        if hasattr(self, "connection"):
            self.run(self.connection.close(timeout=10))
        self.loop.close()

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        draw = data.draw
        for name in draw(st.lists(st.sampled_from(self.operations), min_size=4, max_size=10)):
            slot = draw(st.sampled_from((0, 1)))
            self.step += 1
            match name:
                case "request":
                    self.request(data)
                case "claim":
                    self.until_due(data)
                    self.claim(slot)
                case "intend" if busy := [each for each, mine in self.jobs.items() if mine]:
                    worker = draw(st.sampled_from(busy))
                    mine = sorted(self.jobs[worker])
                    self.intend(worker, draw(st.lists(st.sampled_from(mine), unique=True, min_size=1)))
                case "claim and intend":
                    self.until_due(data)
                    self.claim_and_intend(slot)
                case "told in hand":
                    self.until_due(data)
                    self.told_in_hand(slot, data)
                case "cancel":
                    self.cancel(data)
                case "next contact":
                    self.until_due(data)
                    self.next_contact(slot, data)
                case "record" if going := [each for each in self.sent.values() if not each.recorded]:
                    self.record(draw(st.sampled_from(going)), draw(st.sampled_from(OUTCOMES)))
                case "receipt" if self.sent:
                    self.receipt(draw(st.sampled_from(list(self.sent.values()))), draw(st.sampled_from(RECEIPTS)))
                case "lose lease":
                    self.lose_lease(slot, draw(st.booleans()))
                case "rescue":
                    self.run(self.rescue())
                case "time":
                    hours = draw(st.sampled_from(_HOURS))
                    self.time_passes(self.now + dt.timedelta(hours=hours), draw(st.sampled_from((True, True, False))))
                case "next":
                    if (moment := self.next_moment()) is not None:
                        self.time_passes(moment, draw(st.sampled_from((True, True, True, False))))
                case "record" | "receipt" | "intend":
                    continue
                case other:
                    self.do(other, slot, data)
            self.run(self.check())
        self.tell_again()

    def do(self, name: str, slot: int, data: st.DataObject) -> None:
        """Something is told."""
        self.fact(name, data)
