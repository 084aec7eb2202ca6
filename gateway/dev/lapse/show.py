"""The time-lapse from its first moment to its account."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct
from prometheus_client import generate_latest
from rich.console import Console

from gateway.cadence.loading import PACKAGED, load
from gateway.cli.common import console
from gateway.cli.kafka import producing
from gateway.cli.sums import counted
from gateway.dev.borrowers import World, people, script
from gateway.dev.demo.show import INTERRUPTED, ourselves, progress, until_asked
from gateway.dev.host import StackError
from gateway.dev.lapse import funnel
from gateway.dev.lapse.funnel import Funnel, Told
from gateway.dev.lapse.play import Interrupted, Play
from gateway.dev.lapse.stage import Stage, stage
from gateway.dev.settings import LENDER_THAT_ASKS
from gateway.ledger import occasions, sums
from schemas.repayments import BorrowerOptedOut

# Clocks change in America on the 14th of this month, and in Europe on the 28th.
START: Final = dt.datetime(2027, 3, 5, 6, tzinfo=dt.UTC)
LENDER: Final = LENDER_THAT_ASKS


class Size(Struct, frozen=True):
    """How much of it: the same three give the same play."""

    seed: int = 1
    loans: int = 300
    days: int = 45


def run(size: Size, *, once: bool) -> int:
    """The exit code: 0 when everything adds up and the independent check has found nothing."""
    try:
        return until_asked(_lapse(size, once), once)
    except Interrupted:
        return INTERRUPTED if once else 0


async def _lapse(size: Size, once: bool) -> int:
    out, began = console(), time.monotonic()
    cast = people(size.seed, size.loans, START.date())
    world = World(size.seed, LENDER, cast, START)
    end = START + dt.timedelta(days=size.days)
    with progress(out) as bars:
        task = bars.add_task("starting", total=None)
        behind = script(size.seed, cast)
        async with stage(START, behind, lambda what: bars.update(task, description=f"starting {what}")) as ready:
            bars.remove_task(task)
            days = bars.add_task("days", total=size.days)
            kafka = ready.config.kafka
            async with producing(kafka, kafka.repayments_topic or "") as producer:
                play = Play(ready, world, producer, end)
                await play.run(lambda now: bars.update(days, completed=(now - START) // dt.timedelta(days=1)))
            played = time.monotonic() - began
            bars.stop()
            account, problems = await _account(ready, play, out)
            if not once:
                await _stay(ready, out)
    account = {
        **msgspec.to_builtins(size),
        "borrowers": len(cast),
        **account,
        "problems": len(problems),
        "seconds": round(played, 1),
    }
    sys.stdout.write(json.dumps(account) + "\n")
    return 1 if problems else 0


async def _account(ready: Stage, play: Play, out: Console) -> tuple[dict[str, Any], list[str]]:
    """The sums and everything that is wrong with them."""
    values = await _published(ready, play.published)
    cadence = load(PACKAGED).in_force(ready.config.lenders[LENDER].cadence_of(None), START.date())
    assert cadence is not None
    facts = funnel.read(values)
    # What he has told by a key in a call stands in no fact; it came before what was told at that moment.
    refused = [Told(at, BorrowerOptedOut(LENDER, ref, as_of=at)) for at, ref in play.ears.refused]
    known = sorted([*refused, *facts], key=lambda each: each.at)
    reachable = frozenset(ready.config.lenders[LENDER].routes)
    told = Funnel.of(known, cadence, reachable, await occasions.standing(ready.ledger))
    topic = ready.config.kafka.repayments_topic or ""
    log = {(topic, partition): (0, n) for partition, n in play.published.items()}
    counters = counted([generate_latest(ready.gateway.registry).decode()])
    kept = await sums.conservation(ready.ledger, log, counters)
    checked = await check(
        ready.home, ready.simulator.journal.path, values, PACKAGED / cadence.name / f"{cadence.version}.yaml"
    )
    problems = [*told.problems(), *kept.gaps, *checked["violations"]]
    if len(facts) != play.told:
        problems.append(f"{play.told} facts told, but {len(facts)} on Kafka")
    if kept.letters:
        problems.append(f"{kept.letters} facts could not be read")
    out.print(told.table())
    out.print(_verdict(checked), markup=False, highlight=False)
    for problem in problems:
        out.print(problem, style="red", markup=False)
    account = {
        **told.sums(),
        "facts": play.told,
        "letters": play.written,
        "jumps": play.jumps,
        "contacts": checked["contacts"],
        "second_contacts": checked["second"],
        "late": checked["late"],
        "violations": len(checked["violations"]),
    }
    return account, problems


async def _published(ready: Stage, ends: Mapping[int, int]) -> list[bytes]:
    """What lies on the topic, by the broker; of each borrower in its order."""
    kafka = ready.config.kafka
    consumer = AIOKafkaConsumer(**kafka.client_options(), enable_auto_commit=False, auto_offset_reset="earliest")
    found: list[bytes] = []
    await consumer.start()
    try:
        left = {TopicPartition(kafka.repayments_topic, each): n for each, n in ends.items() if n}
        consumer.assign(list(left))
        await consumer.seek_to_beginning()
        async with asyncio.timeout(30):
            while left:
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    found += [record.value for record in records]
                    if records and records[-1].offset + 1 >= left.get(partition, 0):
                        left.pop(partition, None)
    finally:
        await consumer.stop()
    return found


async def check(home: Path, log: Path, facts: list[bytes], cadence: Path) -> dict[str, Any]:
    """What a program says that knows nothing of the gateway: only the providers' log, the facts and the cadence."""
    path = home / "facts.jsonl"
    path.write_bytes(b"".join(each + b"\n" for each in facts))
    command = [sys.executable, "-m", "gateway.dev.judge", str(log), str(path), str(cadence)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode not in (0, 1):
        raise StackError(f"the judge ended with {process.returncode}")
    found: dict[str, Any] = json.loads(output)
    return found


def _verdict(checked: Mapping[str, Any]) -> str:
    late = ", ".join(f"{n} {why}" for why, n in sorted(checked["late"].items())) or "none"
    return (
        f"{checked['contacts']} contacts by the providers' own log, {checked['second']} of them after an earlier one of"
        f" the same reminder; late: {late}; violations: {len(checked['violations'])}"
    )


async def _stay(ready: Stage, out: Console) -> None:
    out.print(
        f"""
Everything stays up, and the clock stands still, until Ctrl-C. In another terminal, from this directory:

  export REMINDER_GATEWAY_CONFIG={ready.config_path}
  {ourselves()} reminders list --lender {LENDER}     # and `show` one of them
  {ourselves()} sources     # up to when the core has told everything
  curl -s http://127.0.0.1:{ready.gateway.internal_port}/metrics
""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    with contextlib.suppress(asyncio.CancelledError):
        await ready.running
