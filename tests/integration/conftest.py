"""`scene`: one gateway shared by a module's tests; what is special about it stands in `OVERRIDES` and `SIMULATOR`."""

from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest
import pytest_asyncio

from tests.stack import scene as stage
from tests.stack.scene import Scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(
    request: pytest.FixtureRequest, postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    home = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])
    overrides = getattr(request.module, "OVERRIDES", None)
    simulator = getattr(request.module, "SIMULATOR", {})
    async with stage.scene(postgres, kafka, home, overrides, **simulator) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its gateway said."""
    report = yield
    if report.failed:
        for each in getattr(item, "funcargs", {}).values():
            if isinstance(each, Scene):
                report.sections.append(("end of the gateway's log", each.gateway.child.tail()))
    return report
