"""The list of planted mistakes stays a list of mistakes: code that moves on takes its mutants along."""

import pytest

from tests.mutants.planting import planted
from tests.mutants.table import EVERY


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_mistake_can_still_be_planted(name: str) -> None:
    with planted(EVERY[name].changes):
        pass
