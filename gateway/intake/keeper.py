"""Keeps a Kafka client reading: one that went silent or broke is built anew, and one whose ledger has lost commits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from aiokafka.errors import KafkaConnectionError

from gateway.brokers import Brokers
from gateway.intake.consumer import Consumer
from gateway.ledger import offsets
from gateway.ledger.database import Database
from gateway.observability.logs import get_logger

log = get_logger(__name__)

# A silent client is rebuilt once; a broken one a few times, ever more slowly.
_SILENT_ENOUGH: Final = 1
_FAILED_ENOUGH: Final = 8
_FAILING_SECONDS: Final = 10.0
_LONG_AGO: Final = 10  # in times of the watchdog's patience
# So often the ledger is asked whether it still has what it had committed.
_LOOK_SECONDS: Final = 5.0


class KeeperObserver(Protocol):
    def rebuilt(self) -> None: ...
    def commits_lost(self) -> None: ...


class Keeper:
    """Keeps a consumer running.  `fatal` is called when even a rebuilt client stays silent."""

    def __init__(
        self,
        make_consumer: Callable[[], Consumer],
        database: Database,
        topic: str,
        metrics: KeeperObserver,
        fatal: Callable[[str], None],
        watchdog_seconds: float,
        rebalance_seconds: float,
        brokers: Brokers | None = None,
    ) -> None:
        self._make_consumer = make_consumer
        self._database = database
        self._topic = topic
        self._metrics = metrics
        self._fatal = fatal
        self._watchdog_seconds = watchdog_seconds
        self._silent_after = watchdog_seconds + rebalance_seconds
        self._brokers = brokers
        self._consumer: Consumer | None = None
        self._loop: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self._renewing = asyncio.Event()

    async def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="intake")
        self._keeper.add_done_callback(self._kept)

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        """Nobody else would notice: a keeper that ends by itself takes the process with it."""
        if self._stopping or (not keeper.cancelled() and keeper.exception() is None):
            return
        log.error("intake_ended", exc_info=None if keeper.cancelled() else keeper.exception())
        self._fatal("intake_ended")

    async def stop(self, seconds: float) -> None:
        """Finishes the batch in hand if it can in time."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._end(seconds)

    def renew(self) -> None:
        """Goes on with a client made anew: a living one logs in with what it was made with.  Safe to call again."""
        self._renewing.set()

    def trouble(self) -> str | None:
        """What keeps records from being read, None when nothing does; to have no partition is no trouble."""
        consumer, now = self._consumer, time.monotonic()
        if consumer is None or self._loop is None:
            return self._unreached() or "no_consumer"
        progress = consumer.progress
        if now - progress.polled_at > self._watchdog_seconds:
            return "silent"
        if progress.failing_since is not None and now - progress.failing_since > _FAILING_SECONDS:
            return "not_writing"
        if progress.unanswered_since is not None and now - progress.unanswered_since > _FAILING_SECONDS:
            return self._unreached() or "unanswered"
        return None

    def _unreached(self) -> str | None:
        """Has the brokers looked at; what was seen the last time."""
        if self._brokers is None:
            return None
        self._brokers.trouble()
        return self._brokers.why

    async def _keep(self) -> None:
        """Runs a consumer; rebuilds one that is silent or broken, and gives the process up when that does not help.

        A broker that is away is waited for: receipts and what is due do not need it, and a restart would not bring it
        back.
        """
        silent = failed = away = 0
        while True:
            began = time.monotonic()
            why = await self._run_one()
            progress = None if self._consumer is None else self._consumer.progress
            worked = progress is not None and progress.written_at is not None
            # What went wrong long ago, or was mended since, is not held against it.
            if worked or time.monotonic() - began > _LONG_AGO * self._watchdog_seconds:
                silent = failed = away = 0
            await self._end(5.0)
            if why in ("renewed", "commits_lost"):
                log.info("consumer_renewed", why=why)
                continue
            silent += why == "silent"
            failed += why == "failed"
            away += why == "unreachable"
            if silent > _SILENT_ENOUGH or failed > _FAILED_ENOUGH:
                self._fatal(f"consumer_{why}")
                return
            self._metrics.rebuilt()
            log.error("consumer_rebuilt", why=why)
            self._unreached()
            with contextlib.suppress(TimeoutError):  # another login is tried at once
                await asyncio.wait_for(self._renewing.wait(), min(0.5 * 2 ** min(failed + away, 5), 15.0))

    async def _run_one(self) -> str:
        """Why it came to its end."""
        try:
            async with asyncio.timeout(self._silent_after):
                await self._begin()
            return await self._watch()
        except TimeoutError:
            # A link on which even connecting hangs: there is no client yet that could be silent.
            reached = self._consumer is not None and self._consumer.reached
            return "silent" if reached else "unreachable"
        except (KafkaConnectionError, ConnectionError) as error:
            log.warning("kafka_unreachable", exc_info=error)
            return "unreachable"
        except Exception as error:
            log.warning("consumer_failed", exc_info=error)
            return "failed"

    async def _begin(self) -> None:
        self._renewing.clear()
        self._consumer = self._make_consumer()
        await self._consumer.start()
        self._loop = asyncio.create_task(self._consumer.run(), name="consume")

    async def _watch(self) -> str:
        consumer, loop = self._consumer, self._loop
        assert consumer is not None
        assert loop is not None
        looked_at = time.monotonic()
        while True:
            await asyncio.wait([loop], timeout=min(1.0, self._watchdog_seconds / 4))
            if loop.done():
                loop.result()
                return "ended"
            if self._renewing.is_set():
                return "renewed"
            progress, now = consumer.progress, time.monotonic()
            if now - looked_at > _LOOK_SECONDS:
                looked_at = now
                if await self._commits_lost():
                    return "commits_lost"
            # A rebalance holds a round up for as long as it may take.
            stuck = now - progress.polled_at > self._silent_after
            silent = progress.behind and now - progress.heard_at > self._watchdog_seconds
            if stuck or silent:
                return "silent"
            asked_since = progress.unanswered_since
            if asked_since is not None and now - asked_since > _FAILING_SECONDS:
                self._unreached()
            if asked_since is not None and now - asked_since > _LONG_AGO * self._watchdog_seconds:
                return "unreachable"  # that is for the broker to mend, but perhaps not with this client

    def _known(self) -> Mapping[int, int]:
        return {} if self._consumer is None else self._consumer.known

    async def _commits_lost(self) -> bool:
        """Whether the ledger has forgotten what it had committed, as after a failover to a standby that lagged.

        What it has forgotten is read again, as it would be by any other process, and what of it had been sent is sent
        again: nobody here can know.  Somebody has to hear of it.
        """
        before = self._known()
        if not before:
            return False
        try:
            async with self._database.connection() as connection:
                stored = await offsets.read(connection, self._topic, list(before))
        except Exception:  # a ledger that is away is not this one's to tell
            return False
        # Not what was given away meanwhile, or found to stand elsewhere: a log may begin anew.
        still = self._known()
        lost = offsets.lost(stored, {each: n for each, n in before.items() if still.get(each, -1) >= n})
        if lost:
            self._metrics.commits_lost()
            log.error("commits_lost", records=lost)
        return lost > 0

    async def _end(self, seconds: float) -> None:
        consumer, loop = self._consumer, self._loop
        self._consumer = self._loop = None
        if consumer is None:
            return
        consumer.ask_to_stop()
        if loop is not None:
            await asyncio.wait([loop], timeout=seconds)
            if not loop.done():
                loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        await consumer.stop(min(seconds, 5.0))
