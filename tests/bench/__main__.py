"""`python -m tests.bench [--rounds 3] [--messages 10000] [--only a,b,c,callbacks] [--profile] [--write FILE]`.

`--only ledger` and `--only steps` measure parts of the gateway by themselves: its statements, and its pure steps.
`scale` and `plans` as the first word measure how it grows: a ledger of ten million reminders, a hundred thousand plans.
`storm` measures how fast the facts of one borrower are taken.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from tests.bench import ledger, plans, report, scale, steps, storm
from tests.bench.callbacks import CallbackRound, measure_callbacks
from tests.bench.contestants import CONTESTANTS, Gateway
from tests.bench.measure import TRICKLE_PER_SECOND, Round, measure
from tests.bench.profiled import Samples
from tests.bench.stage import Stage, stage
from tests.stack.gateway import requested
from tests.stack.postgres import PostgresServer

_USUAL: Final = ("a", "b", "c", "callbacks")
_ALL: Final = (*_USUAL, "ledger", "steps")
_GROUPS: Final = (20, 100, 400)
_BROKER_WARM_UP: Final = 20_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="How fast, against what.")
    parser.add_argument("growth", nargs="?", choices=("scale", "plans", "storm"), help="how it grows, and nothing else")
    parser.add_argument("--reminders", type=int, default=10_000_000, help="in the large ledger of `scale`")
    parser.add_argument("--plans", type=int, default=100_000, help="that `plans` makes")
    parser.add_argument("--facts", type=int, default=10_000, help="of one borrower in each round of `storm`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=10_000, help="in the backlog of each round")
    parser.add_argument("--trickle", type=float, default=6, help=f"seconds of {TRICKLE_PER_SECOND}/s, for the latency")
    parser.add_argument("--only", default=",".join(_USUAL), help=f"some of {','.join(_ALL)}")
    parser.add_argument("--profile", action="store_true", help="say where the gateway's time goes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the tables and the JSON line, in a file as well")
    chosen = parser.parse_args()
    chosen.only = [name.strip() for name in chosen.only.split(",") if name.strip()]
    if unknown := set(chosen.only) - set(_ALL):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}")
    return chosen


async def grow(chosen: argparse.Namespace, console: Console) -> None:
    if chosen.growth == "scale":
        await scale.show(chosen.reminders, chosen.rounds, console)
    elif chosen.growth == "storm":
        await storm.show(chosen.facts, console)
    else:
        async with PostgresServer(durable=True) as postgres:
            await plans.show(postgres, chosen.plans, console)


async def main(chosen: argparse.Namespace, console: Console) -> None:
    rounds: list[Round] = []
    callbacks: list[CallbackRound] = []
    async with stage() as here:
        console.print("real Kafka, real Postgres with fsync; the provider is a bare uvloop server, one for all")
        await _warm_broker(here)
        for number in range(1, chosen.rounds + 1):
            for contestant in CONTESTANTS:
                if contestant.letter in chosen.only:
                    async with contestant(here) as running:
                        rounds.append(await measure(running, chosen.messages, chosen.trickle))
                    _tell(console, number, rounds[-1])
            if "callbacks" in chosen.only:
                callbacks.append(await measure_callbacks(here, chosen.messages))
                console.print(f"round {number} callbacks: ratio {callbacks[-1].ratio:.2f}")
        if "ledger" in chosen.only:
            await ledger.show(here.postgres, chosen.messages, _GROUPS, console)
        if "steps" in chosen.only:
            steps.show(console, chosen.messages)
        if rounds:
            report.show_rounds(console, rounds)
        if callbacks:
            report.show_callbacks(console, callbacks)
        if chosen.profile:
            await _profile(here, chosen, console)
    setup = {"rounds": chosen.rounds, "messages": chosen.messages, "provider": "uvloop", "trickle": chosen.trickle}
    console.print(report.as_json(rounds, callbacks, setup), soft_wrap=True, markup=False, highlight=False)


def _tell(console: Console, number: int, found: Round) -> None:
    console.print(
        f"round {number} {found.contestant}: {found.per_second:,.0f}/s, Python {found.python_us:.0f} µs, "
        f"Postgres {found.postgres_us:.0f} µs, p50 {found.p50_ms:.0f} ms, p99 {found.p99_ms:.0f} ms; "
        f"others took {found.others_percent:.0f} % of the CPU; {found.sessions} sessions asserted durable"
    )


async def _profile(here: Stage, chosen: argparse.Namespace, console: Console) -> None:
    out = here.home / "profile.json"
    async with Gateway(here, profile=out) as gateway:
        found = await measure(gateway, chosen.messages, 1)
    report.show_profile(console, msgspec.json.decode(out.read_bytes(), type=Samples), found.python_us)


async def _warm_broker(here: Stage) -> None:
    """The JVM compiles what it runs often; the first contestant must not pay for it."""
    topics = await here.topics()
    await here.publish(topics.requests, (requested(number) for number in range(_BROKER_WARM_UP)))


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # its retries are part of the measurement, not news
    options = arguments()
    screen = Console(width=180, record=options.write is not None)
    asyncio.run(grow(options, screen) if options.growth else main(options, screen))
    if options.write is not None:
        options.write.write_text(screen.export_text())
