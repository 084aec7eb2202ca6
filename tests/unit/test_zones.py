"""By which zone data hours were those of somebody's day."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
import tzdata

from gateway import zones


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    before = zoneinfo.TZPATH
    zones.zone_data.cache_clear()
    yield
    zoneinfo.reset_tzpath(before)
    zones.zone_data.cache_clear()


def system(root: Path, text: str | bytes | None) -> Path:
    root.mkdir()
    (root / "UTC").write_bytes(b"TZif")
    if text is not None:
        (root / "tzdata.zi").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# version 2026b\n# ddeps backzone\n", "2026b"),
        ("# This zic input file is in the public domain.\n", zones.UNKNOWN),
        (b"\xff\xfe", zones.UNKNOWN),
        (None, zones.UNKNOWN),
    ],
)
def test_the_systems_zone_data_is_what_its_file_says(tmp_path: Path, text: str | bytes | None, version: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    zoneinfo.reset_tzpath([str(empty), str(system(tmp_path / "zones", text))])
    assert zones.zone_data() == version


def test_where_the_system_has_none_it_is_the_packages() -> None:
    zoneinfo.reset_tzpath([])
    assert zones.zone_data() == tzdata.IANA_VERSION
