"""The same machine with reminders of a cadence: a push that must be opened, an sms after silence, then a call."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize

from gateway import ids
from gateway.cadence.model import Confirm
from gateway.ledger import receipts, schema
from gateway.ledger.climbing import Climb, Step
from gateway.ledger.received import Stored
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Channel, Engagement
from tests.integration.machine.model import RULES, START
from tests.integration.machine.rules import Ledger

SILENCE: Final = dt.timedelta(minutes=6)
_LADDER: Final = Climb(
    {Channel.PUSH: Step(Confirm.OPENED, SILENCE), Channel.SMS: Step(Confirm.DELIVERED, SILENCE), Channel.VOICE: Step()}
)


class Planned(Ledger):
    numbers = replace(
        RULES,
        default_receipt_window=dt.timedelta(hours=1),
        climbs={"c/1/any": _LADDER},
        receipts=frozenset({"p"}),
    )
    occasion = "c/1/any"

    def __init__(self) -> None:
        super().__init__()
        self.ids: ids.IdSource | None = None  # type: ignore[assignment]

    @initialize()
    def start(self) -> None:
        super().start()
        self.run(self.tx(lambda connection: schema.ensure_partitions(connection, START)))

    def new_ids(self, number: int) -> ids.IdSource:
        """Of the business time: whether receipts come in is asked by it."""
        return ids.IdSource(number, lambda: int(self.now.timestamp() * 1000), self.ids)

    def no_second_message(self, reminder: int) -> None:
        """A new attempt only when each earlier one has failed for certain, or its rung was left behind by silence."""
        rows = self.run(
            self.connection.fetch(
                "select id, rung, state::text, intended_at from attempt where reminder = $1 order by id", reminder
            )
        )
        *earlier, last = rows
        for each in earlier:
            if each["state"] in ("accepted", "sent", "delivered"):
                assert each["rung"] < last["rung"], f"second message on one rung of {reminder}"
                if self.sent[each["id"]].undelivered:
                    continue  # it had failed when the next one was to be made, and arrived all the same
                assert last["intended_at"] >= each["intended_at"] + SILENCE, f"too soon for silence: {reminder}"
            else:
                assert each["state"] not in ("intended", "unknown"), f"a rung while one is unknown: {reminder}"

    def receipts(self, data: st.DataObject, states: list[A], how: str) -> None:
        super().receipts(data, states, how)
        if not data.draw(st.booleans()):
            return
        pushes = self.run(
            self.connection.fetch(
                "select id, reminder from attempt where channel = 'push' and state = 'delivered' order by id"
            )
        )
        if pushes:
            push = data.draw(st.sampled_from([tuple(each) for each in pushes]))
            self.run(self.opened(*push))

    async def opened(self, attempt: int, reminder: int) -> None:
        id_ = self.ids.next(0)
        stored = Stored(
            id=id_, provider="p", kind="engaged", code=Engagement.OPENED, received_at=self.now,
            replay=str(id_).encode(), attempt=attempt,
        )  # fmt: skip

        async def take(connection: Any) -> Any:
            return await receipts.take(connection, [stored], self.now, self.numbers, self.random.random)

        await self.tx(take)
        ended = await self.connection.fetchval("select state::text from ending where reminder = $1", reminder)
        assert ended is not None, f"opened and still alive: {reminder}"

    async def what_arrived_has_ended(self) -> None:
        """By sms or in a call; a push must be opened where something else may follow."""
        living = await self.connection.fetch(
            "select l.id from live l join attempt a on a.reminder = l.id where a.state = 'delivered' and a.rung > 0"
        )
        assert not living, f"delivered and still alive: {living}"

    async def check(self) -> None:
        await super().check()
        broken = await self.connection.fetch(
            """
            select e.reminder, e.state from ending e cross join lateral (
                select coalesce(bool_or(state = 'delivered'), false) as arrived,
                       coalesce(bool_or(state in ('accepted', 'sent', 'unknown', 'unconfirmed')), false) as out
                from attempt where reminder = e.reminder
            ) a
            where e.state = 'delivered' and not arrived
               or e.state in ('unconfirmed', 'expired', 'undelivered') and arrived
               or e.state in ('expired', 'undelivered') and out
            """
        )
        assert not broken, f"does not end as its best attempt: {broken}"
