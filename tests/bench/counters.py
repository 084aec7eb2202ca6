"""Numbers that the benchmark's processes share through one small file: one writer per number, any reader."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

ACCEPTED: Final = 0  # by the provider
ANSWERED: Final = 1  # receipts answered with 2xx
REFUSED: Final = 2  # receipts answered with anything else
HOLD: Final = 3  # not 0: receipts are signed and kept back
PROFILE: Final = 4  # not 0: the profiler counts
_N: Final = 5


class Counters:
    """Created by the benchmark, opened by its children; eight aligned bytes are read and written whole."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_N * 8))
        with path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), _N * 8)).cast("Q")

    def __getitem__(self, index: int) -> int:
        return int(self._numbers[index])

    def __setitem__(self, index: int, value: int) -> None:
        self._numbers[index] = value
