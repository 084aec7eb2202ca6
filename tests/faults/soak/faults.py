"""Faults of processes and servers.  Each does its worst, notes nothing, and says what it did.

A server that is down comes back before the next fault; what else has a length is in outside.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, Final

import psutil  # type: ignore[import-untyped]  # it ships no types

from gateway.crashpoints import CrashPoint
from gateway.dev.host import StackError
from tests.faults.harness import LEASE, until_paused
from tests.faults.in_flight import kill_in_flight
from tests.faults.soak.run import Run
from tests.stack.gateway import GatewayProcess

# The drain budget of `HURRY` is 7 seconds; a machine that is busy has its own.
_STOPS_WITHIN: Final = 40.0
_REACHED_WITHIN: Final = 20.0
# The moments at which a worker has something in its hands that it must not do any more when it wakes up.
_SLEEPS: Final = (
    CrashPoint.AFTER_CLAIM, CrashPoint.AFTER_RESERVE, CrashPoint.AFTER_INTEND, CrashPoint.BEFORE_FIRST_BYTE,
    CrashPoint.AFTER_ANSWER, CrashPoint.AFTER_FETCH, CrashPoint.AFTER_PUBLISH,
)  # fmt: skip


# --- processes --------------------------------------------------------------------------------------------------------


async def kill(run: Run) -> str:
    """SIGKILL with something in flight."""
    stage = run.stage
    await stage.bring_up(stage.victim)
    try:
        run.states += await kill_in_flight(stage.here, run.load, within=10)
    except AssertionError:  # everything is frozen, or held up by what is broken beside it
        await stage.victim.child.kill()
        what = "killed idle"
    else:
        what = "kill"
    await stage.bring_up(stage.victim)
    return what


async def pause(run: Run) -> str:
    """Mostly past the lease: its work is taken from it, and then it wakes up."""
    seconds = run.chance.uniform(0.6 * LEASE, 1.7 * LEASE)
    await _stopped(run, run.stage.victim, seconds)
    return "pause past the lease" if seconds > LEASE else "pause"


async def crash_at(run: Run) -> str:
    """It kills itself at one of the moments that matter most."""
    point, stage = run.chance.choice(list(CrashPoint)), run.stage
    await stage.victim.child.kill()
    stage.spawn(stage.victim, REMINDER_GATEWAY_CRASH_AT=f"{point}:{run.chance.randint(1, 4)}")
    await stage.here.world.publish(run.load.burst(30))
    try:
        await stage.victim.child.wait(within=_REACHED_WITHIN)
    except StackError:  # others do the work, or everything is frozen
        await stage.victim.child.kill()
        what = "killed idle"
    else:
        what = f"killed {point}"
    await stage.bring_up(stage.victim)
    return what


async def sleep_at(run: Run) -> str:
    """It falls asleep at such a moment, and wakes up when its work has long been taken from it."""
    point, stage = run.chance.choice(_SLEEPS), run.stage
    await stage.victim.child.kill()
    stage.spawn(stage.victim, REMINDER_GATEWAY_PAUSE_AT=point)
    await stage.here.world.publish(run.load.burst(30))
    try:
        await until_paused(stage.victim, _REACHED_WITHIN)
    except (AssertionError, psutil.NoSuchProcess):
        await stage.victim.child.kill()  # it is still armed, and would fall asleep when nobody looks
        what = "not asleep"
    else:
        await asyncio.sleep(run.chance.uniform(1.3 * LEASE, 1.7 * LEASE))
        stage.victim.child.resume()
        what = f"asleep {point}"
    await stage.bring_up(stage.victim)
    return what


async def stutter(run: Run) -> str:
    """The survivor's event loop stands still, again and again: as if it were blocked, or had no CPU."""
    for _ in range(4):
        await _stopped(run, run.stage.survivor, run.chance.uniform(0.2, 1.2))
        await asyncio.sleep(run.chance.uniform(0.05, 0.4))
    return "event loop stands still"


async def _stopped(run: Run, process: GatewayProcess, seconds: float) -> None:
    process.child.pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        process.child.resume()


async def drained(run: Run) -> str:
    """SIGTERM, as a rolling update does it."""
    await run.stage.bring_up(run.stage.victim)
    await leaves(run, run.stage.victim)
    await run.stage.bring_up(run.stage.victim)
    return "stopped and started"


async def guest(run: Run) -> str:
    """A member joins, or leaves."""
    process = run.stage.guest
    if process.child.alive:
        await leaves(run, process)
        return "member left"
    await run.stage.bring_up(process)
    return "member joined"


async def leaves(run: Run, process: GatewayProcess) -> None:
    """SIGTERM, and it ends by itself."""
    if not process.child.alive:
        return
    process.child.resume()
    os.kill(process.child.pid, signal.SIGTERM)
    try:
        code = await process.child.wait(within=_STOPS_WITHIN)
    except StackError as error:
        run.blame("I8", f"it did not stop\n{error}")
        await process.child.kill()
    else:
        run.stage.counts[f"left with {code}"] += 1


# --- servers ----------------------------------------------------------------------------------------------------------


async def broker_restarts(run: Run) -> str:
    await run.stage.kafka.restart()
    return "broker restarted"


async def broker_dies(run: Run) -> str:
    await run.stage.kafka.kill()
    await run.stage.kafka.launch()
    return "broker killed"


async def broker_hangs(run: Run) -> str:
    await _frozen_server(run, run.stage.kafka)
    return "broker hung"


async def ledger_restarts(run: Run) -> str:
    await run.stage.postgres.restart()
    return "postgres restarted"


async def ledger_dies(run: Run) -> str:
    """All of it at once, as if by the kernel: it recovers from its log."""
    await run.stage.postgres.kill()
    await run.stage.postgres.launch()
    return "postgres killed"


async def ledger_hangs(run: Run) -> str:
    await _frozen_server(run, run.stage.postgres)
    return "postgres hung"


async def _frozen_server(run: Run, server: Any) -> None:
    server.pause()
    try:
        await asyncio.sleep(run.chance.uniform(0.5, 6.0))
    finally:
        server.resume()
