"""Freshness on a real Postgres: watermarks, what is held for stale facts, and how it goes on."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import asyncpg
from msgspec.structs import replace

from gateway.ids import stage_key, subject_key
from gateway.ledger import claims, freshness, intake, stale, timeline
from gateway.ledger.claims import Claimed
from gateway.ledger.commands import Command, Heartbeat, Letter, Origin, Told
from gateway.ledger.database import Database
from gateway.ledger.releases import LEAD
from gateway.ledger.standing import Move
from gateway.ledger.workers import Worker
from schemas.repayments import Fact
from schemas.vocabulary import Reason, Rejection
from tests.integration.by_hand import RULES, hand
from tests.integration.plans_by_hand import TOPIC, Plans
from tests.unit.cadence.facts import at, moved, paid, planned

DAY = dt.timedelta(days=1)
SECOND = dt.timedelta(seconds=1)
CORE = "/core"


class Core(Plans):
    """A lender's core that also beats, into any partition."""

    def heartbeat(self, as_of: dt.datetime, partition: int = 0, source: str = CORE) -> Heartbeat:
        return Heartbeat(self.origin(partition), self.ids.next(0), source, as_of)

    def origin(self, partition: int = 0) -> Origin:
        self._offset += 1
        return Origin(TOPIC, partition, self._offset)

    def told(self, fact: Fact, partition: int = 0, source: str = CORE) -> Told:
        subject = subject_key("harbour", "b-1")
        return Told(self.origin(partition), self.ids.next(subject[0]), source, subject, "harbour", "b-1", fact=fact)

    async def read(self, *commands: Command, now: dt.datetime, connection: asyncpg.Connection | None = None) -> None:
        self.hand.now = now
        following = {each.origin.partition: each.origin.offset + 1 for each in commands}
        async with (connection or self.hand.connection).transaction():
            await intake.write(
                connection or self.hand.connection, TOPIC, commands, following, now, self.hand.rules,
                planner=self.planner,
            )  # fmt: skip

    async def watermarks(self) -> dict[tuple[str, int], dt.datetime]:
        rows = await self.hand.connection.fetch("select source, partition, as_of from fact_watermark")
        return {(row[0], row[1]): row[2] for row in rows}

    async def claimed(self, now: dt.datetime) -> tuple[Worker, list[Claimed]]:
        self.hand.now = now
        worker = await self.hand.worker()
        return worker, await self.hand.claim(worker)

    async def held(self, now: dt.datetime, max_fact_age: dt.timedelta = DAY) -> Claimed:
        """What is due then, held for stale facts."""
        worker, [claimed] = await self.claimed(now)
        await self.hand.settle(worker, claimed, hold=Reason.STALE_FACTS, max_fact_age=max_fact_age)
        return claimed

    async def turn(self) -> bool:
        return await self.hand.tx(lambda c: stale.turn(c, self.hand.now))

    async def state(self, of: Claimed) -> tuple[str, str | None]:
        row = await self.hand.connection.fetchrow(
            "select state::text, reason from live where id = $1"
            " union all select state::text, reason from ending where reminder = $1", of.id,
        )  # fmt: skip
        return row[0], row[1]

    async def waiting(self) -> int:
        return await self.hand.value("select count(*) from stale")


@asynccontextmanager
async def core(dsn: str) -> AsyncIterator[Core]:
    async with hand(dsn) as mine:
        for partition in range(3):
            await mine.connection.execute(
                "insert into intake_offset values ($1, $2, 0, 0) on conflict do nothing", TOPIC, partition
            )
        yield Core(mine)


# --- watermarks -------------------------------------------------------------------------------------------------------


async def test_records_and_heartbeats_raise_the_watermark_of_their_partition_and_nothing_else(database: str) -> None:
    async with core(database) as it:
        noon = at("2026-12-01", "12:00")
        await it.read(it.told(planned()), now=noon)
        assert await it.watermarks() == {(CORE, 0): planned().as_of}
        await it.read(it.heartbeat(noon), it.heartbeat(noon - DAY, 1), it.heartbeat(noon, 1, "/other"), now=noon)
        assert await it.watermarks() == {(CORE, 0): noon, (CORE, 1): noon - DAY, ("/other", 1): noon}


async def test_a_watermark_never_goes_back_nor_into_the_future(database: str) -> None:
    async with core(database) as it:
        noon = at("2026-12-01", "12:00")
        await it.read(it.heartbeat(noon), it.heartbeat(noon - DAY), now=noon)
        await it.read(it.heartbeat(noon - 2 * DAY), now=noon + DAY)
        assert await it.watermarks() == {(CORE, 0): noon}
        await it.read(it.heartbeat(noon + 9 * DAY), now=noon + DAY)
        assert await it.watermarks() == {(CORE, 0): noon + DAY}


async def test_the_payment_of_tomorrow_is_not_known_before_today_is_over(database: str) -> None:
    """A stop whose clock is in another zone is let through; what it says of its source is cut."""
    async with core(database) as it:
        noon = at("2026-12-01", "12:00")
        await it.read(it.told(planned()), it.told(paid(noon + DAY / 2)), now=noon)
        assert await it.watermarks() == {(CORE, 0): noon}
        assert await it.hand.value("select told_at from debt_fact") == noon


async def test_a_dead_letter_raises_nothing(database: str) -> None:
    async with core(database) as it:
        noon = at("2026-12-01", "12:00")
        origin = it.origin()
        letter = Letter(origin, it.ids.next(0), Rejection.BAD_DATE, noon, b"", b"", source=CORE)
        await it.read(letter, now=noon)
        assert await it.watermarks() == {}


async def test_a_fact_that_becomes_a_dead_letter_raises_nothing(database: str) -> None:
    """What is known of the borrower does not open: nobody can say what the fact would have done."""
    async with core(database) as it:
        await it.read(it.told(planned()), now=planned().as_of)
        await it.hand.connection.execute(
            "update debt_fact set sealed = set_byte(sealed, length(sealed) - 1,"
            " 255 - get_byte(sealed, length(sealed) - 1))"
        )
        noon = at("2026-12-01", "12:00")
        told = it.told(paid(noon, outstanding="1.00"))
        async with it.hand.connection.transaction():
            result = await intake.write(
                it.hand.connection, TOPIC, [told], {0: told.origin.offset + 1}, noon, it.hand.rules, careful=True,
                seal=lambda command: (b"", b""), planner=it.planner,
            )  # fmt: skip
        assert result.letters == {Rejection.UNREADABLE_STOP: 1}
        assert await it.watermarks() == {(CORE, 0): planned().as_of}


async def test_heartbeats_do_not_hide_that_all_else_is_bad(database: str) -> None:
    async with core(database) as it:
        noon = at("2026-12-01", "12:00")
        beats = [it.heartbeat(noon) for _ in range(3)]
        bad = Letter(it.origin(), it.ids.next(0), Rejection.BAD_DATE, noon, b"", b"", source=CORE)
        result = await it.hand.tx(
            lambda c: intake.write(c, TOPIC, [*beats, bad], {0: bad.origin.offset + 1}, noon, it.hand.rules)
        )
        assert (result.heard, result.refused) == ({CORE: 1}, {CORE: 1})
        assert (result.outcomes[0, "command"], result.outcomes[0, "deadletter"]) == (3, 1)


async def test_a_zombie_owner_of_a_partition_raises_nothing(database: str) -> None:
    """It has read a heartbeat and hangs; its successor reads on.  What the zombie writes then is below the offset."""
    async with core(database) as it:
        noon = at("2026-12-01", "12:00")
        late = it.heartbeat(noon)
        await it.read(it.heartbeat(noon - DAY), now=noon)
        other = await asyncpg.connect(database)
        try:
            transaction = it.hand.connection.transaction()
            await transaction.start()
            beat = it.heartbeat(noon - DAY / 2)
            await intake.write(
                it.hand.connection, TOPIC, [beat], {0: beat.origin.offset + 1}, noon, it.hand.rules, planner=it.planner
            )
            zombie = asyncio.create_task(it.read(late, now=noon + DAY, connection=other))
            blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and pid = $1"
            async with asyncio.timeout(30):
                while not await it.hand.value(blocked, other.get_server_pid()):
                    await asyncio.sleep(0.01)
            await transaction.commit()
            await zombie
        finally:
            await other.close()
        assert await it.watermarks() == {(CORE, 0): noon - DAY / 2}


# --- how fresh --------------------------------------------------------------------------------------------------------


async def test_a_claim_of_what_is_planned_knows_how_fresh_its_facts_are(database: str) -> None:
    async with core(database) as it:
        noon = at("2026-12-03", "19:00")
        await it.read(it.told(planned()), now=planned().as_of)
        _, [claimed] = await it.claimed(noon)
        assert claimed.fresh_at == planned().as_of


async def test_a_heartbeat_of_its_partition_makes_it_fresh_and_no_other(database: str) -> None:
    async with core(database) as it:
        noon = at("2026-12-03", "19:00")
        await it.read(it.told(planned(), 1), now=planned().as_of)
        await it.read(it.heartbeat(noon, 0), it.heartbeat(noon, 1, "/other"), it.heartbeat(noon - DAY, 1), now=noon)
        _, [claimed] = await it.claimed(noon)
        assert claimed.fresh_at == noon - DAY


async def test_the_last_event_names_the_partition(database: str) -> None:
    """The topic has more of them than before; an old event that is told again names none."""
    async with core(database) as it:
        noon, first = at("2026-12-03", "19:00"), planned()
        await it.read(it.told(first, 1), now=first.as_of)
        later = first.as_of + DAY
        await it.read(it.told(paid(later, outstanding="40.00"), 2), now=later)
        await it.read(it.told(first, 1), it.heartbeat(noon, 1), it.heartbeat(noon - DAY, 2), now=noon)
        _, [claimed] = await it.claimed(noon)
        assert claimed.fresh_at == noon - DAY


async def test_what_is_told_of_the_borrower_counts_for_each_of_his_debts(database: str) -> None:
    async with core(database) as it:
        noon, first = at("2026-12-03", "19:00"), planned()
        await it.read(it.told(first, 1), now=first.as_of)
        await it.read(it.told(moved(first.as_of + DAY), 2), now=first.as_of + DAY)
        await it.read(it.heartbeat(noon - 2 * DAY, 1), it.heartbeat(noon - DAY, 2), now=noon)
        _, [claimed] = await it.claimed(noon)
        assert claimed.fresh_at == noon - DAY


async def test_what_another_source_tells_of_the_borrower_says_nothing_of_his_payments(database: str) -> None:
    """The core is silent; who keeps the addresses is not."""
    async with core(database) as it:
        noon, first = at("2026-12-03", "19:00"), planned()
        await it.read(it.told(first), it.told(moved(first.as_of + DAY), source="/crm"), now=first.as_of + DAY)
        await it.read(it.heartbeat(noon, source="/crm"), now=noon)
        _, [claimed] = await it.claimed(noon)
        assert claimed.fresh_at == first.as_of


async def test_what_could_not_be_read_of_a_debt_leaves_it_as_old_as_it_is(database: str) -> None:
    """A plan in the dead letters holds nobody; no later heartbeat says that there was nothing else."""
    async with core(database) as it:
        noon, first = at("2026-12-03", "19:00"), planned()
        mine = subject_key("harbour", "b-1")

        def dead(debt: str | None = "loan-1", source: str = CORE) -> Letter:
            made = Letter(it.origin(), it.ids.next(0), Rejection.BAD_PARAMS, noon, b"", b"", source=source)
            return replace(made, doubts=((mine, debt),))

        async def fresh_at() -> dt.datetime | None:
            reminder = await it.hand.value("select id from live limit 1")
            return (await freshness.of(it.hand.connection, [reminder]))[reminder].fresh_at

        await it.read(it.told(first), now=first.as_of)
        other = [dead("loan-2"), dead(source="/crm")]
        await it.read(*other, it.heartbeat(noon - DAY), now=noon)
        assert await fresh_at() == noon - DAY
        letter = dead()
        await it.read(letter, it.heartbeat(noon), now=noon)
        assert await fresh_at() == first.as_of
        # A payment says nothing of what the plan would have said; another plan does, also in one batch with it.
        await it.read(it.told(paid(noon - 2 * DAY, outstanding="40.00")), now=noon)
        assert await fresh_at() == first.as_of
        again = replace(first, as_of=noon - 2 * DAY)
        await it.read(dead(), it.told(again), it.told(paid(noon - DAY, outstanding="40.00")), now=noon)
        assert await fresh_at() == noon
        await it.hand.connection.execute("update intake_offset set next = 0")
        await it.read(letter, now=noon)
        assert await fresh_at() == noon
        await it.read(it.told(replace(first, as_of=noon - DAY / 2)), dead(None), now=noon)
        assert await fresh_at() == noon - DAY / 2


async def test_what_was_requested_has_no_age(database: str) -> None:
    async with core(database) as it:
        request = await it.hand.born()
        await it.hand.connection.execute(
            "insert into debt_fact (subject, debt, id, sealed, source, topic, partition, told_at)"
            " values ($1, $2, 1, '', '/core', 'repayments.events', 0, $3)", request.subject, request.debt, it.hand.now,
        )  # fmt: skip
        _, [claimed] = await it.claimed(it.hand.now)
        assert (claimed.id, claimed.occasion, claimed.fresh_at) == (request.id, None, None)


_COST = """
select sum(seq_scan) filter (where relname <> 'due')::bigint, sum(idx_scan) filter (where relname <> 'due')::bigint,
       sum(n_tup_del) filter (where relname = 'due')::bigint
from pg_stat_user_tables where relname in ('debt_fact', 'borrower_fact', 'due')
"""


async def test_a_claim_reads_facts_of_what_is_planned_alone_and_by_their_keys(database: str) -> None:
    async with core(database) as it:
        connection = it.hand.connection
        for table, more in (("debt_fact", "debt, "), ("borrower_fact", "")):
            await connection.execute(
                f"insert into {table} (subject, {more}id, sealed, source, topic, partition, told_at)"
                f" select decode(md5(n::text), 'hex'), {more and chr(39) + 'd' + chr(39) + ', '}n, '', $1, $2, 0, now()"
                " from generate_series(1, 20000) n", CORE, TOPIC,
            )  # fmt: skip
            await connection.execute(f"analyze {table}")

        async def cost_of(n: int) -> tuple[int, int]:
            """Scans of the tables of facts by claims, once these are in the statistics."""
            before = await connection.fetchrow(_COST)
            worker = await it.hand.worker()
            other = await asyncpg.connect(database)
            for _ in range(n):
                assert len(await claims.claim(other, worker.id, it.hand.now, 1, 1, it.hand.id())) == 1
            await other.close()
            async with asyncio.timeout(30):
                while (after := await connection.fetchrow(_COST))[2] < before[2] + n:
                    await asyncio.sleep(0.05)
            return after[0] - before[0], after[1] - before[1]

        await it.hand.read(*(it.hand.request() for _ in range(8)))
        assert await cost_of(8) == (0, 0)
        await it.read(it.told(planned()), now=planned().as_of)
        it.hand.now = at("2026-12-30", "19:00")
        full, by_key = await cost_of(6)
        assert (full, by_key >= 2 * 6) == (0, True)


# --- held -------------------------------------------------------------------------------------------------------------


async def test_what_is_stale_is_held_until_its_source_is_heard_again(database: str) -> None:
    async with core(database) as it:
        evening = at("2026-12-03", "19:00")
        await it.read(it.told(planned()), now=planned().as_of)
        claimed = await it.held(evening)
        assert await it.state(claimed) == ("held", Reason.STALE_FACTS)
        assert await it.waiting() == 1
        # Neither time nor silence makes it fresh, nor another source, nor a heartbeat that is too old itself.
        assert await it.hand.fire(DAY / 24) == []
        await it.read(it.heartbeat(it.hand.now, 1), it.heartbeat(it.hand.now, 0, "/other"), now=it.hand.now)
        await it.read(it.heartbeat(it.hand.now - DAY), now=it.hand.now)
        assert not await it.turn()
        assert (await it.hand.release(), await it.waiting()) == ([], 1)
        await it.read(it.heartbeat(it.hand.now - DAY + SECOND), now=it.hand.now)
        await it.turn()
        [move] = await it.hand.release()
        assert (move.was.id, move.state, move.reason) == (claimed.id, "scheduled", Reason.RELEASED)
        assert await it.waiting() == await it.hand.value("select count(*) from frozen") == 0


async def test_what_stays_stale_expires_without_having_been_looked_at(database: str) -> None:
    async with core(database) as it:
        await it.read(it.told(planned()), now=planned().as_of)
        claimed = await it.held(at("2026-12-03", "19:00"))
        assert await it.hand.fire(claimed.not_after - it.hand.now - SECOND) == []
        [move] = await it.hand.fire(SECOND)
        assert (move.state, move.reason) == ("expired", Reason.NOT_AFTER)
        assert await it.waiting() == 0


async def test_what_the_core_tells_of_the_borrower_releases_his_own(database: str) -> None:
    async with core(database) as it:
        evening = at("2026-12-03", "19:00")
        await it.read(it.told(planned()), now=planned().as_of)
        claimed = await it.held(evening)
        await it.read(it.told(paid(evening - 2 * DAY, outstanding="50.00"), 2), now=evening)
        assert await it.state(claimed) == ("held", Reason.STALE_FACTS)
        assert await it.hand.value("select partition from stale") == 2, "where its last event stood"
        await it.read(it.told(paid(evening - DAY / 2, outstanding="40.00"), 2), now=evening)
        assert await it.waiting() == 0
        [move] = await it.hand.release()
        assert (move.was.id, move.at) == (claimed.id, evening + LEAD), "in its turn: the others may be told of, too"


async def test_a_payment_ends_what_is_stale(database: str) -> None:
    async with core(database) as it:
        evening = at("2026-12-03", "19:00")
        await it.read(it.told(planned()), now=planned().as_of)
        claimed = await it.held(evening)
        await it.read(it.told(paid(evening - 2 * DAY)), now=evening)
        assert await it.state(claimed) == ("cancelled", Reason.PAID)
        assert await it.waiting() == 0


async def test_a_watermark_between_the_claim_and_the_hold_releases_it_all_the_same(database: str) -> None:
    """The verdict fell by what was known at the claim; what is held is looked up by what is so, not by what changes."""
    async with core(database) as it:
        evening = at("2026-12-03", "19:00")
        await it.read(it.told(planned()), now=planned().as_of)
        worker, [claimed] = await it.claimed(evening)
        await it.read(it.heartbeat(evening), now=evening)
        assert not await it.turn()
        await it.hand.settle(worker, claimed, hold=Reason.STALE_FACTS, max_fact_age=DAY)
        await it.turn()
        assert [move.was.id for move in await it.hand.release()] == [claimed.id]


async def test_what_is_frozen_in_its_turn_is_held_by_the_freeze(database: str) -> None:
    async with core(database) as it:
        evening = at("2026-12-03", "19:00")
        await it.read(it.told(planned()), now=planned().as_of)
        claimed = await it.held(evening)
        await it.hand.freeze("lender", "harbour")
        await it.read(it.heartbeat(evening), now=evening)
        await it.turn()
        await it.hand.release()
        assert await it.state(claimed) == ("held", Reason.FROZEN)
        await it.hand.unfreeze("lender", "harbour")
        await it.hand.release()
        assert await it.state(claimed) == ("scheduled", Reason.RELEASED)


async def test_show_tells_since_when_it_is_stale_and_whom_it_waits_for(database: str) -> None:
    async with core(database) as it:
        evening = at("2026-12-03", "19:00")
        await it.read(it.told(planned(), 1), now=planned().as_of)
        claimed = await it.held(evening)

        async def standing() -> dict[str, object]:
            told = await timeline.read(it.hand.connection, claimed.id, evening)
            assert told is not None
            return dict(told.now)

        told = await standing()
        assert told["facts known as of"] == planned().as_of
        assert told["facts stale since"] == planned().as_of + DAY
        assert told["waits for"] == f"{CORE} in {TOPIC}/1"
        assert told["ends, if still held, at"] == claimed.not_after
        await it.read(it.heartbeat(evening, 1), now=evening)
        await it.turn()
        told = await standing()
        assert (told["facts known as of"], told["stale facts"]) == (evening, "no more: it waits for its turn")


# --- after an outage --------------------------------------------------------------------------------------------------


async def _outage(it: Core, n: int) -> list[Move]:
    """So many borrowers whose core was away, held."""
    noon = at("2026-12-03", "12:00")
    it.hand.now = noon
    requests = [
        it.hand.request(
            occasion="default/1/d3", stage_key=stage_key("acme", str(k), "debt", 1, "d3", ""), not_after=noon + 9 * DAY
        )
        for k in range(n)
    ]
    await it.hand.read(*requests)
    await it.hand.connection.execute(
        "insert into debt_fact (subject, debt, id, sealed, source, topic, partition, told_at)"
        " select subject, debt, id, '', $1, $2, id % 3, $3 from reminder", CORE, TOPIC, noon - 2 * DAY,
    )  # fmt: skip
    await it.hand.connection.execute("update live set occasion = 'default/1/d3'")
    worker = await it.hand.worker()
    held: list[Move] = []
    while claimed := await claims.claim(it.hand.connection, worker.id, it.hand.now, 500, 500, it.hand.id()):
        for each in claimed:
            held += await it.hand.settle(worker, each, hold=Reason.STALE_FACTS, max_fact_age=DAY)
    assert len(held) == n
    return held


async def test_after_an_outage_they_leave_by_the_timetable(database: str) -> None:
    async with core(database) as it:
        await _outage(it, 450)
        await it.read(*(it.heartbeat(it.hand.now, each) for each in range(3)), now=it.hand.now)
        back = it.hand.now
        for _ in range(12):
            while await it.hand.tx(lambda c: stale.turn(c, it.hand.now, 60)):
                pass
            while len(await it.hand.release()) >= 200:
                pass
            it.hand.later(1)
        rows = await it.hand.connection.fetch("select due_at from due order by due_at")
        went = [row[0] for row in rows]
        assert (len(went), went[0]) == (450, back + LEAD)
        assert {later - sooner for sooner, later in pairwise(went)} == {SECOND / RULES.release_per_second}
        assert await it.waiting() == 0


async def test_two_processes_give_nobody_two_turns(database: str) -> None:
    async with core(database) as it:
        await _outage(it, 40)
        await it.read(*(it.heartbeat(it.hand.now, each) for each in range(3)), now=it.hand.now)
        other = await asyncpg.connect(database)
        try:
            first, second = it.hand.connection.transaction(), other.transaction()
            await first.start()
            await stale.turn(it.hand.connection, it.hand.now, 5)
            await second.start()
            await stale.turn(other, it.hand.now, 100)
            await second.commit()
            await first.commit()
        finally:
            await other.close()
        assert await it.waiting() == 0
        assert await it.hand.value("select count(*) from frozen") == 40
        assert len({move.was.id for move in await it.hand.release()}) == 40


async def test_a_payment_and_a_turn_at_once_do_not_wait_for_each_other_forever(database: str) -> None:
    """The turn has the row; the payment has the borrower.  The payment waits, and then ends what waits for its turn."""
    async with core(database) as it:
        evening = at("2026-12-03", "19:00")
        await it.read(it.told(planned()), now=planned().as_of)
        claimed = await it.held(evening)
        await it.read(it.heartbeat(evening, 0), now=evening)
        other = await asyncpg.connect(database)
        try:
            transaction = other.transaction()
            await transaction.start()
            await stale.turn(other, evening)
            payment = asyncio.create_task(it.read(it.told(paid(evening)), now=evening))
            async with asyncio.timeout(30):
                while not await other.fetchval(
                    "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and pid = $1",
                    it.hand.connection.get_server_pid(),
                ):
                    await asyncio.sleep(0.01)
            await transaction.commit()
            await payment
        finally:
            await other.close()
        assert await it.state(claimed) == ("cancelled", Reason.PAID)
        assert await it.waiting() == await it.hand.value("select count(*) from frozen") == 0


_READ = "select seq_scan, coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where relname = 'stale'"


async def test_a_round_costs_the_same_however_many_wait(database: str) -> None:
    async with core(database) as it:
        await it.hand.connection.execute(
            "insert into stale select n, $1, $2, n % 3, interval '1 day', 'bulk', now()"
            " from generate_series(1, 30000) n",
            TOPIC, CORE,
        )  # fmt: skip
        await it.hand.connection.execute("analyze stale")
        await it.read(*(it.heartbeat(it.hand.now - 2 * DAY, each) for each in range(3)), now=it.hand.now)
        before = await it.hand.connection.fetchrow(_READ)
        ledger = Database(database, size=1, statement_timeout_ms=5000)
        await ledger.open()
        for _ in range(8):  # more than five: by then Postgres may have chosen a plan that ignores the parameters
            assert not await ledger.transaction(lambda c: stale.turn(c, it.hand.now))
        await ledger.close()
        async with asyncio.timeout(30):
            while (after := await it.hand.connection.fetchrow(_READ))[1] == before[1]:
                await asyncio.sleep(0.05)
        assert after[0] == before[0], "a full scan"
        assert after[1] - before[1] < 8 * 20


def test_the_place_of_a_record_is_its_topic_source_and_partition() -> None:
    now = at("2026-12-01", "12:00")
    beats = [Heartbeat(Origin("t", 1, k), k, "/a", now + k * SECOND) for k in (-2, -1, 5)]
    assert freshness.watermarks(beats, now) == [("t", "/a", 1, now, True)]
