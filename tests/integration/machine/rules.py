"""The machine: any of its operations at any moment."""

from __future__ import annotations

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from gateway.ledger import workers
from gateway.ledger.unknowns import Found
from tests.integration.machine.invariants import Invariants
from tests.integration.machine.model import BORROWERS, OPERATIONS, OUTCOMES, RECEIPTS, TOPIC


class Ledger(Invariants):
    @initialize()
    def start(self) -> None:
        async def begin() -> None:
            self.connection = await asyncpg.connect(self.dsn)
            await self.connection.execute(
                "truncate subject, tombstone, inbox, stage_key, reminder, live, ending, due, claim, timer, attempt,"
                " unsettled, provider_ref, decision, receipt, reply, parked, engagement, outbox, deadletter, redrive,"
                " settlement, manual_count, volume, call_centre,"
                ' intake_count, intake_offset, worker, "freeze", frozen'
            )
            await self.connection.execute("update release_pace set next_at = '-infinity'")
            await self.connection.execute("insert into intake_offset values ($1, 0, 1, 1)", TOPIC)
            for slot in (0, 1):
                await self.register(slot)

        self.workers: dict[int, workers.Worker] = {}
        self.run(begin())

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
                case "redrive" if self.unread or self.buried:
                    letter = draw(st.sampled_from(sorted(self.unread | self.buried)))
                    self.redrive(letter, draw(st.sampled_from(("d1", "d3"))))
                case "held and let go" if any(self.claimed.values()):
                    self.held_and_let_go(data)
                case "paused":
                    self.paused(draw(st.sampled_from((0, 1))), draw(st.booleans()), draw(st.booleans()))
                case "unreadable request":
                    self.unreadable_request(draw(st.sampled_from(BORROWERS)), draw(st.sampled_from(("d1", "d2"))))
                case "settle" if self.sent:
                    self.settle_unknown(data, draw(st.sampled_from(Found)))
                case "retry" if self.sent:
                    self.retry(list(self.sent.values()))
                case "freeze":
                    self.freeze(True)
                case "unfreeze":
                    self.freeze(False)
            self.step += 1
            self.run(self.check())
