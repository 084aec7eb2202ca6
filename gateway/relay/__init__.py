"""From the outbox to Kafka: what upstream is told."""

from gateway.relay.kafka import KafkaPublisher, Message, start_producer
from gateway.relay.relay import Publisher, Relay

__all__ = ["KafkaPublisher", "Message", "Publisher", "Relay", "start_producer"]
