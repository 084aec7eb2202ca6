"""One contestant, one round: the backlog for throughput and cost, then a steady trickle for latency."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psutil  # type: ignore[import-untyped]  # it ships no types

from gateway.dev.host import StackError
from gateway.dev.process import Child
from tests.bench.contestants import Contestant
from tests.bench.counters import ACCEPTED, ANSWERED, PROFILE, REFUSED
from tests.bench.receipts import DELAY_SECONDS
from tests.bench.stage import Stage
from tests.stack.gateway import requested

WARM_UP: Final = 2000
TRICKLE_PER_SECOND: Final = 100
_TICK: Final = 0.01
_LOOK_SECONDS: Final = 0.02  # how exactly the last event is timed


class Round(msgspec.Struct):
    """One contestant's figures.  Costs are of whole lives, CPU microseconds for each message.

    `per_second` counts from the start on the backlog until every receipt is answered and every event of these messages
    is on the events topic, less the moment for which the receipt sender holds each receipt.  a has neither: it counts
    to the last message accepted.
    """

    contestant: str
    per_second: float
    python_us: float
    postgres_us: float
    per_python_second: float
    per_postgres_second: float
    commits: float  # transactions for each message, the idle ones of the background included
    p50_ms: float
    p99_ms: float
    rss_mib: float
    others_percent: float  # of the machine's CPU, taken meanwhile by what is not ours: how noisy the round was
    sessions: int  # asserted durable


@dataclass(frozen=True)
class Cpu:
    """CPU seconds so far, and the time."""

    at: float
    process: float
    postgres: float
    ours: float
    machine: float

    @classmethod
    def now(cls, stage: Stage, child: Child) -> Cpu:
        busy, everything = machine_seconds(), tree_seconds(os.getpid())
        return cls(
            time.monotonic(), tree_seconds(child.pid), tree_seconds(stage.postgres.process.pid), everything, busy
        )

    def others_since(self, start: Cpu) -> float:
        foreign = (self.machine - start.machine) - (self.ours - start.ours)
        return max(100 * foreign / (self.at - start.at) / (os.cpu_count() or 1), 0.0)


def machine_seconds() -> float:
    """CPU that everything on this machine has taken."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def tree_seconds(pid: int) -> float:
    """CPU of a process, its living descendants and those it has buried."""
    process = psutil.Process(pid)
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            total += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def peak_rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


async def rate(read: Callable[[], int], n: int, child: Child) -> float:
    """How many a second from now until the `n`-th is there."""
    start = time.monotonic()
    await reached(read, n, child)
    return n / (time.monotonic() - start)


async def reached(read: Callable[[], int], n: int, child: Child) -> None:
    """Returns when the `n`-th is there; StackError when the child dies or nothing moves."""
    moved, last = time.monotonic(), -1
    while (count := read()) < n:
        now = time.monotonic()
        if count != last:
            moved, last = now, count
        if not child.alive or now - moved > 30:
            raise StackError(f"{child.name} stopped at {count} of {n}\n{child.tail()}")
        await asyncio.sleep(0.01)


async def last_event(contestant: Contestant, told: int) -> float:
    """When the last event of `told` messages was seen on the topic; returns when nothing of them is left to do."""
    count, seen_at = await contestant.events(), time.monotonic()

    async def moved() -> bool:
        nonlocal count, seen_at
        before, count = count, await contestant.events()
        if count != before:
            seen_at = time.monotonic()
        return count != before

    async def done() -> bool:
        # Kafka and Postgres are asked seldom, and Postgres only when no event comes any more: while they answer us they
        # do not work for the contestant.
        for _ in range(5):
            await asyncio.sleep(_LOOK_SECONDS)
            if await moved():
                return False
        return await contestant.done(told)

    await settled(done, contestant.child, every=0)
    await moved()  # the last ones, if they came while Postgres was asked
    return seen_at


async def settled(condition: Callable[[], Awaitable[bool]], child: Child, every: float = 0.1) -> None:
    """`child.ready`, asking Postgres no more often than it does not notice."""
    end = time.monotonic() + 60
    while not await condition():
        if not child.alive or time.monotonic() > end:
            raise StackError(f"{child.name} did not finish\n{child.tail()}")
        await asyncio.sleep(every)


async def measure(contestant: Contestant, messages: int, trickle_seconds: float) -> Round:
    stage, child, counters, topic = (
        contestant.stage,
        contestant.child,
        contestant.stage.counters,
        contestant.topics.requests,
    )
    visible, less = (ANSWERED, DELAY_SECONDS) if contestant.gets_receipts else (ACCEPTED, 0)
    base, accepted, refused = counters[visible], counters[ACCEPTED], counters[REFUSED]
    told = 0

    async def live(numbers: range) -> float:
        """Messages a second, with these as the last ones told; returns when nothing of them is left to do."""
        nonlocal told
        told += len(numbers)
        start = time.monotonic()
        await reached(lambda: counters[visible] - base, told, child)
        end = time.monotonic()
        if contestant.gets_receipts:
            end = await last_event(contestant, told)
        else:
            await settled(lambda: contestant.done(told), child)
        return len(numbers) / (end - start - less)

    await stage.publish(topic, map(requested, range(WARM_UP)))
    await live(range(WARM_UP))

    backlog = range(WARM_UP, WARM_UP + messages)
    await stage.postgres.execute("checkpoint")
    child.pause()
    await stage.publish(topic, map(requested, backlog))
    commits = await contestant.commits()
    start = Cpu.now(stage, child)
    counters[PROFILE] = 1
    child.resume()
    per_second = await live(backlog)
    counters[PROFILE] = 0
    end = Cpu.now(stage, child)
    await asyncio.sleep(1)  # Postgres counts a session's transactions when the session has been idle for a moment
    commits = await contestant.commits() - commits

    p50, p99 = await _latency(
        contestant, range(backlog.stop, backlog.stop + int(TRICKLE_PER_SECOND * trickle_seconds)), live
    )
    # Each message once, however it was counted, and each of its events.
    if counters[ACCEPTED] - accepted != told or counters[REFUSED] != refused:
        raise StackError(f"{child.name}: {counters[ACCEPTED] - accepted} accepted of {told}\n{child.tail()}")
    if (events := await contestant.events()) != (made := await contestant.events_made()):
        raise StackError(f"{child.name}: {events} events on the topic, {made} made\n{child.tail()}")
    # Linux tells CPU time in ticks: less than one is one.
    python, postgres = max(end.process - start.process, _TICK), max(end.postgres - start.postgres, _TICK)
    return Round(
        contestant=contestant.letter,
        per_second=per_second,
        python_us=1e6 * python / messages,
        postgres_us=1e6 * postgres / messages,
        per_python_second=messages / python,
        per_postgres_second=messages / postgres,
        commits=commits / messages,
        p50_ms=p50,
        p99_ms=p99,
        rss_mib=peak_rss_mib(child.pid),
        others_percent=end.others_since(start),
        sessions=await contestant.durable_sessions(),
    )


async def _latency(
    contestant: Contestant, numbers: range, live: Callable[[range], Awaitable[float]]
) -> tuple[float, float]:
    """Milliseconds from Kafka's timestamp to the recorded hand-over: median and 99th percentile."""
    stamps: dict[str, int] = {}
    start = time.monotonic()
    for position, number in enumerate(numbers):
        await asyncio.sleep(max(start + position / TRICKLE_PER_SECOND - time.monotonic(), 0))
        stamps |= await contestant.stage.publish(contestant.topics.requests, [requested(number)])
    await live(numbers)
    recorded = await contestant.handed_over()
    waits = sorted(recorded[id_].timestamp() * 1000 - stamp for id_, stamp in stamps.items())
    return waits[len(waits) // 2], waits[len(waits) * 99 // 100]
