"""The gauges and the conservation sums, read from a ledger that real moves have filled."""

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from gateway import ids
from gateway.clock import VirtualClock
from gateway.ledger import claims, freezes, gauges, intake, intend, offsets, outbox, outcomes, receipts, workers
from gateway.ledger.commands import Command, Letter, Origin, Request, Stop, Validation
from gateway.ledger.database import Database
from gateway.ledger.freezes import FreezeKind
from gateway.ledger.gauges import CAP, Backlog, ReadOutcome
from gateway.ledger.intend import Intent
from gateway.ledger.outcomes import Outcome
from gateway.ledger.standing import Rules
from gateway.ledger.sums import Conservation, conservation
from gateway.observability.gauges import GaugeRefresher
from gateway.observability.metrics import Metrics
from schemas.vocabulary import FINAL_REMINDER_STATES, AttemptState, Channel, Failure, Lane, Rejection, ReminderState
from tests.integration.by_hand import HOUR, hand

TOPIC = "reminders.requests"
NOW = dt.datetime.now(dt.UTC)
RULES = Rules()
NOBODY = dict.fromkeys(FINAL_REMINDER_STATES, 0)
SECOND = dt.timedelta(seconds=1)
IDS = ids.IdSource(0)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[Database]:
    ledger = Database(database, size=3, statement_timeout_ms=10_000)
    await ledger.open()
    yield ledger
    await ledger.close()


@pytest.fixture
async def other(database: str) -> AsyncIterator[Any]:
    """A connection that nobody else uses."""
    connection = await asyncpg.connect(database)
    yield connection
    connection.terminate()


def request(number: int, offset: int = 0, lane: Lane = Lane.BULK, *, partition: int = 0, delay: int = 0) -> Request:
    borrower = f"b{number}"
    subject = ids.subject_key("acme", borrower)
    return Request(
        origin=Origin(TOPIC, partition, offset),
        id=IDS.next(ids.subject_bucket(subject)),
        request_key=ids.request_key("loans", str(number)),
        hash=b"h",
        stage_key=ids.stage_key("acme", borrower, "d", None, "d7", ""),
        subject=subject,
        source="loans",
        request_id=str(number),
        lender="acme",
        borrower=borrower,
        debt="d",
        instalment=None,
        product=None,
        stage="d7",
        step="",
        template="repayment",
        lane=lane,
        ladder="s",
        send_at=NOW + delay * SECOND,
        not_after=NOW + dt.timedelta(days=1),
        state_as_of=NOW,
        sealed=b"",
    )


def stop(borrower: str, offset: int, partition: int = 0) -> Stop:
    subject = ids.subject_key("acme", borrower)
    return Stop(Origin(TOPIC, partition, offset), IDS.next(0), "loans", subject, "acme", borrower, "borrower", "", NOW)


def letter(offset: int, partition: int = 0) -> Letter:
    return Letter(Origin(TOPIC, partition, offset), IDS.next(0), Rejection.NOT_JSON, NOW, b"", b"")


async def take(ledger: Database, commands: Sequence[Command]) -> intake.Result:
    """One batch through intake; the partitions' rows exist afterwards."""
    following: dict[int, int] = {}
    for each in commands:
        following[each.origin.partition] = max(following.get(each.origin.partition, 0), each.origin.offset + 1)
    async with ledger.connection() as connection:
        stored = await offsets.read(connection, TOPIC, list(following))
        for partition in following.keys() - stored.keys():
            await offsets.reset(connection, TOPIC, partition, 0, None)
    return await ledger.transaction(lambda c: intake.write(c, TOPIC, commands, following, NOW, RULES))


async def read(ledger: Database, now: dt.datetime = NOW) -> gauges.Reading:
    async with ledger.connection() as connection:
        return await gauges.read(connection, now)


async def sums(ledger: Database, **given: Any) -> Conservation:
    async with ledger.connection() as connection:
        return await conservation(connection, **given)


# --- gauges -------------------------------------------------------------------------------------------------------


async def test_an_empty_ledger_reads_zero(ledger: Database) -> None:
    reading = await read(ledger)
    assert reading == gauges.Reading(
        {Lane.URGENT: Backlog(), Lane.BULK: Backlog()}, claims=0, unknown=Backlog(), outbox=Backlog(), frozen={},
        unowned_shards=16,
    )  # fmt: skip


async def test_who_works_and_who_publishes(ledger: Database) -> None:
    async with ledger.connection() as connection:
        one = await workers.register(connection, dt.timedelta(minutes=1))
        two = await workers.register(connection, dt.timedelta(minutes=1), relays=False)
        await outbox.acquire(connection, one.id, dt.timedelta(minutes=1))
    reading = await read(ledger)
    assert (reading.workers, reading.unowned_shards) == (2, 0)
    await ledger.fetch("update worker set lease_until = clock_timestamp() where id = $1 returning 1", two.id)
    await ledger.fetch("update relay_shard set lease_until = clock_timestamp() where shard < 3 returning 1")
    reading = await read(ledger)
    assert (reading.workers, reading.unowned_shards) == (1, 3)


async def test_offsets_and_outcomes_are_read_at_one_moment(ledger: Database) -> None:
    """However busy intake is: an alert on their difference must not see one that is not there."""

    async def keep_writing() -> None:
        for offset in range(0, 200, 2):
            await take(ledger, [request(offset, offset), letter(offset + 1)])

    writer = asyncio.create_task(keep_writing())
    seen = set()
    while not writer.done():
        reading = await read(ledger)
        assert reading.passed == sum(reading.outcomes.values())
        seen.add(reading.passed)
    await writer
    assert len(seen) > 3


async def test_what_is_due_waits_by_lane_and_the_future_does_not(ledger: Database) -> None:
    await take(
        ledger,
        [
            request(1, 0, delay=10),
            request(2, 1, delay=30),
            request(3, 2, delay=3600),
            request(4, 3, Lane.URGENT, delay=3600),
        ],
    )
    assert (await read(ledger)).due == {Lane.URGENT: Backlog(), Lane.BULK: Backlog()}
    reading = await read(ledger, NOW + 40 * SECOND)
    assert reading.due == {Lane.URGENT: Backlog(), Lane.BULK: Backlog(2, 30.0)}
    assert reading.outbox.rows == 4


async def send_into_the_dark(ledger: Database, at: dt.datetime) -> None:
    """One reminder claimed, intended, and never heard of again."""
    async with ledger.connection() as connection:
        worker = await workers.register(connection, dt.timedelta(minutes=1))
        [mine] = await claims.claim(connection, worker.id, at, 1, 1, 7)
    intent = Intent(mine, IDS.next(0), "one_sms", b"", "{}")
    done = await ledger.transaction(lambda c: intend.intend(c, worker.id, [intent], at))
    assert done.sendable == {intent.attempt}
    unknown = Outcome(intent.attempt, mine.id, mine.subject, "one_sms", AttemptState.UNKNOWN, Failure.AMBIGUOUS)
    await ledger.transaction(lambda c: outcomes.record(c, [unknown], at, RULES, lambda: 0.5))


async def test_claims_and_unknown_outcomes(ledger: Database) -> None:
    await take(ledger, [request(1, 0), request(2, 1), request(3, 2)])
    async with ledger.connection() as connection:
        worker = await workers.register(connection, dt.timedelta(minutes=1))
        assert len(await claims.claim(connection, worker.id, NOW, 2, 2, 7)) == 2
    reading = await read(ledger)
    assert (reading.claims, reading.due[Lane.BULK].rows, reading.unknown) == (2, 1, Backlog())
    await send_into_the_dark(ledger, NOW)
    reading = await read(ledger, NOW + 90 * SECOND)
    assert (reading.claims, reading.due[Lane.BULK].rows, reading.unknown) == (2, 0, Backlog(1, 90.0))


async def test_the_outbox_ages_by_the_databases_clock(ledger: Database) -> None:
    await take(ledger, [request(1, 0), request(2, 1)])
    assert (await read(ledger)).outbox.age < 60
    await ledger.fetch("update outbox set at = at - interval '5 minutes' where reminder = (select min(id) from live)")
    outbox = (await read(ledger)).outbox
    assert outbox.rows == 2
    assert 300 <= outbox.age < 360


async def test_freezes_in_force_by_kind(ledger: Database) -> None:
    slices = [("source", "a", None), ("source", "b", None), ("all", "*", 60), ("lender", "acme", -60)]

    async def freeze(connection: object) -> None:
        for kind, value, seconds in slices:
            until = None if seconds is None else NOW + seconds * SECOND
            await freezes.add(connection, kind, value, reason="test", author="test", now=NOW, until=until)

    await ledger.transaction(freeze)
    assert (await read(ledger)).frozen == {FreezeKind.SOURCE: 2, FreezeKind.ALL: 1}


async def test_the_kinds_are_those_of_the_table(ledger: Database) -> None:
    [row] = await ledger.fetch(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'freeze_kind_known'"
    )
    assert set(re.findall(r"'(\w+)'", row[0])) == set(FreezeKind)


LARGE = """
insert into due select 'bulk', $1::timestamptz - n * interval '1 second', n from generate_series(1, 30000) as n;
insert into due select 'urgent', $1::timestamptz + n * interval '1 second', n from generate_series(1, 30000) as n;
insert into claim select n, 1, 'bulk', $1, 1 from generate_series(1, 30000) as n;
insert into unsettled select n, $1 from generate_series(1, 30000) as n;
insert into frozen select n, 1, 'bulk', $1 from generate_series(1, 30000) as n;
insert into stale select n, 't', 's', n % 3, interval '1 day', 'bulk', $1 from generate_series(1, 30000) as n;
insert into outbox (bucket, reminder, seq, id, topic, payload)
    select n % 256, n, 1, 0, '', '' from generate_series(1, 30000) as n;
insert into parked select $1::timestamptz - n * interval '1 second', n from generate_series(1, 30000) as n;
insert into subject select decode(md5(n::text), 'hex'), 'l', n::text, case when n % 2 = 0 then $1::timestamptz end
    from generate_series(1, 60000) as n;
"""
TABLES = ["due", "claim", "unsettled", "outbox", "frozen", "parked", "subject", "stale"]
_SCANNED = """
select coalesce(sum(t.seq_scan), 0)::bigint,
       (select coalesce(sum(i.idx_tup_read), 0)::bigint from pg_stat_user_indexes i where i.relname = any($1::text[]))
from pg_stat_user_tables t where t.relname = any($1::text[])
"""


async def scanned(database: str) -> tuple[int, int]:
    """Full scans of the growing tables, and index entries read from them, by everybody who has disconnected."""
    connection = await asyncpg.connect(database)
    try:
        return tuple(await connection.fetchrow(_SCANNED, TABLES))
    finally:
        await connection.close()


async def test_the_cost_is_fixed_whatever_waits(database: str, other: Any) -> None:
    for statement in filter(None, map(str.strip, LARGE.split(";"))):
        await other.execute(statement.replace("$1", f"'{NOW.isoformat()}'"))
    for table in TABLES:
        await other.execute(f"analyze {table}")
    await other.close()
    before = await scanned(database)
    reader = await asyncpg.connect(database)
    rounds = 8  # more than five: by then Postgres may have chosen a plan that ignores the parameters
    for _ in range(rounds):
        reading = await gauges.read(reader, NOW)
    await reader.close()
    async with asyncio.timeout(30):
        while (after := await scanned(database))[1] == before[1]:
            await asyncio.sleep(0.05)
    assert reading.due == {Lane.BULK: Backlog(CAP, 30_000.0), Lane.URGENT: Backlog()}
    assert (reading.claims, reading.unknown.rows, reading.outbox.rows, reading.frozen_reminders) == (CAP,) * 4
    assert reading.stale_reminders == CAP
    assert (reading.parked, reading.held_borrowers) == (Backlog(CAP, 30_000.0), CAP)
    assert after[0] - before[0] == 0, "a full scan"
    assert after[1] - before[1] <= rounds * (len(TABLES) * CAP + 10)


# --- the refresher ------------------------------------------------------------------------------------------------


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = registry.get_sample_value(f"reminder_gateway_{name}", labels)
    assert found is not None, f"no series {name} {labels}"
    return found


async def test_every_gauge_exists_at_zero_and_shows_what_is_read(ledger: Database) -> None:
    registry = CollectorRegistry()
    refresher = GaugeRefresher(registry, ledger, VirtualClock(NOW + 40 * SECOND))
    shown = {
        sample.name.removeprefix("reminder_gateway_"): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    assert shown.pop("gauges_age_seconds") >= 0
    assert set(shown.values()) == {0}
    for kind in FreezeKind:
        assert value(registry, "frozen_slices", kind=kind) == 0
    await take(ledger, [request(1, 0), request(2, 1), request(3, 2, delay=3600)])
    await send_into_the_dark(ledger, NOW)
    await ledger.transaction(
        lambda c: freezes.add(c, "lender", "acme", reason="test", author="test", now=NOW, until=None)
    )
    await ledger.fetch("insert into frozen values (1, 1, 'bulk', now()) returning 1")
    await ledger.fetch("insert into stale values (1, 't', '/core', 1, '1 day', 'bulk', now()) returning 1")
    await ledger.fetch("insert into stale values (1, 't', '/other', 1, '1 day', 'bulk', now()) returning 1")
    for source, days, beats in (("/core", 1, True), ("/never", 9, False), ("/gone", 31, True), ("/other", 0, True)):
        as_of = NOW - days * 86_400 * SECOND
        await ledger.fetch("insert into fact_watermark values ('t', $1, 1, $2, $3) returning 1", source, as_of, beats)
    assert await refresher.refresh()
    assert value(registry, "stale_reminders") == 1
    assert value(registry, "facts_silence_seconds") == 86_440
    assert value(registry, "queue_depth", lane="bulk") == 1
    assert value(registry, "queue_oldest_age_seconds", lane="bulk") == 40
    assert value(registry, "queue_depth", lane="urgent") == 0
    assert value(registry, "claims") == 0
    assert value(registry, "unknown_reminders") == 1
    assert value(registry, "unknown_oldest_age_seconds") == 40
    assert value(registry, "outbox_rows") == 4
    assert value(registry, "frozen_slices", kind="lender") == 1
    assert value(registry, "frozen_reminders") == 1
    await ledger.fetch('delete from "freeze" returning 1')
    await ledger.fetch("delete from due returning 1")
    assert await refresher.refresh()
    assert value(registry, "frozen_slices", kind="lender") == 0
    assert value(registry, "queue_depth", lane="bulk") == 0


async def test_many_processes_each_read_less_often(ledger: Database) -> None:
    refresher = GaugeRefresher(CollectorRegistry(), ledger, VirtualClock(NOW), interval=5.0)
    pauses = {}
    async with ledger.connection() as connection:
        for n in range(1, 65):
            await workers.register(connection, dt.timedelta(minutes=10))
            if n in (1, 8, 16, 64):
                assert await refresher.refresh()
                pauses[n] = refresher.pause
    assert pauses == {1: 5.0, 8: 5.0, 16: 10.0, 64: 20.0}


async def test_a_reading_that_hangs_or_fails_is_counted_and_ends_nothing(ledger: Database, other: Any) -> None:
    registry = CollectorRegistry()
    refresher = GaugeRefresher(registry, ledger, VirtualClock(NOW), interval=0.05, within=0.3)
    await take(ledger, [request(1, 0)])
    task = asyncio.create_task(refresher.run())
    try:
        await until(lambda: value(registry, "queue_depth", lane="bulk") == 1)
        async with other.transaction():
            await other.execute("lock table due in access exclusive mode")
            # Sooner than the ten seconds of a statement: the reading has a bound of its own.
            await until(lambda: value(registry, "ledger_reading_errors_total") >= 2, seconds=8)
            assert value(registry, "queue_depth", lane="bulk") == 1  # the last known value stands,
            assert value(registry, "gauges_age_seconds") > 0.3  # and its age tells
        await take(ledger, [request(2, 1)])
        await until(lambda: value(registry, "queue_depth", lane="bulk") == 2)
        await ledger.close()
        errors = value(registry, "ledger_reading_errors_total")
        await until(lambda: value(registry, "ledger_reading_errors_total") > errors)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


async def test_parked_receipts_held_borrowers_and_the_terms_of_intake_show(ledger: Database) -> None:
    early = receipts.Stored(
        id=IDS.next(0), provider="one_sms", kind="receipt", code="x", received_at=NOW, attempt=7,
        state=AttemptState.DELIVERED,
    )  # fmt: skip
    await ledger.transaction(lambda c: receipts.take(c, [early], NOW, RULES, lambda: 0.5))
    subject = ids.subject_key("acme", "b1")
    held = Letter(
        Origin(TOPIC, 0, 0), IDS.next(0), Rejection.UNREADABLE_STOP, NOW, b"", b"", holds=((subject, "acme", "b1"),)
    )
    await take(ledger, [held, request(1, 1)])
    reading = await read(ledger)
    assert (reading.parked, reading.held_borrowers, reading.passed) == (Backlog(1, 0.0), 1, 2)
    assert reading.outcomes == {ReadOutcome.DEADLETTER: 1, ReadOutcome.ACCEPTED: 1}
    later = await read(ledger, NOW + dt.timedelta(hours=1))
    assert later.parked.age > 3000


# --- conservation -------------------------------------------------------------------------------------------------


async def fill(ledger: Database, metrics: Metrics) -> None:
    """Two partitions: requests, one of them twice and one of them born cancelled, stops, a validation, dead letters."""
    validation = Validation(Origin(TOPIC, 0, 3), IDS.next(0), "loans", "v", "acme")
    batches: list[list[Command]] = [
        [stop("b9", 0), request(1, 1), request(2, 2), validation, letter(4)],
        [request(9, 0, partition=1), request(1, 1, partition=1), request(3, 2, partition=1), letter(3, 1)],
        [request(4, 5), request(5, 4, partition=1)],
    ]
    for batch in batches:
        result = await take(ledger, batch)
        for (_, outcome), n in result.outcomes.items():
            metrics.read(outcome, n)
        for each in result.accepted:
            metrics.born(each.state, each.reason)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), {"one_sms": Channel.SMS})


LOG = {(TOPIC, 0): (0, 6), (TOPIC, 1): (0, 8), (TOPIC, 2): (5, 7)}


async def test_everything_adds_up(ledger: Database, metrics: Metrics) -> None:
    await fill(ledger, metrics)
    await send_into_the_dark(ledger, NOW)
    found = await sums(ledger, log=LOG, counted=metrics.counted())
    assert found.gaps == []
    assert (found.read, found.unread) == (11, 3 + 2)
    assert {each: found.outcome(each) for each in ReadOutcome} == {
        ReadOutcome.ACCEPTED: 6,
        ReadOutcome.DUPLICATE: 1,
        ReadOutcome.DEADLETTER: 2,
        ReadOutcome.COMMAND: 2,
        ReadOutcome.SKIPPED: 0,
    }
    assert (found.reminders, found.live, found.ended, found.queued, found.letters) == (6, 5, 1, 5, 2)
    assert found.endings == {ReminderState.CANCELLED: 1}
    assert metrics.counted().ended == NOBODY | {ReminderState.CANCELLED: 1}


async def test_the_same_batch_again_changes_no_sum(ledger: Database) -> None:
    batch: list[Command] = [request(1, 0), letter(1)]
    await take(ledger, batch)
    before = await sums(ledger)
    await take(ledger, batch)
    assert await sums(ledger) == before
    assert before.gaps == []


async def test_offsets_without_a_record_are_counted_apart(ledger: Database) -> None:
    """As the marks of transactions are, and what was taken back: 0 and 2 hold records, 1, 3 and 4 do not."""
    batch: list[Command] = [request(1, 0), request(2, 2)]
    for following in ({0: 5}, {0: 5}):
        async with ledger.connection() as connection:
            await offsets.reset(connection, TOPIC, 0, 0, None)
        await ledger.transaction(lambda c, f=following: intake.write(c, TOPIC, batch, f, NOW, RULES))  # type: ignore[misc]
    found = await sums(ledger, log={(TOPIC, 0): (0, 5)})
    assert found.gaps == []
    assert (found.read, found.unread) == (2, 0)
    assert (found.outcome(ReadOutcome.ACCEPTED), found.outcome(ReadOutcome.SKIPPED)) == (2, 3)


@pytest.mark.parametrize(
    ("harm", "gap"),
    [
        ("update intake_offset set next = next + 1 where partition = 0", "reminders.requests/0: offsets passed: 7"),
        ("delete from intake_count where partition = 1 and outcome = 'duplicate'", "reminders.requests/1: offsets"),
        ("delete from intake_offset where partition = 1", "reminders.requests/1: offsets passed: 0, outcomes: 5"),
        ("delete from live where id = (select min(id) from live)", "reminders: 6, live and ended: 5"),
        ("delete from due where id = (select min(id) from due)", "live reminders: 5, their queue rows: 4"),
        ("insert into timer select now(), min(id) from live", "live reminders: 5, their queue rows: 6"),
        ("delete from ending", "cancelled by the counters: 1, by the ledger: 0"),
        ("update ending set state = 'expired'", "cancelled by the counters: 1, by the ledger: 0"),
        ("update ending set state = 'expired'", "expired by the counters: 0, by the ledger: 1"),
        ("delete from deadletter where partition = 0", "dead letters: 2, rows kept of them: 1"),
        ("delete from reminder where id = (select min(id) from reminder)", "accepted and planned: 6, reminders: 5"),
        (
            "update intake_count set n = n + 1 where outcome = 'accepted' and partition = 0",
            "accepted and planned: 7, reminders: 6",
        ),
        ("insert into planned_count values ('repayments.events', 0, 1)", "accepted and planned: 7, reminders: 6"),
        ("update intake_offset set next = 9 where partition = 1", "the next offset 9 is outside the log, 0 to 8"),
    ],
)
async def test_what_is_missing_shows(ledger: Database, metrics: Metrics, harm: str, gap: str) -> None:
    await fill(ledger, metrics)
    assert (await sums(ledger, log=LOG, counted=metrics.counted())).gaps == []
    async with ledger.connection() as connection:
        await connection.execute(harm)
    gaps = (await sums(ledger, log=LOG, counted=metrics.counted())).gaps
    assert any(gap in each for each in gaps), gaps


async def test_what_the_counters_miss_shows(ledger: Database, metrics: Metrics) -> None:
    await fill(ledger, metrics)
    counted = metrics.counted()
    for wrong, gap in [
        (replace(counted, born=7), "born by the counters: 7, reminders: 6"),
        (replace(counted, read={}), "command by the counters: 0, by the ledger: 2"),
        (replace(counted, ended={}), "cancelled by the counters: 0, by the ledger: 1"),
    ]:
        assert gap in (await sums(ledger, counted=wrong)).gaps


async def test_each_final_state_adds_up_after_its_last_words(database: str, metrics: Metrics) -> None:
    """Four end as unconfirmed; of one nothing more is heard, two fail after all, and then one of these arrives."""
    async with hand(database) as it:
        sendings = []
        for _ in range(4):
            request = it.request()
            result = await it.read(request)
            for (_, outcome), n in result.outcomes.items():
                metrics.read(outcome, n)
            for each in result.accepted:
                metrics.born(each.state, each.reason)
            sending = await it.sent(request)
            metrics.attempt("p", AttemptState.INTENDED, None)
            metrics.moved((await it.record(sending, AttemptState.ACCEPTED)).moves)
            sendings.append(sending)
        metrics.moved(await it.fire(HOUR))
        _, fails, arrives, changes = sendings
        told = [
            (fails, AttemptState.UNDELIVERED),
            (arrives, AttemptState.DELIVERED),
            (arrives, AttemptState.DELIVERED),
            (changes, AttemptState.UNDELIVERED),
            (changes, AttemptState.DELIVERED),
        ]
        for n, (sending, state) in enumerate(told):
            word = receipts.Stored(
                id=it.id(), provider="p", kind="receipt", code="c", received_at=it.now, replay=b"%d" % n,
                attempt=sending.attempt, state=state,
            )  # fmt: skip
            taken = await it.tx(lambda c, word=word: receipts.take(c, [word], it.now, it.rules, lambda: 1.0))  # type: ignore[misc]
            metrics.moved(taken.moves)
        found = await conservation(it.connection, counted=metrics.counted())
    assert found.gaps == []
    assert found.endings == {
        ReminderState.UNCONFIRMED: 1, ReminderState.UNDELIVERED: 1, ReminderState.DELIVERED: 2,
    }  # fmt: skip
    [gap] = replace(found, counted=replace(metrics.counted(), ended=found.endings | {ReminderState.DELIVERED: 1})).gaps
    assert gap == "delivered by the counters: 1, by the ledger: 2"


async def test_one_snapshot_while_intake_writes(ledger: Database) -> None:
    """The sums hold at any moment, also between two batches of a busy intake."""

    async def keep_writing() -> None:
        for offset in range(0, 400, 2):
            await take(ledger, [request(offset, offset), request(offset + 1, offset + 1)])

    writer = asyncio.create_task(keep_writing())
    seen = []
    while not writer.done():
        found = await sums(ledger)
        assert found.gaps == []
        seen.append(found.read)
    await writer
    assert any(0 < each < 400 for each in seen)
