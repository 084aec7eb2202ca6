"""The machine: any of its operations at any moment."""

from __future__ import annotations

import datetime as dt

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.integration.plan_machine.invariants import Invariants
from tests.integration.plan_machine.model import OPERATIONS, OUTCOMES, RECEIPTS, STARTS

_HOURS = (0.1, 1, 4, 12, 24, 72)


class Plans(Invariants):
    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.run(self.open())
        self.now = data.draw(st.sampled_from(STARTS))
        for _ in range(3):
            self.fact("plan", data)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.run(self.database.close())
        if hasattr(self, "connection"):
            self.run(self.connection.close(timeout=10))
        self.loop.close()

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        draw = data.draw
        for name in draw(st.lists(st.sampled_from(OPERATIONS), min_size=4, max_size=10)):
            slot = draw(st.sampled_from((0, 1)))
            self.step += 1
            match name:
                case "request":
                    self.request(data)
                case "claim":
                    self.claim(slot)
                case "intend" if busy := [each for each, mine in self.jobs.items() if mine]:
                    worker = draw(st.sampled_from(busy))
                    mine = sorted(self.jobs[worker])
                    self.intend(worker, draw(st.lists(st.sampled_from(mine), unique=True, min_size=1)))
                case "claim and intend":
                    self.claim(slot)
                    worker = self.workers[slot].id
                    self.intend(worker, sorted(self.jobs[worker]))
                case "record" if any(not each.recorded for each in self.sent.values()):
                    self.record(data, draw(st.sampled_from(OUTCOMES)))
                case "receipt" if self.sent:
                    self.receipt(data, draw(st.sampled_from(RECEIPTS)))
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
                case "tell again":
                    self.tell_again()
                case "record" | "receipt" | "intend":
                    continue
                case fact:
                    self.fact(fact, data)
            self.run(self.check())
