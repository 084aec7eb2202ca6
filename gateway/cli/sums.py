"""`sums`: the conservation sums, counted in full.  Nightly, or when somebody asks whether anything got lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.common import DEFAULT_CONFIG, WRONG, ConfigPath, console, fail, read

if TYPE_CHECKING:
    from gateway.config import Config, Kafka
    from gateway.ledger.gauges import Conservation, Counted, Partition

_SECONDS: Final = 30.0


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
    """Count the ledger and compare it with Kafka's offsets and the counters.  Exits with 1 if something is missing."""
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
    import asyncpg

    from gateway.ledger import schema
    from gateway.ledger.gauges import conservation

    # First the counters, then the ledger, then the broker: of a gateway at work each is ahead of the one before, so
    # only a quiet one adds up to the last record.
    counted = await _counters(urls) if urls else None
    try:
        connection = await asyncpg.connect(config.database.dsn.get_secret_value(), timeout=10)
    except (OSError, asyncpg.PostgresError) as error:
        raise fail(f"the database cannot be reached: {type(error).__name__}") from None
    try:
        await schema.check(connection)
        found = await conservation(connection, counted=counted)
    except schema.UnknownSchema as error:
        raise fail(str(error)) from None
    finally:
        await connection.close()
    return replace(found, log=await _log(config.kafka))


async def _log(kafka: Kafka) -> dict[Partition, tuple[int, int]]:
    """Where each partition of the requests topic begins and ends, by the broker."""
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import KafkaError

    topic = kafka.requests_topic
    consumer = AIOKafkaConsumer(**kafka.client_options())
    try:
        async with asyncio.timeout(_SECONDS):
            await consumer.start()
            await consumer.topics()
            partitions = [TopicPartition(topic, each) for each in sorted(consumer.partitions_for_topic(topic) or ())]
            begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    except (KafkaError, TimeoutError, OSError) as error:
        raise fail(f"{topic} at {kafka.bootstrap} cannot be reached: {type(error).__name__}") from None
    finally:
        await consumer.stop()
    return {(topic, each.partition): (begins[each], ends[each]) for each in partitions}


async def _counters(urls: list[str]) -> Counted:
    """What the gateways have counted, together."""
    import aiohttp

    texts = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
        for url in urls:
            try:
                async with session.get(url) as answer:
                    answer.raise_for_status()
                    texts.append(await answer.text())
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise fail(f"no metrics at {url}: {type(error).__name__}", WRONG) from None
    return counted(texts)


def counted(texts: list[str]) -> Counted:
    """The counters' side of the sums, from metrics in Prometheus' text format."""
    from prometheus_client.parser import text_string_to_metric_families

    from gateway.ledger.gauges import Counted, ReadOutcome
    from gateway.observability.metrics import NAMESPACE
    from schemas.vocabulary import FINAL_REMINDER_STATES

    total: Counter[tuple[str, str]] = Counter()
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                label = sample.labels.get("outcome") or sample.labels.get("state", "")
                total[sample.name.removeprefix(f"{NAMESPACE}_"), label] += int(sample.value)
    born = "reminders_born_total"
    return Counted(
        read={outcome: total["records_read_total", outcome] for outcome in ReadOutcome},
        born=sum(n for (name, _), n in total.items() if name == born),
        ended=sum(total[name, state] for name in (born, "reminder_moves_total") for state in FINAL_REMINDER_STATES),
    )
