"""What a provider tells, and what a borrower says to it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gateway import ids
from gateway.ledger import receipts
from gateway.ledger.received import Stored
from gateway.ledger.states import FAILED
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Choice, Failure
from tests.integration.machine.model import LENDER, SAYS_NO_MORE
from tests.integration.machine.work import Work


class Provider(Work):
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
        if how == "parked":  # while another reminder of his is about to leave
            self.requested(SAYS_NO_MORE, data.draw(st.sampled_from(("d1", "d2"))), "d3", "s", None)
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
        if how != "parked":
            self.run(self.sweep())
        self.opted_out.add(subject)
        if how == "parked":  # it counts before anybody has swept
            self.claim_and_intend(data.draw(st.sampled_from((0, 1))))

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
