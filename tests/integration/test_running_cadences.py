"""Plans go on by the version they were made with, also in processes that were not given its file."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.cadence import loading
from gateway.cadence.loading import CadenceError, Cadences
from gateway.intake.planner import Planner
from gateway.intake.running import CadenceGone, complete, with_running
from gateway.ledger import in_use
from schemas.vocabulary import Channel
from tests.integration.plans_by_hand import SEALER, Plans, plans
from tests.unit.cadence.facts import at, paid, planned

ONE = loading.load()
[FIRST] = ONE.by_name["default"]
# Of the reminders before the due date only one is left.
SECOND = replace(
    FIRST, version=2, effective=FIRST.effective + dt.timedelta(days=1),
    occasions=tuple(each for each in FIRST.occasions if each.name not in ("d7", "due")),
)  # fmt: skip
BOTH = Cadences({"default": (FIRST, SECOND)})
CHANGED = Cadences({"default": (replace(SECOND, version=1),)})


def planner(it: Plans, cadences: Cadences) -> Planner:
    return Planner(
        SEALER, cadences, lambda lender, product, at: cadences.in_force("default", at.date()),
        {"harbour": frozenset(Channel)}, lambda: it.ids,
    )  # fmt: skip


@asynccontextmanager
async def planned_by_the_second(database: str) -> AsyncIterator[Plans]:
    """By a process that has both; from then on it is one that has the first alone."""
    async with plans(database) as it:
        it.planner = planner(it, BOTH)
        await it.tell(planned())
        it.planner = planner(it, ONE)
        yield it


async def versions(it: Plans) -> Any:
    return await it.hand.value("select array_agg(cadence || '/' || version) from debt_fact")


async def test_a_process_goes_on_with_a_version_that_another_has_brought(database: str) -> None:
    async with planned_by_the_second(database) as it:
        before = await it.standing()
        assert not before.keys() & {"d7", "due"}
        await it.tell(paid(at("2026-11-21"), outstanding="40.00"))
        assert await it.standing() == before
        assert (await it.says("d3")).amount == "40.00"
        # A plan of its own it makes with what it was given.
        await it.tell(planned(debt="loan-2", as_of=at("2026-11-22")))
        assert sorted(await versions(it)) == ["default/1", "default/2"]


async def test_what_nobody_can_say_stops_what_would_need_it(database: str) -> None:
    """As a process of the version before has left it."""
    async with planned_by_the_second(database) as it:
        await it.hand.connection.execute("update cadence_in_use set says = null")
        with pytest.raises(CadenceGone, match="default/2"):
            await it.tell(paid(at("2026-11-21"), outstanding="40.00"))
        with pytest.raises(CadenceGone, match="default/2"):
            await with_running(it.hand.connection, ONE)


async def test_a_start_adds_what_a_process_of_before_has_left_out(database: str) -> None:
    async with planned_by_the_second(database) as it:
        await it.hand.connection.execute("update cadence_in_use set says = null")
        assert await with_running(it.hand.connection, BOTH) == BOTH
        await complete(it.hand.connection, BOTH)
        assert await in_use.read(it.hand.connection) == [("default", 2, loading.encode(SECOND))]
        together = await with_running(it.hand.connection, ONE)
        assert together.version("default", 2) == SECOND
        assert list(together) == [FIRST, SECOND]
        assert together.in_force("default", SECOND.effective) == FIRST


async def test_a_version_that_was_edited_is_not_the_one_that_runs(database: str) -> None:
    async with plans(database) as it:
        await it.tell(planned())
        with pytest.raises(CadenceError, match="default/1: is not what its running plans were made with"):
            await with_running(it.hand.connection, CHANGED)
        said_otherwise = Cadences({"default": (replace(FIRST, about="the same in other words"),)})
        assert await with_running(it.hand.connection, said_otherwise) == said_otherwise


async def test_what_a_later_service_has_kept_is_not_guessed(database: str) -> None:
    async with plans(database) as it:
        await it.hand.connection.execute("insert into cadence_in_use values ('default', 2, '{\"louder\": true}')")
        with pytest.raises(CadenceError):
            await with_running(it.hand.connection, ONE)
        assert await with_running(it.hand.connection, BOTH) == BOTH
