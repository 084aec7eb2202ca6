"""`sums`: the conservation sums, counted in full.  Nightly, or when somebody asks whether anything got lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigPath, console, fail, ledger, read
from gateway.cli.metrics import scrape

if TYPE_CHECKING:
    from gateway.config import Config, Kafka
    from gateway.ledger.sums import Conservation, Counted, Partition

_SECONDS: Final = 30.0
_OF_REMINDERS: Final = {
    "reminders_born": ("state",),
    "reminder_moves": ("state",),
    "reminder_corrections": ("was", "state"),
}


def sums(
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="A gateway's /metrics, for the counters' side; once for each gateway. "
            "They cover the ledger only if none of them was restarted since it was empty.",
        ),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Count the ledger and compare it with Kafka's offsets and the counters.  Exits with 1 if something is missing.

    The counters are compared by what became of the records, by all reminders made, and by each state they end in.
    """
    from rich.table import Table

    found = asyncio.run(_count(read(config), metrics or []))
    table = Table("term", "count")
    for name, n in found.terms.items():
        table.add_row(name, str(n))
    console().print(table)
    for gap in found.gaps:
        typer.echo(f"does not add up: {gap}")
    if found.gaps:
        raise typer.Exit(1)
    typer.echo("everything adds up")


async def _count(config: Config, urls: list[str]) -> Conservation:
    from gateway.ledger.sums import conservation

    # First the counters, then the ledger, then the broker: of a gateway at work each is ahead of the one before, so
    # only a quiet one adds up to the last record.
    by_counters = counted(await scrape(urls)) if urls else None
    async with ledger(config) as connection:
        found = await conservation(connection, counted=by_counters)
    return replace(found, log=await _log(config.kafka))


async def _log(kafka: Kafka) -> dict[Partition, tuple[int, int]]:
    """Where each partition of the topics that are read begins and ends, by the broker."""
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError, for_code

    from gateway.cli.kafka import reason

    topics = [each for each in (kafka.requests_topic, kafka.repayments_topic) if each is not None]
    admin = AIOKafkaAdminClient(**kafka.client_options())
    consumer = AIOKafkaConsumer(**kafka.client_options())
    try:
        async with asyncio.timeout(_SECONDS):
            await admin.start()
            found = await admin.describe_topics(topics)
            for each in found:
                if each["error_code"]:
                    raise for_code(each["error_code"])(each["topic"])
            partitions = [
                TopicPartition(each["topic"], part["partition"]) for each in found for part in each["partitions"]
            ]
            await consumer.start()
            begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    except (KafkaError, TimeoutError, OSError) as error:
        where = f"{' and '.join(topics)} at {kafka.bootstrap}"
        raise fail(f"{where} cannot be reached: {await reason(kafka, error)}") from None
    finally:
        await consumer.stop()
        await admin.close()
    return {(each.topic, each.partition): (begins[each], ends[each]) for each in partitions}


def counted(texts: list[str]) -> Counted:
    """The counters' side of the sums, from metrics in Prometheus' text format."""
    from prometheus_client.parser import text_string_to_metric_families

    from gateway.ledger import gauges
    from gateway.ledger import sums as of_ledger
    from gateway.observability.metrics import NAMESPACE

    names = {f"{NAMESPACE}_{name}_total": name for name in ("records_read", *_OF_REMINDERS)}
    total: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in names.values()}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if (name := names.get(sample.name)) is not None:
                    key = tuple(sample.labels.get(each, "") for each in _OF_REMINDERS.get(name, ("outcome",)))
                    total[name][key] += int(sample.value)
    born, moved, corrected = (total[name] for name in _OF_REMINDERS)
    return of_ledger.counted(
        {outcome: total["records_read"][outcome,] for outcome in gauges.ReadOutcome},
        born=[(state, n) for (state,), n in born.items()],
        moved=[(state, n) for (state,), n in moved.items()],
        corrected=[(was, state, n) for (was, state), n in corrected.items()],
    )
