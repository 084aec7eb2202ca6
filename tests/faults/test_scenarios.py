"""Long stories, told in short; `python -m tests.faults.scenarios` tells all of them in full.

They wait most of the time, so they are told side by side: two on a broker of theirs, and beside them the one that takes
its broker away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.scenarios import SCENARIOS, Ground
from tests.stack.linked_kafka import LinkedKafka
from tests.stack.tools import insisted

pytestmark = [pytest.mark.real_kafka, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(420)]
# It takes its broker away.
ALONE = "no-brokers"
WANTED = os.environ.get("STORIES", "").split() or [name for name, each in SCENARIOS.items() if each.in_test]
Told = Mapping[str, "asyncio.Task[Mapping[str, Any]]"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """What each comes to."""
    await postgres.heal()
    await postgres.drop_database(await postgres.fresh_database())  # there is a template now
    async with LinkedKafka() as linked:
        few = asyncio.Semaphore(2)

        async def tell(name: str) -> Mapping[str, Any]:
            scenario = SCENARIOS[name]
            home = tmp_path_factory.mktemp(name)
            async with contextlib.nullcontext() if name == ALONE else few:
                began = time.monotonic()
                found = await scenario.tell(Ground(postgres, kafka if name == ALONE else linked, home), scenario.short)
                return {"took_seconds": round(time.monotonic() - began), **found}

        can = [name for name in WANTED if insisted() or SCENARIOS[name].missing() is None]
        tasks = {name: asyncio.create_task(tell(name), name=name) for name in can}
        yield tasks
        for each in tasks.values():
            each.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("name", WANTED)
async def test_scenario(name: str, told: Told, summary: Any) -> None:
    if name not in told:
        pytest.skip(f"!!! {SCENARIOS[name].missing()}")
    summary("scenarios in short", f"{name}: {dict(await told[name])}")
