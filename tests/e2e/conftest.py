"""`image`: what the Dockerfile makes, replayed once for all tests."""

from collections.abc import Iterator

import pytest

from tests.image.here import replayed
from tests.image.replay import Image


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    with replayed() as found:
        yield found
