"""Faults of processes, servers, links and providers.  Each does its worst, notes nothing, and says what it did.

What has a length ends by itself within seconds, beside the faults that follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import psutil  # type: ignore[import-untyped]  # it ships no types

from gateway.crashpoints import CrashPoint
from gateway.dev.host import StackError
from tests.faults.harness import LEASE, until_paused
from tests.faults.in_flight import kill_in_flight
from tests.faults.load import NAME, PLANTED
from tests.faults.soak.run import Run
from tests.stack.gateway import GatewayProcess, address
from tests.stack.proxy import Link, Proxy

# The drain budget of `HURRY` is 7 seconds; a machine that is busy has its own.
_STOPS_WITHIN: Final = 40.0
_REACHED_WITHIN: Final = 20.0
# The moments at which a worker has something in its hands that it must not do any more when it wakes up.
_SLEEPS: Final = (
    CrashPoint.AFTER_CLAIM, CrashPoint.AFTER_RESERVE, CrashPoint.AFTER_INTEND, CrashPoint.BEFORE_FIRST_BYTE,
    CrashPoint.AFTER_ANSWER, CrashPoint.AFTER_FETCH, CrashPoint.AFTER_PUBLISH,
)  # fmt: skip
_MODES: Final = tuple(each for each in Link if each is not Link.PASSES)


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


# --- links ------------------------------------------------------------------------------------------------------------


async def link(run: Run) -> str:
    """One of the links in one of the ways in which links break, for some seconds."""
    name = run.chance.choice(list(run.stage.links))
    how = run.chance.choice(_MODES)
    run.meanwhile(_broken(run, name, how, run.chance.uniform(0.5, 9.0)))
    await asyncio.sleep(run.chance.uniform(0.0, 1.5))
    return f"link to {name.partition(',')[0]} {how}"


async def _broken(run: Run, name: str, how: Link, seconds: float) -> None:
    try:
        run.stage.links[name].set(how)
        await asyncio.sleep(seconds)
    finally:
        run.stage.links[name].set(Link.PASSES)
        if name == "providers":
            run.providers_since = time.monotonic()


async def cut(run: Run) -> str:
    """Every connection of one link at once; the next ones work."""
    name = run.chance.choice(list(run.stage.links))
    run.stage.links[name].reset()
    return f"link to {name.partition(',')[0]} cut"


async def lost_commits(run: Run) -> str:
    """The ledger has committed, and the answer does not come."""
    over = run.chance.choice(_ledgers(run))
    before = over.lost
    over.lose_commits(run.chance.randint(1, 12))
    await run.stage.here.world.publish(run.load.burst(10))
    await asyncio.sleep(run.chance.uniform(0.5, 2.0))
    over.lose_commits(0)
    run.stage.counts["commits whose answer was lost"] += over.lost - before
    return "answers of COMMIT lost"


def _ledgers(run: Run) -> Sequence[Proxy]:
    return [each for name, each in run.stage.links.items() if name.startswith("postgres")]


# --- providers --------------------------------------------------------------------------------------------------------

_MISBEHAVIOUR: Final[dict[str, dict[str, Any]]] = {
    "errors": {"action": "error", "status": 503},
    "throttling": {"action": "error", "status": 429, "retry_after": 1},
    "errors after taking it": {"action": "error", "status": 500, "after_accept": True},
    "taken and silent": {"action": "hang", "seconds": 3},
    "not taken and silent": {"action": "stall", "seconds": 3},
    "taken and reset": {"action": "reset"},
    "reset": {"action": "drop"},
    "half an answer": {"action": "truncate"},
    "slow": {"latency": [0.5, 1.5]},
    "receipts repeated and turned round": {"receipts": {"copies": 4, "reorder": True, "delay": [0, 1]}},
    "receipts lost": {"receipts": {"lost": True}},
    "receipts at once": {"receipts": {"delay": [0, 0]}},
}


async def providers_gone(run: Run) -> str:
    run.stage.here.world.simulator.refuse(run.chance.uniform(0.5, 4.0))
    return "providers gone"


async def providers_misbehave(run: Run) -> str:
    """A third of what they get, for some seconds."""
    what = run.chance.choice(list(_MISBEHAVIOUR))
    run.perform({**_MISBEHAVIOUR[what], "chance": 0.33})
    run.meanwhile(_behaving_after(run, run.chance.uniform(1.0, 8.0)))
    return f"providers: {what}"


async def _behaving_after(run: Run, seconds: float) -> None:
    await asyncio.sleep(seconds)
    run.perform()


# --- the load itself --------------------------------------------------------------------------------------------------


async def rush(run: Run) -> str:
    await run.stage.here.world.publish(run.load.burst(run.chance.randint(150, 400)))
    return "rush"


async def replies(run: Run) -> str:
    """Borrowers write back, twice each."""
    control = f"{run.stage.here.world.simulator.urls.control}/reply"
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            number = address("sms", run.chance.randint(101, 100 + max(1, run.load.reminders)))
            letter = {
                "vendor": run.chance.choice(["twilio", "aliyun_sms"]), "number": number, "content": " ".join(PLANTED),
                "copies": 2,
            }  # fmt: skip
            with contextlib.suppress(aiohttp.ClientError):  # the providers are gone
                async with session.post(control, json=letter) as answer:
                    run.answers[f"reply {answer.status}"] += 1
    return "borrowers write back"


async def strangers(run: Run) -> str:
    """Whatever comes to a public port: nothing of it may be taken, and none is an error of ours."""
    tree = run.stage.survivor.settings.tree
    base, token = tree["http"]["public_url"], run.stage.vault.files["callback"].split()[0]
    bodies: Sequence[Any] = (
        b"", b"\xff" * 100, NAME.encode(), b"[" * 20_000, b"[]", b"{}", b"x" * 400_000,
        b"MessageSid=SM1&MessageStatus=delivered",
    )  # fmt: skip
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for where in ("twilio", "aliyun", "aliyun_sms", "twilio_voice", "nobody"):
            for body in bodies:
                path = run.chance.choice([token, "wrong" * 6])
                try:
                    async with session.post(f"{base}/callbacks/{where}/{path}", data=body) as answer:
                        run.answers[f"stranger {answer.status}"] += 1
                        if answer.status == 500:
                            run.blame("I8", f"a stranger's callback to {where} was answered 500")
                except (aiohttp.ClientError, TimeoutError):
                    run.answers["stranger cut off"] += 1
    return "strangers call"
