"""A ledger of the version before, brought up to date: with what is in it, and with old processes still at work."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import gateway.ledger
from gateway.ids import first_id_at
from gateway.ledger import freezes, outbox, schema, situations
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC, OPTED_OUT

SQL = Path(gateway.ledger.__file__).parent / "migrations" / "sql"
# Everything that a statement can see of a schema.
_COLUMNS = """
select table_name, column_name, udt_name, is_nullable, column_default from information_schema.columns
where table_schema = 'public' and table_name not like 'reminder\\_2%' order by 1, 2
"""
_INDEXES = (
    "select indexdef from pg_indexes where schemaname = 'public' and tablename not like 'reminder\\_2%' order by 1"
)
_CHECKS = """
select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint
where connamespace = 'public'::regnamespace and conrelid::regclass::text not like 'reminder\\_2%' order by 1, 2
"""


@pytest.fixture
async def before(postgres: Any) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """A database as version 0001 left it, and a connection of somebody who was there then."""
    dsn = await postgres.create_database("of_before")
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute((SQL / "0001_ledger.sql").read_text())
        await connection.execute(
            "create table alembic_version (version_num varchar(32) not null,"
            " constraint alembic_version_pkc primary key (version_num))"
        )
        await connection.execute("insert into alembic_version values ('0001')")
        yield dsn, connection
    finally:
        await connection.close()
        await postgres.drop_database("of_before")


async def shape(dsn: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for sql in (_COLUMNS, _INDEXES, _CHECKS) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


OLD_EVENT = "insert into outbox (bucket, reminder, seq, id, topic, payload) values ($1, $2, 1, 0, $3, '{}')"
OLD_ATTEMPT = """
with i as (select * from unnest($1::intent_row[]))
insert into attempt (id, reminder, subject, rung, channel, provider, state, intended_at)
select i.attempt, i.reminder, 'subject', i.rung, i.channel, i.provider, 'intended', now() from i
"""
OLD_RECEIPT = """
with i as (select * from unnest($1::receipt_row[]))
insert into receipt (id, replay, provider, attempt, ref, kind, code, received_at)
select id, replay, provider, attempt, ref, kind, code, received_at from i
"""


async def test_what_was_there_stays_and_old_processes_go_on(before: tuple[str, asyncpg.Connection]) -> None:
    dsn, old = before
    intent = (1, 7, 11, 0, "sms", "p", b"words", "{}")
    statements = [await old.prepare(sql) for sql in (OLD_EVENT, OLD_ATTEMPT, OLD_RECEIPT)]
    event, attempt, receipt = statements
    await event.fetch(1, 1, EVENTS_TOPIC)
    await attempt.fetch([intent])
    await old.execute("insert into tombstone values ('s', 'borrower', '', now())")

    assert await schema.migrate(dsn) == schema.head()

    # With the statements they had prepared, in the words of their own version.
    await event.fetch(2, 2, EVENTS_TOPIC)
    await attempt.fetch([(2, 7, 12, *intent[3:])])
    now = await old.fetchval("select now()")
    await receipt.fetch([(5, b"r", "p", 11, None, "receipt", None, None, "c", None, now, b"", None, None)])
    assert [each.type for each in await outbox.fetch(old, 0, 255, 10)] == [None, None]
    assert [row[0] for row in await old.fetch("select id from attempt where address is null order by id")] == [11, 12]
    assert await old.fetchval("select count(*) from tombstone") == 1
    await old.execute("insert into tombstone values ('s', 'opted_out', '', now())")
    with pytest.raises(asyncpg.CheckViolationError):
        await old.execute("insert into tombstone values ('s', 'whatever', '', now())")


# Of version 0002.
OLD_FREEZE = """
insert into "freeze" (kind, value, reason, author, created_at, until) values ($1, $2, $3, $4, $5, $6)
on conflict on constraint freeze_once do update set reason = excluded.reason, author = excluded.author,
    created_at = excluded.created_at, until = excluded.until
    where "freeze".until <= excluded.created_at
returning id
"""
OLD_FREEZES = 'select kind, value from "freeze" where until is null or until > $1'


async def test_freezes_of_the_version_before_stay_and_its_processes_go_on_freezing(
    before: tuple[str, asyncpg.Connection],
) -> None:
    dsn, old = before
    await old.execute((SQL / "0002_contacts.sql").read_text())
    await old.execute("update alembic_version set version_num = '0002'")
    freeze, read = [await old.prepare(sql) for sql in (OLD_FREEZE, OLD_FREEZES)]
    now = await old.fetchval("select now()")
    await freeze.fetch("source", "a", "dead_letter_share", "intake", now, None)

    assert await schema.migrate(dsn) == schema.head()

    await freeze.fetch("source", "b", "dead_letter_share", "intake", now, None)
    assert sorted(tuple(row) for row in await read.fetch(now)) == [("source", "a"), ("source", "b")]
    async with old.transaction():
        assert await freezes.lift(old, "source", "a", reason="over", author="me", now=now)
    assert [tuple(row) for row in await read.fetch(now)] == [("source", "b")]
    # Lifted by the new version, frozen again by the old one: it is in force for both.
    await freeze.fetch("source", "a", "again", "intake", now, None)
    assert {each.value for each in await freezes.in_force(old, now)} == {"a", "b"}
    assert [each.reason for each in await freezes.audit(old, 9)] == ["again", "over", *["dead_letter_share"] * 2]


# Of version 0004.
OLD_BIRTH = """
with i as (select * from unnest($1::birth_row[])), facts as (
    insert into reminder (id, subject, source, request_id, lender, borrower, debt, instalment, product, stage, step,
                          stage_key, template, lane, ladder, send_at, not_after, state_as_of, received_at, topic,
                          partition, "offset", sealed)
    select id, subject, source, request_id, lender, borrower, debt, instalment, product, stage, step, stage_key,
           template, lane, ladder, send_at, not_after, state_as_of, at, topic, partition, "offset", sealed from i
), living as (
    insert into live (id, subject, lender, source, request_id, stage, lane, ladder, not_after, state, reason, seq, at)
    select id, subject, lender, source, request_id, stage, lane, ladder, not_after, state, reason, 1, at from i
)
insert into outbox (bucket, reminder, seq, id, topic, payload) select id & 255, id, 1, 0, 'events', event from i
"""
OLD_FETCH = "select bucket, reminder, seq, id, topic, payload, type from outbox order by reminder"


async def test_requests_of_the_version_before_have_no_trace_and_its_processes_go_on_reading_and_telling(
    before: tuple[str, asyncpg.Connection],
) -> None:
    dsn, old = before
    for name in ("0002_contacts", "0003_brakes", "0004_by_hand"):
        await old.execute((SQL / f"{name}.sql").read_text())
    await old.execute("update alembic_version set version_num = '0004'")
    now = await old.fetchval("select now()")
    await schema.ensure_partitions(old, now)
    birth, fetch = [await old.prepare(sql) for sql in (OLD_BIRTH, OLD_FETCH)]

    def row(id_: int) -> tuple[Any, ...]:
        return (
            id_, b"s", "src", f"r{id_}", "l", "b", "d", None, None, "due", "due", b"k", "t", "bulk", "s", now, now, now,
            "requests", 0, id_, b"x", "scheduled", None, now, None, "due", b"{}",
        )  # fmt: skip

    first = first_id_at(int(now.timestamp() * 1000))
    await birth.fetch([row(first)])
    files = await old.fetch("select relname, relfilenode from pg_class where relname ~ '^(reminder|live|outbox)'")

    assert await schema.migrate(dsn) == schema.head()

    await birth.fetch([row(first + 1)])
    assert [each["reminder"] for each in await fetch.fetch()] == [first, first + 1]
    assert [(each.reminder, each.traceparent) for each in await outbox.fetch(old, 0, 255, 10)] == [
        (first, None), (first + 1, None),
    ]  # fmt: skip
    found = await situations.read(old, [first, first + 1])
    assert [each.traceparent for each in found.values()] == [None, None]
    again = await old.fetch("select relname, relfilenode from pg_class where relname ~ '^(reminder|live|outbox)'")
    assert {tuple(each) for each in files} <= {tuple(each) for each in again}, "a table was written anew"


async def test_what_borrowers_say_is_not_told_by_a_relay_of_the_version_before(
    before: tuple[str, asyncpg.Connection],
) -> None:
    """It knows no types: it would tell a wish as a status.  It leaves alone what has a topic that it does not know."""
    dsn, old = before
    await schema.migrate(dsn)
    await outbox.add(old, [(1, 2, b"{}", None)], OPTED_OUT)
    [event] = await outbox.fetch(old, 0, 255, 10)
    assert event.topic not in {EVENTS_TOPIC, DEADLETTERS_TOPIC}


async def test_it_ends_where_a_new_one_begins(before: tuple[str, asyncpg.Connection], database: str) -> None:
    dsn, _ = before
    await schema.migrate(dsn)
    assert await shape(dsn) == await shape(database)


async def test_migrating_again_changes_nothing(before: tuple[str, asyncpg.Connection]) -> None:
    dsn, _ = before
    await schema.migrate(dsn)
    was = await shape(dsn)
    assert await schema.migrate(dsn) == schema.head()
    assert await shape(dsn) == was


async def test_it_waits_for_a_table_somebody_holds_and_keeps_nobody_waiting_behind_it(
    before: tuple[str, asyncpg.Connection],
) -> None:
    dsn, holder = before
    await holder.execute(OLD_EVENT, 1, 1, EVENTS_TOPIC)
    held = holder.transaction()
    await held.start()
    await holder.execute("select count(*) from outbox")  # which changes: a reader is in its way
    migration = asyncio.create_task(schema.migrate(dsn))
    worker = await asyncpg.connect(dsn)
    try:
        while not await worker.fetchval("select exists (select 1 from pg_locks where not granted)"):
            await asyncio.sleep(0.05)
        # It queues behind the migration, and gets through: the holder has not moved meanwhile.
        await worker.execute(OLD_EVENT, 2, 2, EVENTS_TOPIC)
        assert not migration.done()
        await held.rollback()
        assert await migration == schema.head()
        assert await worker.fetchval("select count(*) from outbox") == 2
    finally:
        migration.cancel()
        await worker.close()


async def test_a_table_that_is_never_let_go_of_leaves_everything_as_it_was(
    before: tuple[str, asyncpg.Connection],
) -> None:
    dsn, holder = before
    was = await shape(dsn)
    async with holder.transaction():
        await holder.execute("select count(*) from outbox")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await schema.migrate(dsn, patience=0.1)
    assert await shape(dsn) == was
    assert await holder.fetchval("select version_num from alembic_version") == "0001"


async def test_an_index_that_somebody_died_over_is_made_anew_and_no_writer_waits(
    before: tuple[str, asyncpg.Connection],
) -> None:
    dsn, old = before
    await schema.migrate(dsn)
    usable = "select indisvalid from pg_index where indexrelid = 'provider_ref_attempt'::regclass"
    assert await old.fetchval(usable)
    await old.execute("update pg_index set indisvalid = false where indexrelid = 'provider_ref_attempt'::regclass")
    write = "insert into provider_ref (provider, ref, attempt) values ('p', $1, 1)"
    holder = await asyncpg.connect(dsn)
    try:
        holding = holder.transaction()
        await holding.start()
        await holder.execute(write, "first")
        migrating = asyncio.create_task(schema.migrate(dsn))
        waits = "select from pg_stat_activity where query ~ '^(drop|create) index' and wait_event_type = 'Lock'"
        while not await old.fetch(waits):
            await asyncio.sleep(0.02)
        await old.execute(write, "second", timeout=5)
        assert not migrating.done()
        await holding.commit()
        assert await migrating == schema.head()
        assert await old.fetchval(usable)
    finally:
        await holder.close()


# What a statement of the version before never sees: things of their own, and columns that may be left out.
_BESIDE = re.compile(
    r"create (?:table|type|index) (\w+) |"
    r"alter table \w+ (?:add column \w+ (?:text|int|timestamptz|bytea)(?:, *)?)+$|"
    r"alter table tombstone (?:drop|add) constraint tombstone_kind_known|"
    r"alter table \w+ set \((?:autovacuum_\w+ = \d+(?:, )?)+\)$"
)


@pytest.mark.parametrize(
    "name", ["0007_plans.sql", "0008_escalation.sql", "0009_again.sql", "0010_reach.sql", "0011_queues.sql"]
)
def test_plans_change_nothing_that_was_there(name: str) -> None:
    """So that statements of the version before go on as they were, whatever they are."""
    lines = (SQL / name).read_text().splitlines()
    text = " ".join(line.strip() for line in lines if not line.startswith("--"))
    made = {each.strip(): _BESIDE.match(each.strip()) for each in text.split(";") if each.strip()}
    assert [each for each, found in made.items() if found is None] == []
    names = {found[1] for found in made.values() if found is not None and found[1]}
    before = "".join(path.read_text() for path in SQL.glob("*.sql") if path.name < name)
    assert not [each for each in names if re.search(rf"create (table|type) {each}\b", before)]
