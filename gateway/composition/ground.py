"""What most components stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.allowlist import Allowlist
from gateway.brokers import Brokers
from gateway.cadence.loading import Cadences
from gateway.clock import ProcessClock
from gateway.config import Config
from gateway.content import Catalogue
from gateway.inforce import InForce
from gateway.intake.planner import Planner
from gateway.ledger.database import Database
from gateway.ledger.standing import Rules
from gateway.observability.metrics import Metrics
from gateway.sealing import Sealer
from gateway.tracing import Tracer
from gateway.worker import Worker


@dataclass(frozen=True, slots=True)
class Ground:
    """It is there before any of them, and goes after all of them."""

    config: Config  # what counts from the start; what rotates is asked for in `in_force`
    in_force: InForce
    metrics: Metrics
    brokers: Brokers
    tracer: Tracer | None
    database: Database
    clock: ProcessClock
    worker: Worker
    sealer: Sealer
    allowlist: Allowlist | None
    rules: Rules
    cadences: Cadences
    planner: Planner | None  # where facts are read
    catalogue: Catalogue


def renew_client(renew: Callable[[], None], was: Config | None, now: Config) -> None:
    """aiokafka's clients keep the password and the certificates they were made with."""
    if was is None or now.kafka.security != was.kafka.security:
        renew()
