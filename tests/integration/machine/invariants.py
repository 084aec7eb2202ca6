"""What always holds, asked of the tables after every operation; and that everything ends."""

from __future__ import annotations

import datetime as dt
from typing import Any

from gateway.ledger import claims, freezes, outcomes, workers
from tests.faults import tables
from tests.integration.machine.by_hand import ByHand
from tests.integration.machine.model import LENDER


async def check_ledger(connection: Any, history: dict[int, str], endings: dict[int, tuple[str, int]]) -> None:
    """What holds whatever the reminders are of; `history` and `endings` are what attempts and reminders were before."""
    fetch = connection.fetch
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
        before = history.get(row[0])
        if before is not None and before != row[1]:
            assert row[1] in tables.ATTEMPTS[before], f"attempt {row[0]}: {before} -> {row[1]}"
        history[row[0]] = row[1]
    for row in await fetch("select reminder, state, seq from ending"):
        before_end = endings.get(row[0])
        if before_end is not None and before_end[0] != row[1]:
            assert row[1] in tables.REMINDERS[before_end[0]], f"reminder {row[0]}: {before_end[0]} -> {row[1]}"
        endings[row[0]] = (row[1], row[2])
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
            select id, reason from live where state = 'held' and reason in ('frozen', 'stale_facts')
        ) l on l.id = f.id where l.id is null or (f.id is null and l.reason = 'frozen')
        """
    )
    assert not broken, f"frozen does not fit: {broken}"
    broken = await fetch(
        """
        select id, at, not_after from live where state in ('scheduled', 'held') and at > not_after
        union all select e.reminder, e.at, r.not_after from ending e join reminder r on r.id = e.reminder
            where e.state = 'expired' and (e.at < r.not_after and e.reason = 'not_after' or exists (
                select 1 from attempt a where a.reminder = e.reminder and a.state in ('unknown', 'unconfirmed')))
        """
    )
    assert not broken, f"waits past its not_after, or ended by it too soon or though it may have left: {broken}"


class Invariants(ByHand):
    async def check(self) -> None:
        await check_ledger(self.connection, self.history, self.endings)
        await self.every_record_is_one_thing()

    async def every_record_is_one_thing(self) -> None:
        """I1, I2: what was read is one reminder, duplicate, dead letter or command; a letter leaves the dead once."""
        value = self.connection.fetchval
        counted = dict(await self.connection.fetch("select outcome, sum(n) from intake_count group by outcome"))
        assert sum(counted.values()) == self.offset
        assert counted.get("deadletter", 0) == await value("select count(*) from deadletter")
        redriven = await value("select count(*) from redrive where outcome = 'accepted'")
        assert counted.get("accepted", 0) + redriven == await value("select count(*) from reminder")
        assert len({each.id for each in self.requests}) == await value("select count(*) from reminder")

    async def heal(self) -> None:
        """I8: once faults end, everything ends."""
        self.freezes.clear()
        for kind, value in (("source", "test"), ("lender", LENDER)):
            await self.tx(
                lambda connection, kind=kind, value=value: freezes.lift(
                    connection, kind, value, reason="t", author="t", now=self.now
                )
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
