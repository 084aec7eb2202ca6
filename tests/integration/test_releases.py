"""What a freeze has held leaves by and by: one timetable for all processes, the stale ones end, nothing else waits."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import asyncpg
import pytest

from gateway.ledger import freezes, releases
from gateway.ledger.commands import Request
from gateway.ledger.database import Database
from gateway.ledger.releases import AHEAD, LEAD
from schemas.vocabulary import AttemptState, Lane, Reason
from tests.integration.by_hand import HOUR, RULES, START, Hand, hand

RATE: Final = RULES.release_per_second
SECOND: Final = dt.timedelta(seconds=1)


async def frozen(hand: Hand, n: int, **changes: Any) -> list[Request]:
    """So many reminders, born while their lender is frozen."""
    requests = [hand.request(**changes) for _ in range(n)]
    await hand.read(*requests)
    return requests


async def due(hand: Hand) -> list[tuple[str, dt.datetime, int]]:
    rows = await hand.connection.fetch("select lane::text, due_at, id from due order by due_at, id")
    return [tuple(row) for row in rows]


async def released(hand: Hand, seconds: int) -> None:
    """Rounds of recovery, one each second."""
    for _ in range(seconds):
        while len(await hand.release()) >= 200:
            pass
        hand.later(1)


async def test_a_slow_timetable_is_a_timetable_too(database: str) -> None:
    """One in ten seconds: less than one before the horizon."""
    async with hand(database) as mine:
        mine.rules = replace(RULES, release_per_second=0.1)
        await mine.freeze()
        await frozen(mine, 3, not_after=mine.now + 48 * HOUR)
        await mine.unfreeze()
        await released(mine, 40)
        times = [at for _, at, _ in await due(mine)]
        assert [later - before for before, later in pairwise(times)] == [10 * SECOND, 10 * SECOND]


async def test_a_thousand_leave_by_the_timetable_and_the_stale_ones_never(database: str) -> None:
    async with hand(database) as mine:
        await mine.freeze()
        bulk = await frozen(mine, 900)
        urgent = await frozen(mine, 50, lane=Lane.URGENT)
        stale = await frozen(mine, 50, not_after=mine.now + HOUR)
        mine.later(HOUR.total_seconds() + 60)
        assert await mine.release() == []
        await mine.unfreeze()
        lifted = mine.now
        await released(mine, 3)
        # A burst is what does not happen: no more than there are places.
        assert len(await due(mine)) == (2 * SECOND + AHEAD).total_seconds() * RATE
        await released(mine, 17)
        went = await due(mine)
        assert len(went) == 950
        assert went[0][1] == lifted + LEAD
        assert {later[1] - sooner[1] for sooner, later in pairwise(went)} == {SECOND / RATE}
        assert [each[0] for each in went[:50]] == ["urgent"] * 50
        assert {each[2] for each in went} == {each.id for each in (*bulk, *urgent)}
        assert [each[2] for each in went[50:]] == [each.id for each in bulk], "as they were to go"
        for each in stale:
            assert await mine.state(each) == ("expired", Reason.NOT_AFTER)
        assert await mine.value("select count(*) from attempt") == 0
        assert await mine.value("select count(*) from frozen") == 0


async def test_two_processes_together_keep_the_pace(database: str) -> None:
    """While one is at it the other does nothing; then it goes on where the first has stopped."""
    async with hand(database) as mine:
        await mine.freeze()
        await frozen(mine, 400)
        await mine.unfreeze()
        other = await asyncpg.connect(database)
        try:
            places: list[dt.datetime] = []
            for _ in range(5):
                first, second = mine.connection.transaction(), other.transaction()
                await first.start()
                taken = await releases.release(mine.connection, mine.now, mine.rules, 30)
                await second.start()
                assert (await releases.release(other, mine.now, mine.rules, 30)).moves == []
                await second.rollback()
                await first.commit()
                async with other.transaction():
                    more = await releases.release(other, mine.now, mine.rules, 30)
                places += [each.at for each in (*taken.moves, *more.moves)]
                assert mine.now + LEAD + AHEAD >= max(places)
            # They ask on and on at the same moment: there are no more places than that.
            assert len(places) == AHEAD.total_seconds() * RATE
            assert sorted(places) == places
            assert {later - sooner for sooner, later in pairwise(places)} == {SECOND / RATE}
        finally:
            await other.close()


async def test_what_is_to_go_later_needs_no_place(database: str) -> None:
    async with hand(database) as mine:
        await mine.freeze()
        later = await frozen(mine, 300, send_at=START + HOUR)
        await mine.unfreeze()
        assert len(await mine.release()) + len(await mine.release()) == len(later)
        assert {each[1] for each in await due(mine)} == {START + HOUR}
        assert await mine.value("select next_at = '-infinity' from release_pace")


async def test_what_was_to_go_while_a_claim_and_a_freeze_crossed_comes_back_in_its_turn(database: str) -> None:
    """The freeze is over when the verdict is written: nobody holds it any more, and it leaves like the others."""
    async with hand(database) as mine:
        request = await mine.born()
        worker, claimed = await mine.claimed(request)
        await mine.freeze()
        await mine.unfreeze()
        await mine.settle(worker, claimed, hold=Reason.FROZEN)
        assert await mine.state(request) == ("held", Reason.FROZEN)
        assert await mine.value("select held_by from frozen") == freezes.OF_NONE
        assert [each.at for each in await mine.release()] == [mine.now + LEAD]


async def test_its_turn_under_another_freeze_waits_for_that_one(database: str) -> None:
    async with hand(database) as mine:
        await mine.freeze("lender", "acme")
        await mine.freeze("stage", "d3")
        [request] = await frozen(mine, 1)
        for kind, value, rest in (("lender", "acme", 1), ("stage", "d3", 0)):
            await mine.unfreeze(kind, value)
            moves = await mine.release()
            assert (await mine.state(request))[0] == ("held" if rest else "scheduled"), moves
        told = await mine.connection.fetch("select seq from outbox")
        assert len(told) == 1, "it was told once that it is held"


async def test_a_freeze_that_ends_by_itself_lets_go(database: str) -> None:
    async with hand(database) as mine:
        await mine.tx(lambda c: freezes.add(c, "all", "*", reason="", author="", now=START, until=START + SECOND))
        [request] = await frozen(mine, 1)
        assert await mine.release() == []
        [move] = await mine.release(SECOND)
        assert (move.state, move.reason) == ("scheduled", Reason.RELEASED)
        assert await mine.queue(request) == ("due",)


async def test_frozen_reminders_keep_no_timer_from_ringing(database: str) -> None:
    """A thousand of them are not looked at again and again: the one receipt window that closes is all there is."""
    async with hand(database) as mine:
        sending = await mine.sending()
        await mine.record(sending, AttemptState.ACCEPTED)
        await mine.freeze()
        await frozen(mine, 1000)
        [move] = await mine.fire(RULES.default_receipt_window)
        assert move.was.id == sending.request.id
        assert await mine.value("select count(*) from timer where at <= $1", mine.now) == 0


_READ: Final = """
select coalesce(sum(t.seq_scan), 0)::bigint,
       (select coalesce(sum(i.idx_tup_read), 0)::bigint from pg_stat_user_indexes i where i.relname = 'frozen')
from pg_stat_user_tables t where t.relname = 'frozen'
"""


async def test_what_is_frozen_costs_nothing_while_it_is(database: str) -> None:
    """Thirty thousand under three freezes, and one that is free to go: a round takes a step for each freeze."""
    async with hand(database) as mine:
        await mine.freeze("stage", "due")
        await mine.freeze("stage", "d7")
        await mine.freeze()
        await mine.connection.execute(
            "insert into frozen select -n, 1 + n % 3, 'bulk', now() from generate_series(1, 30000) n"
        )
        await mine.connection.execute("analyze frozen")
        request = await mine.born(stage="d3", lender="other", send_at=START)
        worker, claimed = await mine.claimed(request)
        await mine.settle(worker, claimed, hold=Reason.FROZEN)
        before = await mine.connection.fetchrow(_READ)
        ledger = Database(database, size=1, statement_timeout_ms=5000)
        await ledger.open()
        released = [
            await ledger.transaction(lambda c: releases.release(c, mine.now, mine.rules)) for _ in range(8)
        ]  # more than five: by then Postgres may have chosen a plan that ignores the parameters
        await ledger.close()
        assert [len(each.moves) for each in released] == [1] + [0] * 7
        async with asyncio.timeout(30):
            while (after := await mine.connection.fetchrow(_READ))[1] == before[1]:
                await asyncio.sleep(0.05)
        assert after[0] == before[0], "a full scan"
        assert after[1] - before[1] < 8 * 20


@pytest.mark.parametrize("lifted", [False, True])
async def test_what_a_process_of_the_version_before_holds_is_found(lifted: bool, database: str) -> None:
    """It knows nothing of the rows in `frozen` and looks at what it holds every 30 seconds."""
    async with hand(database) as mine:
        await mine.freeze()
        [request] = await frozen(mine, 1)
        await mine.connection.execute("truncate frozen")
        await mine.connection.execute("update live set at = $1", START)
        await mine.connection.execute("update timer set at = $1", START)
        if lifted:
            await mine.unfreeze()
        [move] = await mine.fire(SECOND)
        assert (move.state, move.reason, move.at) == ("held", Reason.FROZEN, request.not_after)
        assert len(await mine.release()) == lifted
        # And it ends one without its row.
        if not lifted:
            await mine.connection.execute("update live set state = 'scheduled', reason = null")
            await mine.unfreeze()
            assert await mine.release() == []
            assert await mine.value("select count(*) from frozen") == 0


# --- freezes ----------------------------------------------------------------------------------------------------------


async def audited(hand: Hand) -> list[tuple[str, ...]]:
    return [
        tuple(row) for row in await hand.connection.fetch("select act, author, reason from freeze_audit order by id")
    ]


async def add(hand: Hand, author: str, until: dt.datetime | None) -> bool:
    return await hand.tx(
        lambda c: freezes.add(c, "lender", "acme", reason="why", author=author, now=hand.now, until=until)
    )


async def test_a_freeze_only_gets_longer_and_every_step_is_audited(database: str) -> None:
    async with hand(database) as mine:
        assert await add(mine, "ann", START + HOUR)
        assert not await add(mine, "bob", START + HOUR)
        assert await add(mine, "cid", START + 2 * HOUR)
        assert await add(mine, "dan", None)
        assert not await add(mine, "eve", START + 9 * HOUR)
        assert not await add(mine, "fay", None)
        [now] = await freezes.in_force(mine.connection, START)
        assert (now.author, now.until) == ("dan", None)
        lift = lambda c: freezes.lift(c, "lender", "acme", reason="over", author="gus", now=mine.now)  # noqa: E731
        assert await mine.tx(lift)
        assert not await mine.tx(lift)
        assert await freezes.in_force(mine.connection, START) == []
        mine.later(-1)  # another clock, a little behind
        assert await add(mine, "hal", START + HOUR)
        assert await audited(mine) == [
            ("freeze", "ann", "why"), ("freeze", "cid", "why"), ("freeze", "dan", "why"), ("unfreeze", "gus", "over"),
            ("freeze", "hal", "why"),
        ]  # fmt: skip


async def test_the_audit_sees_other_programs_and_cannot_be_changed(database: str) -> None:
    async with hand(database) as mine:
        await mine.connection.execute(
            "insert into \"freeze\" (kind, value, reason, author, created_at) values ('all', '*', 'old', 'psql', now())"
        )
        await mine.connection.execute('delete from "freeze"')
        user = await mine.value("select current_user")
        assert await audited(mine) == [("freeze", "psql", "old"), ("unfreeze", user, "its row was deleted")]
        for change in ("update freeze_audit set author = 'me'", "delete from freeze_audit", "truncate freeze_audit"):
            with pytest.raises(asyncpg.RaiseError, match="freeze_audit is insert-only"):
                await mine.connection.execute(change)


async def test_a_freeze_that_is_rolled_back_leaves_no_trace(database: str) -> None:
    async with hand(database) as mine:
        transaction = mine.connection.transaction()
        await transaction.start()
        await freezes.add(mine.connection, "all", "*", reason="", author="", now=START)
        await transaction.rollback()
        assert (await audited(mine), await freezes.in_force(mine.connection, START)) == ([], [])


async def test_what_a_freeze_holds_is_counted_to_a_cap(database: str) -> None:
    async with hand(database) as mine:
        await mine.freeze()
        await frozen(mine, 3)
        [found] = await freezes.in_force(mine.connection, START)
        assert found.holds == 3
        await mine.connection.execute(
            "insert into frozen select -n, (select max(held_by) from frozen), 'bulk', now()"
            " from generate_series(1, 10100) n"
        )
        [found] = await freezes.in_force(mine.connection, START)
        assert found.holds == freezes.HELD_CAP
