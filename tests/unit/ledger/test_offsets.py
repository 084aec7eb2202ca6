"""How much of what was committed a ledger has forgotten."""

import pytest

from gateway.ledger import offsets


@pytest.mark.parametrize(
    ("stored", "known", "lost"),
    [
        ({0: 9, 1: 5}, {0: 9, 1: 5}, 0),
        ({0: 12}, {0: 9}, 0),
        ({0: 7, 1: 4}, {0: 9, 1: 5}, 3),
        ({}, {0: 9}, 9),
        ({1: 1}, {}, 0),
    ],
)
def test_what_the_ledger_has_forgotten(stored: dict[int, int], known: dict[int, int], lost: int) -> None:
    assert offsets.lost(stored, known) == lost
