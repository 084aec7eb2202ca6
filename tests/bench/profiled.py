"""The gateway under a sampling profiler: `python -m tests.bench.profiled OUT COUNTERS run --config FILE`.

A timer of CPU time interrupts the process and the Python stack of that moment is counted, while PROFILE is set.  Time
in C is counted where Python goes on.  The cost is some ten microseconds for each sample of several milliseconds.
"""

from __future__ import annotations

import signal
import sys
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from tests.bench.counters import PROFILE, Counters

_ROOT: Final = f"{Path(__file__).parents[2]}/"
# The first frame, from the innermost outwards, whose file has such a part names the area.
AREAS: Final = {
    "/gateway/ledger/": "sql",
    "/asyncpg/": "sql",
    "/gateway/sealing": "seal",
    "/gateway/personal": "seal",
    "/cryptography/": "seal",
    "/gateway/content/": "render",
    "/jinja2/": "render",
    "/aiokafka/": "kafka",
    "/gateway/intake/": "decode",
    "/phonenumbers/": "decode",
    "/gateway/dispatch/transport": "http client",
    "/aiohttp/web": "http server",
    "/gateway/public/": "http server",
    "/providers/": "adapter",
    "/gateway/relay/": "relay",
    "/gateway/receipts/": "receipts",
    "/gateway/dispatch/": "dispatch",
    "/gateway/batcher": "dispatch",
    "/gateway/observability/": "metrics",
    "/prometheus_client/": "metrics",
}


class Samples(msgspec.Struct):
    """Counts of samples."""

    total: int = 0
    areas: dict[str, int] = msgspec.field(default_factory=lambda: defaultdict(int))
    # By the innermost function, then by the innermost one of ours, then by every one of ours in the stack.
    leaves: dict[str, int] = msgspec.field(default_factory=lambda: defaultdict(int))
    charged: dict[str, int] = msgspec.field(default_factory=lambda: defaultdict(int))
    within: dict[str, int] = msgspec.field(default_factory=lambda: defaultdict(int))

    def add(self, frame: FrameType | None) -> None:
        self.total += 1
        stack = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_qualname))
            frame = frame.f_back
        ours = [f"{file.removeprefix(_ROOT)}:{name}" for file, name in stack if _is_ours(file)]
        area = next((area for file, _ in stack for part, area in AREAS.items() if part in file), "event loop")
        self.areas[area] += 1
        charged = ours[0] if ours else "(none of ours)"
        self.charged[charged] += 1
        self.leaves[f"{_library(stack[0][0])}{stack[0][1]}  <  {charged}"] += 1
        for each in set(ours):
            self.within[each] += 1


def _is_ours(file: str) -> bool:
    return file.startswith(_ROOT) and "/.venv/" not in file and "/tests/" not in file


def _library(file: str) -> str:
    """`package/module.py:` of a library, nothing for generated code such as a dataclass's __init__."""
    return "" if file.startswith("<") else "/".join(file.rsplit("/", 2)[1:]) + ":"


def main(out: Path, counters: Counters, arguments: list[str]) -> None:
    from gateway.cli import main as gateway

    samples = Samples()

    def tick(_: int, frame: FrameType | None) -> None:
        if counters[PROFILE]:
            samples.add(frame)

    signal.signal(signal.SIGPROF, tick)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    sys.argv = ["reminder-gateway", *arguments]
    try:
        gateway()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write_bytes(msgspec.json.encode(samples))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Counters(Path(sys.argv[2])), sys.argv[3:])
