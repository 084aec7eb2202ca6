"""`pytest -p tests.mutants.plugin --mutant NAME TEST...`: the tests run with that mistake planted.

What they find must not depend on luck: Hypothesis tells the same stories each time, and what is missed is missed again.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings

from tests.mutants.planting import planted
from tests.mutants.table import EVERY


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", default=None)


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile(
        "mutants", derandomize=True, database=None, print_blob=False, phases=(Phase.explicit, Phase.generate)
    )
    settings.load_profile("mutants")
    if (name := config.getoption("--mutant")) is not None:
        planting = planted(EVERY[name].changes)
        planting.__enter__()
        config.add_cleanup(lambda: planting.__exit__(None, None, None))
