"""What one process is and has: its mode and roles, its lease, its connections, what it has in hand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from gateway.config import Role
from gateway.observability.metrics import NAMESPACE
from schemas.vocabulary import Mode

BUSY: Final = "busy"
IDLE: Final = "idle"


def show_mode(registry: CollectorRegistry, mode: Mode) -> None:
    """Whom this process may reach: 1 at its mode, 0 at the others."""
    gauge = _gauge(registry, "mode", "1 for the mode this process runs in.", "mode")
    for each in Mode:
        gauge.labels(each).set(each is mode)


def show_roles(registry: CollectorRegistry, roles: Collection[Role]) -> None:
    """What this process does: 1 at each of its roles, 0 at the others."""
    gauge = _gauge(registry, "role", "1 for each role of this process.", "role")
    for each in Role:
        gauge.labels(each).set(each in roles)


class Capacity:
    """Read when somebody asks; 0 until there is something to ask."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lease = _gauge(registry, "worker_lease_seconds", "How long this process's lease still stands.")
        connections = _gauge(registry, "database_connections", "Connections of the pool.", "state")
        self._busy, self._idle = connections.labels(BUSY), connections.labels(IDLE)
        self._most = _gauge(registry, "database_connections_max", "The most the pool may have.")
        self._in_hand = _gauge(registry, "dispatch_in_hand", "Reminders this process has claimed and not yet recorded.")
        self._slots = _gauge(registry, "dispatch_slots", "The most it may have in hand.")

    def watch_lease(self, seconds: Callable[[], float]) -> None:
        self._lease.set_function(seconds)

    def watch_pool(self, most: int, connections: Callable[[], tuple[int, int]]) -> None:
        """`connections` tells how many are busy and idle."""
        self._most.set(most)
        self._busy.set_function(lambda: connections()[0])
        self._idle.set_function(lambda: connections()[1])

    def watch_slots(self, slots: int, in_hand: Callable[[], int]) -> None:
        self._slots.set(slots)
        self._in_hand.set_function(in_hand)


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, namespace=NAMESPACE, registry=registry)
