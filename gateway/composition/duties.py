"""What is done without being asked: events are published, and what nobody has in hand any more is found."""

from __future__ import annotations

from functools import partial

from gateway import parameters
from gateway.composition.ground import Ground, renew_client
from gateway.config import Role
from gateway.dispatch.dispatcher import Dispatcher
from gateway.recovery import Recovery
from gateway.relay import KafkaPublisher, Relay, start_producer
from schemas.messages import CONTACTS, DEADLETTERS_TOPIC, EVENTS_TOPIC


def publisher(ground: Ground) -> KafkaPublisher:
    made = KafkaPublisher(lambda: start_producer(parameters.producer_options(ground.in_force.config.kafka)))
    ground.in_force.taken_by(partial(renew_client, made.renew))
    return made


def relay(ground: Ground, publisher: KafkaPublisher) -> Relay:
    kafka = ground.config.kafka
    topics = {
        EVENTS_TOPIC: kafka.events_topic,
        CONTACTS: kafka.events_topic,
        DEADLETTERS_TOPIC: kafka.deadletters_topic,
    }
    return Relay(
        ground.database,
        ground.worker,
        publisher,
        topics,
        ground.metrics,
        ground.clock.now,
        parameters.relay_alive_for(ground.config),
        tracer=ground.tracer,
        brokers=ground.brokers,
    )


def recovery(ground: Ground, dispatcher: Dispatcher) -> Recovery:
    return Recovery(
        ground.database,
        ground.worker,
        ground.clock,
        ground.rules,
        lambda: dispatcher.in_hand,
        ground.metrics,
        dispatcher.wake,
        ground.planner,
        sends=Role.DISPATCH in ground.config.roles,
    )
