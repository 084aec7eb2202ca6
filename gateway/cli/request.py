"""`request`: files of requests to Kafka.  Nothing is sent unless every row of every file can be."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.common import DEFAULT_CONFIG, FAILED, WRONG, ConfigPath, console, fail, read

if TYPE_CHECKING:
    from rich.progress import Progress

    from gateway.cli.events import Event
    from gateway.config import Kafka

_IN_FLIGHT: Final = 500
_MOST_PROBLEMS: Final = 50


def request(
    files: Annotated[list[Path], typer.Argument(help="JSON, JSON lines (.jsonl) or CSV with dotted column names.")],
    source: Annotated[str, typer.Option(help="The CloudEvents source of rows that name none.")] = "command-line",
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Send nothing to anybody; print what the gateway answers.")
    ] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the answers of --validate-only.")] = 30.0,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Put files of reminder requests on Kafka.

    Exits with 2 when a row is wrong, and then nothing was sent; with 1 when Kafka fails or an answer is a refusal.
    """
    from gateway.cli.kafka import NoKafka

    kafka = read(config).kafka
    now = dt.datetime.now(dt.UTC)
    count = _check(files, source, now, validate_only)
    work = _Work(files, source, now, validate_only, count, kafka)
    try:
        refused = asyncio.run(work.validate(wait) if validate_only else work.send())
    except NoKafka as error:
        raise fail(str(error)) from None
    if refused:
        raise typer.Exit(FAILED)


def _check(files: Sequence[Path], source: str, now: dt.datetime, validate_only: bool) -> int:
    """How many events the files hold.  Prints every problem and exits with 2 when there is one."""
    from gateway.cli.events import BadRow, event
    from gateway.cli.rows import rows

    good, bad = 0, 0
    for file in files:
        for row in rows(file):
            problem = row.problem
            if row.value is not None:
                try:
                    event(row.value, source, now, validate_only=validate_only)
                    good += 1
                    continue
                except BadRow as error:
                    problem = str(error)
            bad += 1
            if bad <= _MOST_PROBLEMS:
                typer.echo(f"{row.where}: {problem}", err=True)
    if bad:
        raise fail(f"{bad} bad, {good} good: nothing was sent", WRONG)
    return good


class _Work:
    """One run of the command; the files were checked."""

    def __init__(
        self, files: Sequence[Path], source: str, now: dt.datetime, validate_only: bool, count: int, kafka: Kafka
    ) -> None:
        self._files = files
        self._source = source
        self._now = now
        self._validate_only = validate_only
        self._count = count
        self._kafka = kafka

    async def send(self) -> int:
        """Publishes everything; returns 0."""
        await self._publish()
        typer.echo(f"{self._count} requests sent to {self._kafka.requests_topic}")
        return 0

    async def validate(self, seconds: float) -> int:
        """Publishes everything and prints each answer; returns how many were refused or not answered."""
        from gateway.cli.kafka import Listener

        async with Listener(self._kafka) as listener:
            asked = await self._publish()
            waiting = {place: where for where, _, place in asked}
            places: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
            for _, event, place in asked:
                places.setdefault((event.source, event.id), []).append(place)
            refused = 0
            end = asyncio.get_running_loop().time() + seconds
            while waiting and asyncio.get_running_loop().time() < end:
                for told in await listener.more():
                    if told.get("answer") == "validated":
                        alike = places.get((told["source"], told["request_id"]))
                        if alike and (where := waiting.pop(alike.pop(0), None)):
                            typer.echo(f"{where}: validated")
                    elif where := waiting.pop(_place(told), None):
                        refused += 1
                        field = told.get("field")
                        typer.echo(f"{where}: refused: {told['reason']}" + (f" ({field})" if field else ""))
        for where in waiting.values():
            typer.echo(f"{where}: no answer within {seconds:g} s", err=True)
        valid = len(asked) - refused - len(waiting)
        typer.echo(f"{valid} validated, {refused} refused, {len(waiting)} without an answer")
        return refused + len(waiting)

    async def _publish(self) -> list[tuple[str, Event, tuple[str, int, int]]]:
        """Sends every event; only a validation needs to know afterwards which record was which row."""
        from gateway.cli.kafka import producing

        topic = self._kafka.requests_topic
        kept: list[tuple[str, Event, tuple[str, int, int]]] = []
        async with producing(self._kafka, topic) as producer:
            with _progress() as progress:
                task = progress.add_task("sending", total=self._count)
                flight: list[tuple[str, Event, Any]] = []

                async def land() -> None:
                    for where, event, sent in flight:
                        record = await sent
                        if self._validate_only:
                            kept.append((where, event, (record.topic, record.partition, record.offset)))
                    progress.advance(task, len(flight))
                    flight.clear()

                for where, event in self._events():
                    flight.append((where, event, await producer.send(topic, event.value, key=event.key)))
                    if len(flight) >= _IN_FLIGHT:
                        await land()
                await land()
        return kept

    def _events(self) -> Iterator[tuple[str, Event]]:
        from gateway.cli.events import event
        from gateway.cli.rows import rows

        for file in self._files:
            for row in rows(file):
                if row.value is not None:
                    yield row.where, event(row.value, self._source, self._now, validate_only=self._validate_only)


def _place(told: dict[str, Any]) -> tuple[str, int, int]:
    """The record a dead letter is about; of no record for a status."""
    return told.get("topic", ""), told.get("partition", -1), told.get("offset", -1)


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console(err=True))
