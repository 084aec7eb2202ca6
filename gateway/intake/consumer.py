"""The Kafka side of intake: poll, decode, write, remember.

The truth about progress is `intake_offset`, moved in the transaction that wrote the records.  The group's committed
offsets are only for lag tools.  aiokafka's traps are avoided here: `getmany` is never cancelled while running, polling
never stops, not even under back-pressure or without partitions, nothing essential happens in the rebalance listener,
whose exceptions are swallowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from gateway.crashpoints import CrashPoint, reached
from gateway.intake import lenient
from gateway.intake.decode import Record
from gateway.intake.positions import Positions
from gateway.observability.logs import get_logger

log = get_logger(__name__)

_BACKOFF_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
_LAG_EVERY_SECONDS: Final = 2.0
_ASK_SECONDS: Final = 5.0
_PLACE_SECONDS: Final = 0.5
# Under back-pressure a little is read all the same: among it may be a stop.
_SIP_SECONDS: Final = 2.0
_SIP_RECORDS: Final = 100


@dataclass(slots=True)
class Progress:
    """What the watchdog looks at; monotonic seconds.

    `polled_at` is the end of the last round, `heard_at` when records last came from Kafka, or none were missing by the
    broker's own word; what the ledger then made of them is not the client's fault.  `written_at` is the last batch;
    since `failing_since` none could be written, or no position found; since `unanswered_since` the broker has not said
    where the log ends, so that nobody can know whether anything is missing.
    """

    polled_at: float = field(default_factory=time.monotonic)
    heard_at: float = field(default_factory=time.monotonic)
    written_at: float | None = None
    failing_since: float | None = None
    unanswered_since: float | None = None
    behind: bool = False


# The records, the next offsets, and those that the ledger is known to have.
Write = Callable[[Sequence[Record], Mapping[int, int], Mapping[int, int]], Awaitable[None]]


class Consumer:
    """One aiokafka client and its loop.  `run` returns when asked to stop and raises when the client is broken."""

    def __init__(
        self,
        client: AIOKafkaConsumer,
        topic: str,
        positions: Positions,
        write: Write,
        overloaded: Callable[[], bool],
        room: Callable[[], Awaitable[int | None]],
        on_lag: Callable[[int, int, float], None],
        on_pause: Callable[[bool], None],
        on_assigned: Callable[[Iterable[int]], None],
    ) -> None:
        self._on_assigned = on_assigned
        self._client = client
        self._topic = topic
        self._positions = positions
        self._write = write
        self._overloaded = overloaded
        self._room = room
        self._on_lag = on_lag
        self._on_pause = on_pause
        # Partitions whose place was found, and the next offset of each that the ledger is known to have.
        self._standing: dict[TopicPartition, int] = {}
        self._paused = False
        self._sipped_at = 0.0
        self._failures = 0
        self._stopping = False
        self._lag_at = 0.0
        self._read_until: dict[TopicPartition, int] = {}  # timestamp (ms) of the newest record written
        self._uncommitted: dict[TopicPartition, int] = {}
        self._committed_at = self._began_at = time.monotonic()
        self.progress = Progress()

    async def start(self) -> None:
        self._client.subscribe([self._topic], listener=_Listener(self._revoked))
        await self._client.start()

    async def stop(self, seconds: float = 5.0) -> None:
        """Leaves the group if it can in time; being killed instead is just as safe."""
        self._stopping = True
        # In a task of its own: what the client cancels in itself while it stops is no cancellation of ours.
        stopping = asyncio.ensure_future(self._client.stop())
        await asyncio.wait([stopping], timeout=seconds)
        if not stopping.done():
            stopping.cancel()
            await asyncio.wait([stopping], timeout=1.0)
        if stopping.done() and not stopping.cancelled() and (error := stopping.exception()) is not None:
            log.info("client_not_stopped", exc_info=error)

    def ask_to_stop(self) -> None:
        self._stopping = True

    @property
    def reached(self) -> bool:
        """Whether any broker has ever answered this client."""
        return bool(self._client._client.cluster.brokers())

    @property
    def known(self) -> dict[int, int]:
        """Of each partition that is ours, the next offset that the ledger has told us or has committed."""
        return {each.partition: offset for each, offset in self._standing.items()}

    @property
    def assigned(self) -> frozenset[int]:
        return frozenset(each.partition for each in self._client.assignment())

    async def run(self) -> None:
        while not self._stopping:
            try:
                await self._round()
            except (NoOffsetForPartitionError, OffsetOutOfRangeError):
                # The log was cut under us: find the place again and say what was lost.
                self._standing.clear()
            self.progress.polled_at = time.monotonic()
        await self._tell_group(force=True)

    async def _round(self) -> None:
        if not await self._position():
            await asyncio.sleep(_BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)])
        most = self._pressure()
        try:
            fetched = await self._client.getmany(timeout_ms=200, max_records=most or await self._room())
        except UnicodeDecodeError as error:
            if not lenient.install():
                raise
            log.warning("header_names_unreadable", exc_info=error)
            self._standing.clear()  # the client has dropped what it had in hand
            return
        batch = {tp: records for tp, records in fetched.items() if tp in self._standing and records}
        if batch:
            await self._take(batch)
        await self._lag()
        await self._tell_group()

    async def _position(self) -> bool:
        """Seeks newly assigned partitions to their stored offsets; False when that could not be done yet."""
        missing = self._client.assignment() - self._standing.keys()
        if not missing:
            return True
        try:
            starts = await self._positions.of(self._client, missing)
        except Exception as error:
            self._failed()
            log.warning("positioning_failed", n=len(missing), exc_info=error)
            return False
        for partition, offset in starts.items():
            if partition in self._client.assignment():
                self._client.seek(partition, offset)
                self._standing[partition] = offset
        self._on_assigned(each.partition for each in self._standing)
        self._went_well()
        self.progress.heard_at = time.monotonic()
        return True

    def _failed(self) -> None:
        self._failures += 1
        self.progress.failing_since = self.progress.failing_since or time.monotonic()

    def _went_well(self) -> None:
        self._failures = 0
        self.progress.failing_since = None

    def _pressure(self) -> int | None:
        """Pauses fetching while the ledger has enough to do; polling goes on, so the group keeps us.

        How many records may be read now, where that is not for the dispatcher to say.
        """
        wanted = self._overloaded()
        assignment = self._client.assignment()
        sip = wanted and time.monotonic() - self._sipped_at > _SIP_SECONDS
        if sip:
            self._sipped_at = time.monotonic()
        if wanted and not sip:
            running = assignment - self._client.paused()
            if running:
                self._client.pause(*running)
        elif self._client.paused():
            self._client.resume(*self._client.paused())
        if wanted != self._paused:
            self._paused = wanted
            self._on_pause(wanted)
            log.info("intake_paused" if wanted else "intake_resumed")
        return _SIP_RECORDS if wanted else None

    async def _take(self, batch: Mapping[TopicPartition, Sequence[Any]]) -> None:
        reached(CrashPoint.AFTER_FETCH)
        self.progress.heard_at = time.monotonic()
        records = [_record(each) for taken in batch.values() for each in taken]
        following = {tp.partition: taken[-1].offset + 1 for tp, taken in batch.items()}
        try:
            await self._write(records, following, self.known)
        except Exception as error:
            # Nothing was written, or it was and the keys make it harmless: read the same records again.
            for tp, taken in batch.items():
                if tp in self._client.assignment():
                    self._client.seek(tp, taken[0].offset)
            wait = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)]
            self._failed()
            log.warning("batch_failed", n=len(records), wait=wait, exc_info=error)
            await asyncio.sleep(wait)
            return
        reached(CrashPoint.AFTER_INTAKE)
        self._went_well()
        self.progress.written_at = time.monotonic()
        self._read_until.update({tp: taken[-1].timestamp for tp, taken in batch.items()})
        reached_to = {tp: taken[-1].offset + 1 for tp, taken in batch.items()}
        self._uncommitted.update(reached_to)
        self._standing.update({tp: offset for tp, offset in reached_to.items() if tp in self._standing})

    async def _lag(self) -> None:
        """How far behind the broker's own end we are.  The client's idea of it stands still when the client does."""
        now = time.monotonic()
        if now - self._lag_at < _LAG_EVERY_SECONDS:
            return
        self._lag_at = now
        mine = self._client.assignment() & self._standing.keys()
        ends = await self._ends(mine)
        if ends is None:
            self.progress.behind = False  # nobody knows: to wait for a broker is no silence of the client
            self.progress.unanswered_since = self.progress.unanswered_since or now
            return
        self.progress.unanswered_since = None
        behind = False
        for partition, end in ends.items():
            if partition not in self._client.assignment():
                continue  # taken from us meanwhile
            try:
                position = await asyncio.wait_for(self._client.position(partition), _PLACE_SECONDS)
            except TimeoutError:
                # It was given to us anew while we asked.  The client waits for its place, which is ours to find, in the
                # next round; and it does not join the group again while nobody polls.
                return
            records = max(end - position, 0)
            behind = behind or records > 0
            self._on_lag(partition.partition, records, self._age(partition) if records else 0.0)
        self.progress.behind = behind and not self._paused
        if not self.progress.behind:
            self.progress.heard_at = now

    async def _ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int] | None:
        """The broker's ends; None when it does not say, which is no news about the client."""
        if not partitions:
            return {}
        try:
            ends: dict[TopicPartition, int] = await asyncio.wait_for(
                self._client.end_offsets(list(partitions)), _ASK_SECONDS
            )
        except (KafkaError, TimeoutError):
            return None
        return ends

    def _age(self, partition: TopicPartition) -> float:
        """Seconds since the newest record read was made; before the first, since we began."""
        stamp = self._read_until.get(partition)
        if stamp is None:
            return time.monotonic() - self._began_at
        return max(time.time() - stamp / 1000, 0.0)

    async def _tell_group(self, force: bool = False) -> None:
        """Offsets for lag tools, at most once a second.  A rebalance in between makes it fail, harmlessly."""
        due = force or time.monotonic() - self._committed_at > 1.0
        if not due or not self._uncommitted:
            return
        mine = {tp: offset for tp, offset in self._uncommitted.items() if tp in self._client.assignment()}
        self._uncommitted.clear()
        self._committed_at = time.monotonic()
        if mine:
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(self._client.commit(mine), 5.0)

    def _revoked(self, revoked: Iterable[TopicPartition]) -> None:
        gone = list(revoked)
        for each in gone:
            self._standing.pop(each, None)
        self._positions.forget(gone)
        self._on_assigned(each.partition for each in self._standing)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Forgets positions.  The eager protocol revokes everything at every rebalance."""

    def __init__(self, on_revoked: Callable[[Iterable[TopicPartition]], None]) -> None:
        self._on_revoked = on_revoked

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._on_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._on_revoked(assigned)


def _record(raw: Any) -> Record:
    return Record(raw.topic, raw.partition, raw.offset, raw.key, raw.value, raw.headers, raw.timestamp)
