"""What is read from Kafka, by its two doors: requests, and the facts that plans are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiokafka import AIOKafkaConsumer

from gateway import parameters
from gateway.composition.ground import Ground, renew_client
from gateway.config import Role
from gateway.dispatch.dispatcher import Dispatcher
from gateway.intake.consumer import Consumer
from gateway.intake.decode import Decoder
from gateway.intake.intake import Intake
from gateway.intake.keeper import Keeper
from gateway.intake.positions import Positions
from gateway.observability.gauges import GaugeRefresher
from gateway.observability.metrics import Door


def requests(
    ground: Ground,
    dispatcher: Dispatcher,
    gauges: GaugeRefresher,
    on_events: Callable[[], None],
    fatal: Callable[[str], None],
) -> Keeper:
    config, topic = ground.config, ground.config.kafka.requests_topic
    fast_path = dispatcher if config.dispatch.fast_path and Role.DISPATCH in config.roles else None
    intake = Intake(
        ground.database,
        ground.worker,
        ground.clock,
        Decoder(lenders=parameters.lender_facts(config), catalogue=ground.catalogue, sealer=ground.sealer),
        topic,
        ground.rules,
        parameters.freeze_rule(config),
        fast_path,
        dispatcher.wake,
        on_events,
        ground.metrics,
        ground.tracer,
    )
    return _keeper(
        ground,
        Door.REQUESTS,
        topic,
        config.kafka.group,
        intake,
        lambda: gauges.due_rows >= config.intake.backlog_limit,
        _any_number if fast_path is None else fast_path.room,
        ground.metrics.paused,
        fatal,
    )


def facts(
    ground: Ground, topic: str, dispatcher: Dispatcher, on_events: Callable[[], None], fatal: Callable[[str], None]
) -> Keeper:
    """They are read however much is due: among them are stops."""
    config = ground.config
    intake = Intake(
        ground.database,
        ground.worker,
        ground.clock,
        parameters.fact_decoder(config, ground.cadences, ground.catalogue, ground.sealer),
        topic,
        ground.rules,
        parameters.freeze_rule(config),
        None,
        dispatcher.wake,
        on_events,
        ground.metrics,
        ground.tracer,
        ground.planner,
    )
    group = f"{config.kafka.group}-repayments"
    return _keeper(
        ground, Door.REPAYMENTS, topic, group, intake, lambda: False, _any_number, lambda paused: None, fatal
    )


def _keeper(
    ground: Ground,
    door: Door,
    topic: str,
    group: str,
    intake: Intake,
    overloaded: Callable[[], bool],
    room: Callable[[], Awaitable[int | None]],
    on_pause: Callable[[bool], None],
    fatal: Callable[[str], None],
) -> Keeper:
    config, metrics = ground.config, ground.metrics
    metrics.reads(door)
    positions = Positions(ground.database, topic, metrics.offset_reset)

    def make_consumer() -> Consumer:
        return Consumer(
            AIOKafkaConsumer(**parameters.consumer_options(ground.in_force.config.kafka, group)),
            topic,
            positions,
            intake.write,
            overloaded,
            room,
            partial(metrics.consumer_lag, door),
            on_pause,
            partial(metrics.assigned, door),
        )

    keeper = Keeper(
        make_consumer,
        ground.database,
        topic,
        metrics,
        fatal,
        config.intake.watchdog_seconds,
        config.kafka.rebalance_timeout_seconds,
        ground.brokers,
    )
    ground.in_force.taken_by(partial(renew_client, keeper.renew))
    return keeper


async def _any_number() -> int | None:
    """Nobody here sends: everything read goes into the queue."""
    return None
