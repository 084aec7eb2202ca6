"""`python -m tests.faults.soak`: faults at random under load, for long, with quiet moments for the judge.

One gateway is killed and paused again and again, a guest comes and goes, and a third, the survivor, lives through
everything, so that it can be measured.  In the end it writes `seed-N.md`, a section for docs/measurements.md, and
`seed-N.json` with everything.  The exit status is 0 only when no invariant was broken, the survivor never ended, and
nothing grew beyond the bounds of `report`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.dev.host import Home
from tests.faults.soak.markdown import write
from tests.faults.soak.play import Orders, play
from tests.faults.soak.report import verdict
from tests.faults.soak.stage import staged
from tests.faults.soak.table import NAMES
from tests.faults.unfenced import CLOCK, FENCES


async def soak(orders: Orders, unfenced: frozenset[str] = frozenset()) -> dict[str, Any]:
    """On a stack of its own."""
    with contextlib.closing(Home("soak")) as home:
        async with staged(home.path, orders.seed, unfenced) as stage:
            return await play(stage, orders)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="disturb for so long")
    parser.add_argument("--kills", type=int, help="stop after so many kills, too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--burst", type=int, default=30, help="requests before each fault")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds, at most, between a burst and its fault")
    parser.add_argument("--quiet-every", type=float, default=4.0, metavar="MINUTES", help="heal and judge so often")
    parser.add_argument(
        "--drain", type=int, default=1500, metavar="N", help="requests of a burst that is timed; 0: none"
    )
    parser.add_argument("--only", action="append", default=[], choices=NAMES, metavar="FAULT", help="only these faults")
    parser.add_argument("--each-once", action="store_true", help="every fault once, before the dice")
    parser.add_argument(
        "--unfenced", action="append", default=[], choices=[*FENCES, CLOCK], help="a broken build: must be found"
    )
    parser.add_argument("--write", type=Path, default=Path("build/soak"), metavar="DIRECTORY", help="for the report")
    given = vars(parser.parse_args(arguments))
    unfenced = frozenset(given.pop("unfenced"))
    folder = given.pop("write")
    found = asyncio.run(soak(Orders(**given), unfenced))
    for each in found["beyond_bounds"]:
        print(f"BEYOND BOUNDS: {each}")
    print(f"{write(found, folder)}: {len(found['violations'])} violations, {len(found['beyond_bounds'])} bounds broken")
    return verdict(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
