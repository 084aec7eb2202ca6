"""`tell`: files of facts to Kafka, as a lender's core tells them.  Nothing is told unless every row of every file can
be."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.common import DEFAULT_CONFIG, WRONG, ConfigPath, fail, read
from gateway.cli.facts import SOURCE

if TYPE_CHECKING:
    from gateway.cli.events import Event


def tell(
    files: Annotated[list[Path], typer.Argument(help="Facts as JSON or JSON lines: rows of type and data.")],
    source: Annotated[str, typer.Option(help="The CloudEvents source of rows that name none.")] = SOURCE,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Put files of facts on Kafka, as a lender's core would: plans, debits, payments, stops.

    The same facts told again change nothing.  Exits with 2 when a row is wrong, and then nothing was told; with 1 when
    Kafka fails.
    """
    from aiokafka.errors import KafkaError

    from gateway.cli.kafka import NoKafka
    from gateway.cli.plan import read_rows
    from gateway.cli.publishing import publish

    kafka = read(config).kafka
    topic = kafka.repayments_topic
    if topic is None:
        raise fail("kafka.repayments_topic is not set: no plans are made of facts", WRONG)
    rows = read_rows(files, source, dt.datetime.now(dt.UTC))
    events = [(where, row.event) for where, row in rows]
    told = 0

    def landed(where: str, event: Event, record: Any) -> None:
        nonlocal told
        told += 1

    try:
        asyncio.run(publish(kafka, topic, events, len(events), landed))
    except NoKafka as error:
        raise fail(str(error)) from None
    except KafkaError as error:
        raise fail(f"{told} of {len(events)} facts told, then Kafka failed: {type(error).__name__}") from None
    typer.echo(f"{len(events)} fact{'' if len(events) == 1 else 's'} told to {topic}")
