from functools import cache
from pathlib import Path

import pytest

from gateway.config import loading
from gateway.content.loading import load_entries
from tests.unit.config.case import Case

# Compiling and trying out the packaged templates takes a quarter of a second: once a run is enough.
_load_once = cache(load_entries)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(loading, "load_entries", _load_once)
    return Case(tmp_path)
