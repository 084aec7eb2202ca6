"""The secrets in force, for who watches: since when, whether the last look failed, which sealing keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from gateway.config import Config
from gateway.observability.counts import Counts
from gateway.observability.logs import get_logger
from gateway.observability.metrics import NAMESPACE

log = get_logger(__name__)

_SAY_EVERY_SECONDS: Final = 60.0


class Reloads:
    """What a reload and a sealer tell.  No label and no value is made of a secret; a key's id is none."""

    def __init__(self, registry: CollectorRegistry, monotonic: Callable[[], float] = time.monotonic) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, namespace=NAMESPACE, registry=registry)

        self._failed = gauge("secrets_reload_failed", "1 while the last look at the secrets did not validate.")
        self._at = gauge("secrets_reloaded_timestamp_seconds", "When the secrets in force were last found good.")
        self._unapplied = gauge("config_unapplied_keys", "Changed keys of the configuration that wait for a restart.")
        self._current = gauge("sealing_key_current", "The id of the key that seals.")
        self._known = gauge("sealing_keys_known", "How many keys open what was sealed.")
        self._reloads = Counts(
            registry,
            f"{NAMESPACE}_secrets_reloads",
            "Looks at new or broken secrets.",
            ("outcome",),
            (("good",), ("failed",)),
        )
        self._unknown = Counts(
            registry, f"{NAMESPACE}_sealing_key_unknown", "Reminders put off because of a key that is not here (yet)."
        )
        self._monotonic = monotonic
        self._said_at: float | None = None

    def started(self, config: Config, at: float) -> None:
        """What a start has read is in force."""
        self._at.set(at)
        self._current.set(config.sealing.current)
        self._known.set(len(config.sealing.keys))

    def reloaded(self, config: Config, at: float) -> None:
        self.started(config, at)
        self._failed.set(0)
        self._reloads[("good",)] += 1

    def reload_failed(self) -> None:
        self._failed.set(1)
        self._reloads[("failed",)] += 1

    def unapplied(self, n: int) -> None:
        self._unapplied.set(n)

    def key_unknown(self, key_id: int | None) -> None:
        """Counted each time, and said once a minute."""
        self._unknown[()] += 1
        now = self._monotonic()
        if self._said_at is None or now - self._said_at >= _SAY_EVERY_SECONDS:
            self._said_at = now
            log.error("sealing_key_unknown", key=key_id)
