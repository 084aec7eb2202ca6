"""A push that nobody opens is followed by an sms, by a running gateway; one that is opened is not."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.stack.core import Core, planned, stands, there, told_facts
from tests.stack.gateway import address
from tests.stack.scene import Scene, rule, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CADENCE = """
name: default
version: 1
effective: 2026-01-01
occasions:
  - name: today
    stage: due
    days: 0
    window: {opens: "09:00", closes: "20:00"}
    template: repayment
    tone: neutral
    ladder:
      - {channel: push, confirm: opened, advance_after: 4h}
      - {channel: sms}
    max_fact_age: 7d
"""
# The past: an attempt's id is made of its time.
_PASSES = (
    "update attempt set id = id - $1, intended_at = intended_at - $2::interval",
    "update receipt set attempt = attempt - $1, received_at = received_at - $2::interval",
    "update engagement set attempt = attempt - $1 where $2::interval is not null",
    "update provider_ref set attempt = attempt - $1 where $2::interval is not null",
    "update decision set attempt = attempt - $1, at = at - $2::interval",
    "update live set attempt = attempt - $1, at = at - $2::interval where state = 'awaiting'",
    "update timer set at = at - $2::interval where $1::bigint is not null",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Scene, Core]]:
    home: Path = tmp_path_factory.mktemp("climbing")
    (home / "cadences" / "default").mkdir(parents=True)
    (home / "cadences" / "default" / "1.yaml").write_text(CADENCE)
    days = {"receipt_window_hours": 72}
    overrides = {"cadences_path": str(home / "cadences"), "providers": {"fcm": days, "twilio": days}}
    async with told_facts(postgres, kafka, home, overrides) as it:
        yield it


def reached_by_both(number: int) -> tuple[str, dict[str, Any]]:
    contacts = [{"channel": each, "address": address(each, number)} for each in ("push", "sms")]
    return planned(number, there(), contacts=contacts)


async def attempts(scene: Scene, number: int) -> list[tuple[str, str]]:
    rows = await scene.sql(
        "select a.channel, a.state::text from attempt a join reminder r on r.id = a.reminder where r.debt = $1"
        " order by a.id",
        f"debt-{number}",
    )
    return [tuple(row) for row in rows]


async def tried(scene: Scene, number: int, *expected: tuple[str, str]) -> None:
    async def so() -> bool:
        return await attempts(scene, number) == list(expected)

    await until(so, f"{expected} of {number}", 30)


async def hours_pass(scene: Scene, hours: int) -> None:
    """While nothing is under way: what has happened was so many hours ago."""
    connection = await asyncpg.connect(scene.world.dsn)
    try:
        async with connection.transaction():
            for statement in _PASSES:
                await connection.execute(statement, hours * 3_600_000 << 22, dt.timedelta(hours=hours))
    finally:
        await connection.close()


async def test_a_push_that_nobody_opens_is_followed_by_an_sms(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    silent, arrived, read = 1, 2, 3
    scene.perform(
        rule(silent, "fcm", receipts={"outcome": "none"}),
        rule(arrived, "fcm", receipts={"outcome": "delivered"}),
        rule(read, "fcm", receipts={"outcome": "opened"}),
    )
    await core.tell(reached_by_both(silent))
    await tried(scene, silent, ("push", "accepted"))
    await core.tell(reached_by_both(arrived), reached_by_both(read))
    await tried(scene, arrived, ("push", "delivered"))
    await stands(scene, read, due="delivered")
    for number in (silent, arrived):
        await stands(scene, number, due="awaiting")
    await hours_pass(scene, 5)
    await tried(scene, arrived, ("push", "delivered"), ("sms", "delivered"))
    await tried(scene, silent, ("push", "accepted"), ("sms", "delivered"))
    for number in (silent, arrived, read):
        await stands(scene, number, due="delivered")
    assert await attempts(scene, read) == [("push", "delivered")]
    to = [each["recipient"] for each in scene.log()]
    assert [to.count(address("sms", number)) for number in (silent, arrived, read)] == [1, 1, 0]
