"""What always holds, asked of the tables after every operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Final

from gateway.cadence.facts import Case, told
from gateway.cadence.planning import Occurrence, of_borrower
from gateway.ids import stage_key, subject_key
from schemas.vocabulary import Channel
from tests.integration.machine.invariants import check_ledger
from tests.integration.plan_machine.brakes import LENDER
from tests.integration.plan_machine.model import CADENCES, DEBTS
from tests.integration.plan_machine.work import Work
from tests.integration.plans_by_hand import everything

_MERGED: Final = """
select m.reminder, m.leader, fl.state::text, fl.reason, fe.state::text, fe.reason, ll.state::text, ll.reason
from merged m left join live fl on fl.id = m.reminder left join ending fe on fe.reminder = m.reminder
left join live ll on ll.id = m.leader
where not (
    (fl.state = 'held' and fl.reason = 'merged_into' and ll.id is not null and ll.state <> 'held'
        and not exists (select 1 from attempt a where a.reminder = m.leader
            and a.state not in ('intended', 'not_sent', 'rejected')))
    or coalesce(fe.state = 'suppressed' and fe.reason = 'merged_into', false)
)
"""
_WAITS_ON_NOBODY: Final = """
select l.id from live l left join merged m on m.reminder = l.id
where l.state = 'held' and l.reason = 'merged_into' and m.leader is null
"""
_TWICE: Final = """
select r.stage_key, count(distinct r.id) from reminder r join attempt a on a.reminder = r.id
where a.state not in ('not_sent', 'rejected') and r.stage_key is not null
group by r.stage_key having count(distinct r.id) > 1
"""
_TAUGHT_TWICE: Final = """
select r.borrower, r.step, count(distinct r.id) from reminder r join attempt a on a.reminder = r.id
where r.stage = 'education' and a.state not in ('not_sent', 'rejected')
group by r.borrower, r.step having count(distinct r.id) > 1
"""
_LEFT: Final = "select bool_or(state not in ('intended', 'not_sent', 'rejected')) from attempt where id = any($1)"
# What explains that there is none although there is an occasion for one.
_EXPLAINS: Final = frozenset(
    {
        ("delivered", None), ("undelivered", "contacts_exhausted"), ("undelivered", "ladder_closed"),
        ("unconfirmed", "no_receipt"), ("unconfirmed", "outcome_unknown"), ("expired", "not_after"),
        ("suppressed", "merged_into"), ("suppressed", "duplicate_stage"),
    }
)  # fmt: skip
# By a fact, which a later one may take back.
_STOPPED: Final = frozenset({("cancelled", each) for each in ("replanned", "paid", "stopped")})


class Invariants(Work):
    async def check(self) -> None:
        fetch = self.connection.fetch
        await self.plan_anew()
        await check_ledger(self.connection, self.history, self.endings)
        assert not (broken := await fetch(_MERGED)), f"told of in whose message: {broken}"
        assert not (broken := await fetch(_WAITS_ON_NOBODY)), f"merged into none: {broken}"
        assert not (broken := await fetch(_TWICE)), f"two contacts for one business key: {broken}"
        assert not (broken := await fetch(_TAUGHT_TWICE)), f"taught twice: {broken}"
        for row in await fetch("select reminder from ending where reason = 'merged_into'"):
            if row[0] not in self.suppressed:
                self.suppressed.add(row[0])
                left = await self.connection.fetchval(_LEFT, self.told_in.get(row[0], ()))
                assert left, f"suppressed as told, and nobody has told of it: {row[0]}"
        made = await self.connection.fetchval("select count(*) from reminder where occasion is not null")
        counted = await self.connection.fetchval("select coalesce(sum(n), 0) from planned_count")
        assert made == counted, f"{made} reminders are planned, {counted} counted"
        owned = {row[0] for row in await fetch("select key from stage_key")}
        for who in DEBTS:
            await self.every_occasion_has_one(who, owned)

    async def every_occasion_has_one(self, who: str, owned: set[bytes]) -> None:
        case = reduce(told, (fact for ref, fact in self.truth.facts if ref == who), Case())
        subject = subject_key(LENDER, who)
        rows = await self.connection.fetch(
            "select r.debt, r.instalment, r.stage, r.step, r.occasion, r.stage_key,"
            " coalesce(l.state::text, e.state::text) as state, coalesce(l.reason, e.reason) as reason, l.id as live,"
            " exists (select 1 from attempt a where a.reminder = r.id) as tried"
            " from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id"
            " where r.subject = $1 order by r.id", subject,
        )  # fmt: skip
        asked = {row["stage_key"] for row in rows if row["occasion"] is None}
        mine: dict[Any, Any] = {}
        for row in rows:
            if row["occasion"] is not None:
                key = tuple(row)[:4]
                before = mine.get(key)
                assert before is None or before["live"] is None, f"two of {key} are alive"
                mine[key] = row
        cadence = CADENCES.version("default", 1)
        assert cadence is not None
        planned = dict.fromkeys(self.truth.debts(who), cadence)  # what was never planned has no terms
        for of_debt in of_borrower(planned, case, self.now, subject.hex(), tuple(Channel)).values():
            for each in of_debt:
                if isinstance(each, Occurrence):
                    key = (each.key.debt, each.key.instalment, each.key.stage.value, each.key.step)
                    self.explained(who, key, mine.get(key), asked, owned)

    def explained(self, who: str, key: Any, row: Any, asked: set[bytes], owned: set[bytes]) -> None:
        if stage_key(LENDER, who, *key) in asked:
            return
        if key[2] == "education" and stage_key(LENDER, who, "", None, *key[2:]) in owned:
            return  # he has it, or has had it, be it for another debt
        assert row is not None, f"{who} {key} has no reminder"
        ended = (row["state"], row["reason"])
        if ended in (("cancelled", "cancelled_debt"), ("cancelled", "cancelled_borrower")):
            assert any(ref == who and of in (key[0], None) for ref, of, _ in self.truth.cancels)
            return
        if row["tried"] and ended in _STOPPED:
            # What may have reached somebody keeps its stage; else he has been planned anew.
            assert row["stage_key"] in owned, f"{who} {key} left, reached nobody, and is {ended}"
            return
        assert row["live"] is not None or ended in _EXPLAINS, f"{who} {key} has ended {ended}"

    async def told_again(self, told: Sequence[tuple[str, Any]]) -> None:
        before = await everything(self.connection)
        await self.tx(lambda c: self.write(c, told))
        after = await everything(self.connection)
        # What is past by now is told of in no later message of a leader that lives, which is so from then on.
        stays = [each for each in before if each[0] != "merged" or each in after]
        assert stays == after, f"{set(before) ^ set(after)}"
