"""Facts flow while the gateway is killed at every point: nothing leaves after the commit of a payment or a stop.

The order of a stop and an intent is the witness's, drawn under the borrower's lock: no clock is compared.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer

from gateway.crashpoints import CrashPoint
from tests.faults.harness import Stand, eventually, fresh_topics, stand, until_paused
from tests.faults.topics import everything, size
from tests.stack.core import DAY, Core, fact, planned, there
from tests.stack.gateway import GatewayProcess, requested
from tests.stack.postgres import PostgresServer

POINTS: Final = tuple(CrashPoint)

_LEDGER: Final = """
select 'reminders', count(*)::text from reminder
union all select 'endings', string_agg(reminder || state::text || seq, ',' order by reminder) from ending
union all select 'attempts', string_agg(id || state::text, ',' order by id) from attempt
union all select 'occurrences', string_agg(reminder || encode(print || said, 'hex'), ',' order by reminder)
    from occurrence
union all select 'revisions', count(*)::text from revision
union all select 'tombstones', string_agg(kind || value || as_of, ',' order by subject, kind, value) from tombstone
union all select 'payments', string_agg(debt || instalment || as_of, ',' order by subject, debt) from paid_instalment
union all select 'borrowers', string_agg(encode(sealed, 'hex'), ',' order by id) from borrower_fact
union all select 'debts', string_agg(encode(sealed, 'hex'), ',' order by id) from debt_fact
union all select 'letters', count(*)::text from deadletter
union all select 'outbox', count(*)::text from outbox
"""


@asynccontextmanager
async def telling(
    dsn: str, kafka: Any, home: Path, overrides: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Stand, Core, str]]:
    """A world with a topic for facts."""
    topic = f"repayments-{secrets.token_hex(4)}"
    await kafka.create_topics({topic: 4})
    settings = {"kafka": {"repayments_topic": topic}, **(overrides or {})}
    async with stand(dsn, kafka.bootstrap, await fresh_topics(kafka), home, settings) as here:
        yield here, Core(kafka.bootstrap, topic), topic


def direct(number: int, stage: str, **changes: Any) -> dict[str, Any]:
    """A request for the borrower and the debt that facts are about, known before any of them."""
    before = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=90)).isoformat(timespec="milliseconds")
    due = there() - (31 * DAY if stage == "overdue_late" else 0 * DAY)
    debt = {"ref": f"debt-{number}", "state_as_of": before, "instalment": 1, "due_date": due.isoformat()}
    event = requested(number, stage=stage, debt=debt, **changes)
    return {**event, "id": f"{event['id']}-{stage}"}


async def all_read(here: Stand, topic: str) -> None:
    n = await size(here.world.bootstrap, topic)

    async def so() -> bool:
        return bool(await here.value("select coalesce(sum(n), 0) = $1 from intake_count where topic = $2", n, topic))

    await eventually(so, 60, here.gateway.child.tail)


# --- killed at every point --------------------------------------------------------------------------------------------


def begun(first: int) -> tuple[list[Any], list[Any]]:
    """Facts and requests of five borrowers, about to be stopped in five ways; some are due now."""
    facts = [planned(first + n, there()) for n in range(3)]
    facts += [fact("repayment.debit_failed.v1", first + n, instalment=1) for n in range(3)]
    facts.append(planned(first + 3, there() + 5 * DAY))
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    requests = [direct(first + n, "overdue_late") for n in range(2)]
    return facts, [*requests, direct(first + 4, "d7", send_at=later), direct(first + 3, "d7", send_at=later)]


def stopped(first: int) -> list[Any]:
    moved = [{"number": 1, "due_date": (there() + 12 * DAY).isoformat(), "amount": "100.00"}]
    return [
        fact("repayment.paid.v1", first, 0, instalment=1),
        fact("debt.stopped.v1", first + 1, 0, reason="disputed"),
        fact("repayment.paid.v1", first + 2, 0),
        fact("repayment.rescheduled.v1", first + 3, 0, instalments=moved),
        fact("repayment.paid.v1", first + 4, 0),
    ]


@pytest.mark.timeout(300)
async def test_killed_at_every_point_while_facts_flow(database: str, kafka: Any, tmp_path: Path) -> None:
    """What was in hand at one kill is stopped while the next process starts; at last the whole topic is told again."""
    async with telling(database, kafka, tmp_path) as (here, core, topic):
        ahead: list[Any] = []
        for n, point in enumerate(POINTS):
            facts, requests = begun(100 + 10 * n)
            await core.tell(*facts)
            await here.world.publish(requests)
            here.gateway.spawn(REMINDER_GATEWAY_CRASH_AT=point.value)
            await core.tell(*ahead)
            await here.killed(60)
            ahead = stopped(100 + 10 * n)
        await here.up()
        await core.tell(*ahead)
        # Nobody owes anything any more: everything comes to an end.
        ends = [fact("repayment.paid.v1", 100 + 10 * n + 3, -1) for n in range(len(POINTS))]
        await core.tell(*ends)
        await all_read(here, topic)
        await here.quiet()
        assert await here.value("select count(*) from reminder where topic = $1", topic) > 5 * len(POINTS)
        assert await here.value("select count(*) from ending where reason = 'stopped'") > 0
        assert await here.value("select count(*) from ending where reason = 'replanned'") > 0
        report = await here.check()
        assert not report.violations, report
        await replayed(here, topic)


async def replayed(here: Stand, topic: str) -> None:
    """The same facts from the start of the topic: no new event and no new row."""
    before, told = await here.fetch(_LEDGER), await size(here.world.bootstrap, here.world.topics.events)
    producer = AIOKafkaProducer(bootstrap_servers=here.world.bootstrap, acks="all")
    await producer.start()
    try:
        for record in (await everything(here.world.bootstrap, topic)).records:
            await producer.send(topic, record.value, key=record.beside[0], partition=record.partition)
        await producer.flush()
    finally:
        await producer.stop()
    await all_read(here, topic)
    assert await here.fetch(_LEDGER) == before
    assert await size(here.world.bootstrap, here.world.topics.events) == told


# --- paid between two steps -------------------------------------------------------------------------------------------


STEPS: Final = (
    CrashPoint.AFTER_CLAIM,
    CrashPoint.AFTER_RESERVE,
    CrashPoint.AFTER_INTEND,
    CrashPoint.BEFORE_FIRST_BYTE,
)


@pytest.mark.parametrize("steps", [STEPS[:2], STEPS[2:]], ids=["before_intend", "after_intend"])
async def test_paid_between_two_steps(
    steps: tuple[CrashPoint, ...], postgres: PostgresServer, kafka: Any, tmp_path: Path
) -> None:
    """The sender sleeps at the point while another process commits the payment; then it goes on."""
    names = [await postgres.fresh_database() for _ in steps]
    async with asyncio.TaskGroup() as group:
        for step, name in zip(steps, names, strict=True):
            home = tmp_path / step
            home.mkdir()
            group.create_task(paid_at(step, postgres.dsn(name), kafka, home), name=step)
    for name in names:
        await postgres.drop_database(name)


async def paid_at(step: CrashPoint, dsn: str, kafka: Any, home: Path) -> None:
    async with telling(dsn, kafka, home, {"roles": ["dispatch"]}) as (here, core, topic):
        sender: GatewayProcess = here.gateway
        reader = here.twin("reader", {"roles": ["intake", "relay", "callbacks"]})
        sender.spawn(REMINDER_GATEWAY_PAUSE_AT=step.value)
        reader.spawn()
        await reader.ready()
        await core.tell(planned(1, there()), fact("repayment.debit_failed.v1", 1, instalment=1))
        await here.world.publish([direct(1, "overdue_late")])
        await until_paused(sender)
        # Everything there is of this borrower, so that both kinds are there whichever was claimed first.
        await eventually(lambda: _is(here, "select count(distinct topic) from reminder", 2))
        await core.tell(fact("repayment.paid.v1", 1, 0, instalment=1))
        await eventually(lambda: _is(here, "select count(*) from paid_instalment", 1), why=reader.child.tail)
        out = await here.value("select count(*) from attempt where state <> 'not_sent'")
        assert (out > 0) == (step in STEPS[2:])
        left = len(here.accepted())
        assert left == 0
        sender.child.resume()
        await all_read(here, topic)
        await here.quiet()
        if not out:
            assert here.accepted() == []
        assert len(here.accepted()) <= out
        ends = await here.fetch("select state::text, reason from ending")
        assert [tuple(row) for row in ends].count(("cancelled", "paid")) >= len(ends) - out
        answers = [each["data"] for each in await here.world.read(here.world.topics.events)]
        assert len([each for each in answers if each.get("answer") == "too_late"]) == out  # K28
        assert not (report := await here.check()).violations, report


async def _is(here: Stand, sql: str, n: int) -> bool:
    return bool(await here.value(sql) == n)
