"""`python -m tests.faults.soak`: hundreds of kills and other faults on a stack of its own, then the judge.

One gateway is killed and paused again and again; a second one, the survivor, lives through everything, so that its
memory can be measured.  Now and then the providers vanish, the broker or Postgres restarts.  The last line is one JSON
object; the exit status is 0 only without a single violation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]  # it ships no types

from gateway.dev.host import Home
from tests.faults.checker import Report
from tests.faults.harness import LEASE, Stand, fresh_topics, stand
from tests.faults.load import Load, heal, script
from tests.faults.test_random_kills import kill_in_flight
from tests.stack.gateway import GatewayProcess
from tests.stack.kafka import KafkaServer
from tests.stack.postgres import PostgresServer

MEBIBYTE = 2**20


@dataclass
class Soak:
    """One run: what is disturbed, and what was noted on the way."""

    here: Stand
    survivor: GatewayProcess
    kafka: KafkaServer
    postgres: PostgresServer
    chance: random.Random
    load: Load
    burst: int
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)  # minutes, MiB
    started: float = field(default_factory=time.monotonic)

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.started) / 60

    async def run(self, kills: int, minutes: float) -> None:
        """Disturbs until `kills` are done or the time is up."""
        faults: Sequence[tuple[int, Callable[[], Awaitable[None]]]] = (
            (78, self._kill),
            (10, self._pause),
            (6, self._no_provider),
            (3, self._broker),
            (3, self._database),
        )
        while self.faults["kill"] < kills and self.minutes < minutes:
            await self.here.world.publish(self.load.burst(self.burst))
            await asyncio.sleep(self.chance.uniform(0.0, 1.0))
            fault = self.chance.choices([each for _, each in faults], [weight for weight, _ in faults])[0]
            await fault()
            self._weigh()
            if sum(self.faults.values()) % 10 == 0:
                print(self._progress(), flush=True)

    async def _kill(self) -> None:
        self.states += await kill_in_flight(self.here, self.load)
        self.faults["kill"] += 1
        await self.here.up()

    async def _pause(self) -> None:
        """Sometimes past its lease, sometimes not."""
        self.here.gateway.child.pause()
        await asyncio.sleep(self.chance.uniform(0.5, 1.5 * LEASE))
        self.here.gateway.child.resume()
        self.faults["pause"] += 1

    async def _no_provider(self) -> None:
        self.here.world.simulator.refuse(self.chance.uniform(0.5, 3.0))
        self.faults["providers gone"] += 1

    async def _broker(self) -> None:
        await self.kafka.restart()
        self.faults["broker restarted"] += 1

    async def _database(self) -> None:
        await self.postgres.restart()
        self.faults["postgres restarted"] += 1

    def _weigh(self) -> None:
        self.memory.append((self.minutes, psutil.Process(self.survivor.child.pid).memory_info().rss / MEBIBYTE))

    def _progress(self) -> str:
        size = self.memory[-1][1]
        return f"{self.minutes:5.1f} min  {self.load.reminders} requests  {dict(self.faults)}  {size:.0f} MiB"

    @property
    def slope(self) -> float:
        """MiB per minute of the survivor, by least squares over the second half of the run."""
        points = self.memory[len(self.memory) // 2 :]
        if len(points) < 2:
            return 0.0
        x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
        spread = sum((minute - x) ** 2 for minute, _ in points)
        return sum((minute - x) * (size - y) for minute, size in points) / spread if spread else 0.0

    def summary(self, report: Report, healed: float, seed: int) -> dict[str, object]:
        return {
            "seed": seed,
            "minutes": round(self.minutes, 1),
            "requests": self.load.reminders,
            "records": report.counts["records"],
            "messages": report.counts["messages"],
            "kills": self.faults["kill"],
            "faults": dict(self.faults),
            "states_hit": dict(self.states),
            "violations": len(report.violations),
            "healed_seconds": round(healed, 1),
            "rss_mib": round(self.memory[-1][1], 1) if self.memory else None,
            "rss_slope_mib_per_minute": round(self.slope, 2),
        }


async def soak(kills: int, minutes: float, seed: int, burst: int) -> int:
    """Runs it all; the process's exit status."""
    with contextlib.closing(Home("soak")) as home:
        async with PostgresServer() as postgres, KafkaServer() as kafka:
            topics = await fresh_topics(kafka)
            dsn = postgres.dsn(await postgres.fresh_database())
            options = {"script": script(seed), "receipts": {"retry_scale": 0.05}}
            async with stand(dsn, kafka.bootstrap, topics, home.path, **options) as here:
                survivor = here.twin("survivor")
                survivor.spawn()
                await here.up()
                await survivor.ready()
                run = Soak(here, survivor, kafka, postgres, random.Random(seed), Load(seed), burst)
                await run.run(kills, minutes)
                print("healing", flush=True)
                healed = await heal(here, run.load, within=180)
                report = await here.check()
                print(report)
                # A process that gave up by itself would be a violation, too.
                if not survivor.child.alive:
                    report.blame("I8", f"the survivor ended\n{survivor.child.tail()}")
                print(json.dumps(run.summary(report, healed, seed)))
                return 1 if report.violations else 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop disturbing after so long, kills or not")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--burst", type=int, default=20, help="requests before each fault")
    given = parser.parse_args(arguments)
    return asyncio.run(soak(given.kills, given.minutes, given.seed, given.burst))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
