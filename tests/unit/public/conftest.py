"""`bench`: the public listener, a vendor, and somebody who calls."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.public.case import Bench, opened


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with opened() as it:
        yield it
