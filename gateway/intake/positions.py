"""Where to read on: the stored offset if the log still has it, else the log start, loudly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiokafka import TopicPartition

from gateway.ledger import offsets
from gateway.ledger.database import Database
from gateway.observability.logs import get_logger

log = get_logger(__name__)

# A broker that has just come back may name an end before the records it still has.  To believe it at once would be to
# read the whole log again.
_PATIENCE_SECONDS: Final = 3.0


class Positions:
    """Start offsets of assigned partitions.  `on_reset(lost)` hears of every reset; `lost` means records are gone."""

    def __init__(self, database: Database, topic: str, on_reset: Callable[[bool], None]) -> None:
        self._database = database
        self._topic = topic
        self._on_reset = on_reset
        self._beyond: dict[TopicPartition, float] = {}

    async def of(self, client: Any, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset to seek to, for each partition that has one; its row exists afterwards.

        A partition whose log seems to end before the stored offset is left out until that has been so for a while.
        """
        wanted = list(partitions)
        begins = await client.beginning_offsets(wanted)
        ends = await client.end_offsets(wanted)
        starts: dict[TopicPartition, int] = {}
        async with self._database.connection() as connection:
            stored = await offsets.read(connection, self._topic, [each.partition for each in wanted])
            for each in wanted:
                found = stored.get(each.partition)
                begin, end = begins[each], ends[each]
                if found is not None and begin <= found <= end:
                    self._beyond.pop(each, None)
                    starts[each] = found
                    continue
                if found is not None and found > end and self._too_soon(each):
                    continue
                await offsets.reset(connection, self._topic, each.partition, begin, found)
                starts[each] = begin
                self._tell(each.partition, found, begin)
        return starts

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """They are no longer ours: should they come back, their logs are looked at with new patience."""
        for each in partitions:
            self._beyond.pop(each, None)

    def _too_soon(self, partition: TopicPartition) -> bool:
        """Whether the log has not yet ended before our offset for long enough; forgets the partition when it has."""
        now = time.monotonic()
        if now - self._beyond.setdefault(partition, now) < _PATIENCE_SECONDS:
            return True
        del self._beyond[partition]
        return False

    def _tell(self, partition: int, found: int | None, begin: int) -> None:
        lost = found is not None and found < begin
        if found is None and begin == 0:
            log.info("offset_first", partition=partition, offset=begin)
            return
        self._on_reset(lost)
        log.error("records_lost" if lost else "offset_reset", partition=partition, stored=found, offset=begin)
