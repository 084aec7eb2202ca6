"""Events of files to a topic, in their order, with a bar that shows how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.common import console

if TYPE_CHECKING:
    from rich.progress import Progress

    from gateway.cli.events import Event
    from gateway.config import Kafka

_IN_FLIGHT: Final = 500


async def publish(
    kafka: Kafka, topic: str, events: Iterable[tuple[str, Event]], count: int, landed: Callable[[str, Event, Any], None]
) -> None:
    """Sends every event; `landed` is told of each that Kafka acknowledged, with where it stood in its file and its
    record.  Raises NoKafka, or the KafkaError of the first that was not acknowledged."""
    from gateway.cli.kafka import producing

    async with producing(kafka, topic) as producer:
        with _progress() as progress:
            task = progress.add_task("sending", total=count)
            flight: list[tuple[str, Event, Any]] = []

            async def land() -> None:
                records = await asyncio.gather(*(sent for _, _, sent in flight), return_exceptions=True)
                for (where, event, _), record in zip(flight, records, strict=True):
                    if not isinstance(record, BaseException):
                        landed(where, event, record)
                progress.advance(task, len(flight))
                flight.clear()
                for each in records:
                    if isinstance(each, BaseException):
                        raise each

            for where, event in events:
                flight.append((where, event, await producer.send(topic, event.value, key=event.key)))
                if len(flight) >= _IN_FLIGHT:
                    await land()
            await land()


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console(err=True))
