"""One soak from its first burst to its last quiet moment."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from gateway.dev.host import StackError
from tests.faults.load import Load
from tests.faults.soak import faults
from tests.faults.soak.checkpoint import ENDS_WITHIN, Checkpoints, survives
from tests.faults.soak.measure import Measurements, drain
from tests.faults.soak.report import summary
from tests.faults.soak.run import Run
from tests.faults.soak.stage import Stage
from tests.faults.soak.table import FAULTS, Fault

_DRAINS: Final = 6  # the first warms up


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
    ends_within: float = ENDS_WITHIN  # seconds, after the last fault before a quiet moment
    each_once: bool = False  # every fault once first, in the table's order


async def play(stage: Stage, orders: Orders) -> dict[str, Any]:
    """Runs it all; what it came to."""
    run = Run(stage, Load(orders.seed, early=True), random.Random(orders.seed), orders.seed)
    measured, points = Measurements(), Checkpoints(orders.ends_within)
    await _rates(run, measured, "before", orders.drain)
    run.begins()
    watch = asyncio.ensure_future(measured.watch(run))
    try:
        await _disturb(run, orders, points, measured)
        good = await points(run, measured)
    finally:
        watch.cancel()
        [broke] = await asyncio.gather(watch, return_exceptions=True)
    run.ends()
    if not isinstance(broke, asyncio.CancelledError):
        run.blame("I8", f"nobody has measured any more: {broke!r}")
    if good and orders.drain:
        await faults.leaves(run, stage.guest)  # as many hands as before
        await _rates(run, measured, "after", orders.drain)
        if await points(run, measured):  # these requests, too
            measured.after = measured.quiet.pop()
    print(points.report, flush=True)
    return summary(run, measured, points, len({each.name for each in FAULTS}))


async def _disturb(run: Run, orders: Orders, points: Checkpoints, measured: Measurements) -> None:
    """Until the minutes or the kills are over; ends early when something does not end by itself."""
    chosen = [each for each in FAULTS if not orders.only or each.name in orders.only]
    first = list(chosen) if orders.each_once else []
    quiet_at = run.minutes + orders.quiet_every
    while first or (run.minutes < orders.minutes and (orders.kills is None or run.faults["kill"] < orders.kills)):
        await run.stage.here.world.publish(run.load.burst(orders.burst))
        await asyncio.sleep(run.chance.uniform(0.0, orders.pause))
        fault = first.pop(0) if first else run.chance.choices(chosen, [each.weight for each in chosen])[0]
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
    except Exception:  # a mistake of ours: it is told, and the half hour is not lost
        run.blame("soak", f"{fault.name} broke\n{traceback.format_exc()}")
    survives(run)
    while run.stage.broken:
        run.blame("I8", run.stage.broken.pop())


async def _rates(run: Run, measured: Measurements, when: str, n: int) -> None:
    if not n:
        return
    try:
        measured.drains[when] = [await drain(run, n) for _ in range(_DRAINS)][1:]
    except (AssertionError, TimeoutError) as error:
        run.blame("I8", f"{n} requests that behave do not end, {when} the faults\n{error}")
