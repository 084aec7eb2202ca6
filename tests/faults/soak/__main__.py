"""`python -m tests.faults.soak`: faults at random under load, for long, with quiet moments for the judge.

One gateway is killed and paused again and again, a guest comes and goes, and a third, the survivor, lives through
everything, so that it can be measured.  The last line is one JSON object.  The exit status is 0 only when no invariant
was broken, the survivor never ended, and nothing grew beyond the bounds of `report`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.dev.host import Home, StackError
from tests.faults.load import Load
from tests.faults.soak.checkpoint import Checkpoints, survives
from tests.faults.soak.measure import Measurements, drain
from tests.faults.soak.report import summary
from tests.faults.soak.run import Run
from tests.faults.soak.stage import staged
from tests.faults.soak.table import FAULTS, NAMES, Fault

_DRAINS: Final = 4  # the first warms up


@dataclass(frozen=True)
class Orders:
    """What was asked for."""

    minutes: float
    seed: int
    kills: int | None = None
    burst: int = 30
    pause: float = 1.0  # at most so long between a burst and its fault
    quiet_every: float = 4.0  # minutes
    drain: int = 1500  # requests, to see how fast it is before and after; 0: not at all
    only: Collection[str] = ()
    each_once: bool = False  # every fault once first, in the table's order
    unfenced: frozenset[str] = frozenset()


async def soak(orders: Orders, home: Path) -> dict[str, Any]:
    """Runs it all; what it came to."""
    async with staged(home, orders.seed, orders.unfenced) as stage:
        run = Run(stage, Load(orders.seed, early=True), random.Random(orders.seed), orders.seed)
        measured, points = Measurements(), Checkpoints()
        await _rates(run, measured, "before", orders.drain)
        watch = asyncio.ensure_future(measured.watch(run))
        try:
            await _disturb(run, orders, points, measured)
            if await points(run, measured):
                await _rates(run, measured, "after", orders.drain)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        print(points.report, flush=True)
        return summary(run, measured, points, len({each.name for each in FAULTS}))


async def _disturb(run: Run, orders: Orders, points: Checkpoints, measured: Measurements) -> None:
    """Until the minutes or the kills are over; ends early when something does not end by itself."""
    faults = [each for each in FAULTS if not orders.only or each.name in orders.only]
    first = list(faults) if orders.each_once else []
    quiet_at = run.minutes + orders.quiet_every
    while first or (run.minutes < orders.minutes and (orders.kills is None or run.faults["kill"] < orders.kills)):
        await run.stage.here.world.publish(run.load.burst(orders.burst))
        await asyncio.sleep(run.chance.uniform(0.0, orders.pause))
        fault = first.pop(0) if first else run.chance.choices(faults, [each.weight for each in faults])[0]
        await _one(run, fault)
        if run.minutes >= quiet_at and not first and run.minutes < orders.minutes:
            if not await points(run, measured):
                return
            quiet_at = run.minutes + orders.quiet_every


async def _one(run: Run, fault: Fault) -> None:
    try:
        what = await fault.work(run)
        run.faults[what] += 1
        print(f"{run.minutes:5.1f} min  {what}", flush=True)
    except (AssertionError, StackError) as error:
        run.blame("I8", f"{fault.name}: {error}")
    survives(run)
    while run.stage.broken:
        run.blame("I8", run.stage.broken.pop())


async def _rates(run: Run, measured: Measurements, when: str, n: int) -> None:
    if n:
        measured.drains[when] = [await drain(run, n) for _ in range(_DRAINS)][1:]


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
        "--unfenced", action="append", default=[], metavar="FENCE", help="a broken build: must be found"
    )
    given = vars(parser.parse_args(arguments))
    orders = Orders(**{**given, "unfenced": frozenset(given["unfenced"])})
    with contextlib.closing(Home("soak")) as home:
        found = asyncio.run(soak(orders, home.path))
    for each in (*found["violations"], *found["beyond_bounds"]):
        print(f"FAILED: {each}")
    print(json.dumps(found))
    return 1 if found["violations"] or found["beyond_bounds"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
