"""Gauges of the whole ledger, read now and then.  All processes show the same: take their max, never their sum."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from gateway.clock import Clock
from gateway.ledger import gauges
from gateway.ledger.database import Database
from gateway.ledger.freezes import FreezeKind
from gateway.ledger.gauges import CAP, Reading, ReadOutcome
from gateway.observability.counts import Counts
from gateway.observability.metrics import NAMESPACE
from schemas.vocabulary import Lane

_CAPPED: Final = f"{CAP} means that many or more."
_READERS: Final = 8  # so many processes read at the full pace,
_SLOWEST: Final = 4.0  # and more of them more slowly, up to so many times


class GaugeRefresher:
    """Reads the gauges every `interval` seconds in one connection; where more than eight processes do, less often.

    A reading that fails or takes longer than `within` seconds is counted and leaves the old values standing; how old
    they are is a gauge too.  It never ends by itself and never fails: run it as a task and cancel it.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        database: Database,
        clock: Clock,
        *,
        interval: float = 5.0,
        within: float = 5.0,
    ) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace=NAMESPACE, registry=registry)

        self._database = database
        self._clock = clock
        self._interval = interval
        self._within = within
        depth = gauge("queue_depth", f"Rows due now. {_CAPPED}", "lane")
        oldest = gauge("queue_oldest_age_seconds", "How long the oldest due row has been due.", "lane")
        self._due = {lane: (depth.labels(lane), oldest.labels(lane)) for lane in Lane}
        self._claims = gauge("claims", f"Reminders in the hands of workers. {_CAPPED}")
        self._unknown = gauge("unknown_reminders", f"Reminders that wait on an unknown outcome. {_CAPPED}")
        self._unknown_age = gauge("unknown_oldest_age_seconds", "How long the oldest of them has waited.")
        self._outbox = gauge("outbox_rows", f"Events not published yet. {_CAPPED}")
        self._outbox_age = gauge("outbox_oldest_age_seconds", "How long the oldest of them has waited.")
        frozen = gauge("frozen_slices", "Freezes in force.", "kind")
        self._frozen = {kind: frozen.labels(kind) for kind in FreezeKind}
        self._frozen_reminders = gauge(
            "frozen_reminders", f"Reminders that a freeze holds, or has held until their turn comes. {_CAPPED}"
        )
        self._parked = gauge("parked_receipts", f"Receipts kept and not applied yet. {_CAPPED}")
        self._parked_age = gauge("parked_overdue_seconds", "How overdue the first of them is.")
        self._held = gauge("held_borrowers", f"Borrowers held by a stop that could not be read. {_CAPPED}")
        self._stale = gauge("stale_reminders", f"Reminders held until their facts are fresh again. {_CAPPED}")
        self._silence = gauge(
            "facts_silence_seconds", "The age of the oldest watermark of a source of facts that sends heartbeats."
        )
        self._passed = gauge("ledger_records_passed", "Records read, by the offsets in the ledger.")
        records = gauge("ledger_records", "Records read, by what became of them, as the ledger has it.", "outcome")
        self._records = {outcome: records.labels(outcome) for outcome in ReadOutcome}
        self._workers = gauge("workers", "Processes whose lease stands, by the ledger.")
        self._unowned = gauge("relay_shards_unowned", "Shards of the outbox whose events nobody publishes, of 16.")
        self._errors = Counts(registry, f"{NAMESPACE}_ledger_reading_errors", "Readings that failed.")
        self.due_rows = 0  # over all lanes, capped like the gauge
        self.pause = interval  # seconds until the next reading
        self._read_at = time.monotonic()
        age = gauge("gauges_age_seconds", "How long ago the gauges of the ledger were read.")
        age.set_function(lambda: time.monotonic() - self._read_at)

    async def run(self) -> None:
        """Refreshes until it is cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self.pause)

    async def refresh(self) -> bool:
        """One reading; False when it failed."""
        try:
            async with asyncio.timeout(self._within), self._database.connection() as connection:
                reading = await gauges.read(connection, self._clock.now())
        except Exception:
            # Why is for the database's own log and the components that need it; here a number must do.
            self._errors[()] += 1
            return False
        self._show(reading)
        self._read_at = time.monotonic()
        return True

    def _show(self, reading: Reading) -> None:
        self.due_rows = sum(each.rows for each in reading.due.values())
        # All show the same, so that many need not each ask as often as few.
        self.pause = self._interval * min(max(reading.workers / _READERS, 1.0), _SLOWEST)
        for lane, (depth, age) in self._due.items():
            depth.set(reading.due[lane].rows)
            age.set(reading.due[lane].age)
        self._claims.set(reading.claims)
        self._unknown.set(reading.unknown.rows)
        self._unknown_age.set(reading.unknown.age)
        self._outbox.set(reading.outbox.rows)
        self._outbox_age.set(reading.outbox.age)
        self._parked.set(reading.parked.rows)
        self._parked_age.set(reading.parked.age)
        self._held.set(reading.held_borrowers)
        self._frozen_reminders.set(reading.frozen_reminders)
        self._stale.set(reading.stale_reminders)
        self._silence.set(reading.silence)
        self._passed.set(reading.passed)
        self._workers.set(reading.workers)
        self._unowned.set(reading.unowned_shards)
        for outcome, of_outcome in self._records.items():
            of_outcome.set(reading.outcomes.get(outcome, 0))
        for kind, child in self._frozen.items():
            child.set(reading.frozen.get(kind, 0))
