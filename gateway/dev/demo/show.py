"""The demo from curtain to curtain."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import shlex
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.cli.common import console
from gateway.cli.kafka import Listener, producing
from gateway.dev.demo import books, cast
from gateway.dev.demo.account import Account, count
from gateway.dev.demo.stage import Stage, stage
from gateway.dev.demo.watch import Watch
from schemas.vocabulary import Rejection

# The whole cast takes some 7 seconds; a slow machine may take longer.
_WITHIN: Final = 90.0
_SETTLE_WITHIN: Final = 15.0
INTERRUPTED: Final = 130


def run(*, once: bool) -> int:
    """The exit code: 0 when every record ended as the cast says, and nothing was sent twice."""
    return until_asked(_demo(once), once)


def until_asked(demo: Coroutine[Any, Any, int], once: bool) -> int:
    """Ctrl-C and SIGTERM end a demo in order: the first is heeded, the others have nothing to add."""
    return asyncio.run(_until_asked(demo, once))


async def _until_asked(demo: Coroutine[Any, Any, int], once: bool) -> int:
    work = asyncio.ensure_future(demo)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def stop() -> None:
        if not asked.is_set():
            asked.set()
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await work
    except asyncio.CancelledError:
        return INTERRUPTED if once else 0


async def _demo(once: bool) -> int:
    out, began = console(), time.monotonic()
    with progress(out) as bars:
        task = bars.add_task("starting", total=None)
        async with stage(cast.script(), lambda what: bars.update(task, description=f"starting {what}")) as ready:
            bars.remove_task(task)
            watch = Watch(cast.records(dt.datetime.now(dt.UTC)))
            async with Listener(ready.config.kafka) as listener:
                await _play(ready, watch, listener, bars)
                restless = await _settle(ready, watch, listener, bars)
                bars.stop()
                counted = await count(ready.simulator.journal.path, ready.resends)
                read = await books.read(ready, watch.acknowledged)
                account = Account(watch.fates, counted, read, watch.others, restless)
                problems = account.problems()
                out.print(account.table())
                for problem in problems:
                    out.print(problem, style="red", markup=False)
                if not once:
                    await _stay(ready, watch, listener, out)
    sums = {**account.sums(), "seconds": round(time.monotonic() - began, 1)}
    sys.stdout.write(json.dumps(sums) + "\n")
    return 1 if problems else 0


async def _play(ready: Stage, watch: Watch, listener: Listener, bars: Progress) -> None:
    """Publishes everything and follows it; returns when all has ended or time is up."""
    total = len(watch.fates)
    published = bars.add_task("published", total=total)
    told = bars.add_task("heard of", total=total)
    ended = bars.add_task("ended", total=total)

    def show() -> None:
        bars.update(published, completed=watch.published)
        bars.update(told, completed=sum(bool(fate.state) for fate in watch.fates))
        bars.update(ended, completed=watch.ended)

    kafka = ready.config.kafka
    async with producing(kafka, kafka.requests_topic) as producer:
        publishing = asyncio.create_task(watch.publish(producer, kafka.requests_topic))
        try:
            await asyncio.wait_for(watch.follow(listener, show), _WITHIN)
        except TimeoutError:
            pass  # the account says what is missing
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            show()


async def _settle(ready: Stage, watch: Watch, listener: Listener, bars: Progress) -> list[str]:
    """Waits until nothing moves any more; returns what still did when time was up."""
    bars.add_task("looking whether anything comes after the end", total=None)
    return await watch.settle(listener, lambda: books.read(ready, watch.acknowledged), _SETTLE_WITHIN)


def ourselves() -> str:
    """How this command was called, for whoever calls another one."""
    return f"{sys.executable} -m gateway" if sys.argv[0].endswith(".py") else shlex.quote(sys.argv[0])


async def _stay(ready: Stage, watch: Watch, listener: Listener, out: Console) -> None:
    """Tells what to try, then what is told, until Ctrl-C."""
    command = ourselves()
    example = _example(ready.home, "request.json", cast.example())
    facts = _example(ready.home, "facts.jsonl", cast.plan())
    out.print(
        f"""
Everything stays up until Ctrl-C. In another terminal, from this directory:

  export REMINDER_GATEWAY_CONFIG={ready.config_path}
  {command} request {example}                 # send your own request
  {command} request --validate-only {example} # or only have it checked
  {command} tell {facts}                     # tell of a plan, as a lender's core does
  {command} show --source {cast.SOURCE} --id whole-ladder  # see the timeline of one
  curl -s {ready.metrics_url}    # read the metrics

What is told about requests of yours appears here.
""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    async for told in watch.news(listener):
        what = told.get("state") or told.get("answer") or f"dead letter at {told.get('partition')}/{told.get('offset')}"
        name = told.get("request_id", "a record")
        reason = f" ({told['reason']})" if told.get("reason") else ""
        if told.get("reason") == Rejection.CONFLICT:
            reason = " (conflict: its id is known, with other data; relative times are others by now)"
        out.print(f"{name}: {what}{reason}  {told.get('reminder', '')}", highlight=False, markup=False)


def _example(home: Path, name: str, value: dict[str, Any]) -> Path:
    """The file of the README, or one of the same kind where the source is not at hand."""
    example = Path("docs/examples", name)
    if example.is_file():
        return example
    copy = home / name
    copy.write_text(json.dumps(value, ensure_ascii=False))
    return copy


def progress(out: Console) -> Progress:
    """Bars that are gone when they have done their work."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=out, transient=True)
