from pathlib import Path

import pytest
from config_case import Case


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)
