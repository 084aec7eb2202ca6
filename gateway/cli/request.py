"""`request`: files of requests to Kafka.  Nothing is sent unless every row of every file can be."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.common import DEFAULT_CONFIG, FAILED, WRONG, ConfigPath, fail, read

if TYPE_CHECKING:
    from gateway.cli.events import Event
    from gateway.config import Kafka

_MOST_PROBLEMS: Final = 50


def request(
    files: Annotated[list[Path], typer.Argument(help="JSON, JSON lines (.jsonl) or CSV with dotted column names.")],
    source: Annotated[str, typer.Option(help="The CloudEvents source of rows that name none.")] = "command-line",
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Send nothing to anybody; print what the gateway answers.")
    ] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the answers of --validate-only.")] = 30.0,
    moment: Annotated[
        str | None,
        typer.Option("--now", help="What relative times count from, with an offset; the present when absent."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Put files of reminder requests on Kafka.

    The same request sent again is answered as a duplicate; a row with relative times is the same with the same --now.
    Exits with 2 when a row is wrong, and then nothing was sent; with 1 when Kafka fails or an answer is a refusal.
    """
    from aiokafka.errors import KafkaError

    from gateway.cli.kafka import NoKafka

    kafka = read(config).kafka
    now = _moment(moment)
    count = _check(files, source, now, validate_only)
    work = _Work(files, source, now, validate_only, count, kafka)
    try:
        refused = asyncio.run(work.validate(wait) if validate_only else work.send())
    except NoKafka as error:
        raise fail(str(error)) from None
    except KafkaError as error:
        raise fail(
            f"{work.landed} of {count} requests sent, then Kafka failed: {type(error).__name__}{work.again}"
        ) from None
    if refused:
        raise typer.Exit(FAILED)


def _moment(text: str | None) -> dt.datetime:
    """Whole milliseconds, as the events have them: what is printed makes the same events again."""
    try:
        moment = dt.datetime.now(dt.UTC) if text is None else dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
    except ValueError:
        raise fail("--now needs a time with an offset, as 2026-11-18T10:00:00+08:00", WRONG) from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


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
        self._relative = False
        self.landed = 0  # acknowledged by Kafka

    @property
    def again(self) -> str:
        """How to send the same once more; empty where the same command does."""
        if not self._relative:
            return ""
        moment = self._now.isoformat(timespec="milliseconds")
        return f"\nrelative times count from {moment}; --now {moment} sends the same again"

    async def send(self) -> int:
        """Publishes everything; returns 0."""
        await self._publish()
        typer.echo(f"{self._count} requests sent to {self._kafka.requests_topic}{self.again}")
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
        from gateway.cli.publishing import publish

        kept: list[tuple[str, Event, tuple[str, int, int]]] = []

        def landed(where: str, event: Event, record: Any) -> None:
            self.landed += 1
            if self._validate_only:
                kept.append((where, event, (record.topic, record.partition, record.offset)))

        await publish(self._kafka, self._kafka.requests_topic, self._events(), self._count, landed)
        return kept

    def _events(self) -> Iterator[tuple[str, Event]]:
        from gateway.cli.events import event
        from gateway.cli.rows import rows

        for file in self._files:
            for row in rows(file):
                if row.value is not None:
                    made = event(row.value, self._source, self._now, validate_only=self._validate_only)
                    self._relative |= made.relative
                    yield row.where, made


def _place(told: dict[str, Any]) -> tuple[str, int, int]:
    """The record a dead letter is about; of no record for a status."""
    return told.get("topic", ""), told.get("partition", -1), told.get("offset", -1)
