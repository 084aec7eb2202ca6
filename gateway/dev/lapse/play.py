"""The play: facts are told at their moments, messages are heard, and the clock jumps when everything is quiet.

Quiet is proven, not hoped for: the ledger has read Kafka to its end, holds nothing that is due, claimed, being sent
or unpublished, and every receipt that the simulator still owes sleeps until a later moment; the simulator's log did not
grow while that was looked at.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer

from gateway.dev.borrowers import Letter, Tell, World
from gateway.dev.host import StackError
from gateway.dev.lapse.ears import Ears
from gateway.dev.lapse.stage import Stage
from gateway.dev.simulator.upstream import Letter as Sms
from gateway.ledger import rest
from gateway.ledger.rest import Rest
from schemas.repayments import REPAYMENTS, Fact, Watermark

SOURCE: Final = "/core"
_TYPES: Final = {struct: name for name, struct in REPAYMENTS.items()}
# What falls into the same quarter of an hour happens at its last minute: every hour of a cadence ends with a quarter.
_QUARTER: Final = dt.timedelta(minutes=15)
_MINUTE: Final = dt.timedelta(minutes=1)
_BEAT: Final = dt.timedelta(hours=6)  # between two heartbeats: no fact may be older than a day
_LEAST: Final = dt.timedelta(microseconds=1)
_TICK: Final = dt.timedelta(milliseconds=1)
_EPOCH: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_QUIET_WITHIN: Final = 60.0  # real seconds
_GLANCE: Final = 0.002


class Interrupted(Exception):
    """Somebody has ended it: Ctrl-C and SIGTERM are the gateway's own, which stops in order."""


def jump(to: dt.datetime) -> dt.datetime:
    """Where the clock stops so that what is due at `to` is: at the last minute of its quarter, or just there."""
    return max(to, to - (to - _EPOCH) % _QUARTER + _QUARTER - _MINUTE)


def apart(to: dt.datetime, receipt: dt.datetime | None, timer: dt.datetime | None) -> dt.datetime:
    """Where the clock stops at the latest so that a receipt and a timer do not come to their turn together.

    Which of them is first decides what follows: the one that is told of an opened push, or the one that is patient no
    longer.
    """
    if receipt is None or timer is None or receipt == timer:
        return to
    return min(to, max(receipt, timer) - _LEAST)


class Play:
    """One run, from where the stage's clock stands until `end`."""

    def __init__(self, stage: Stage, world: World, producer: AIOKafkaProducer, end: dt.datetime) -> None:
        self._stage = stage
        self._world = world
        self._producer = producer
        self._end = end
        self._topic = stage.config.kafka.repayments_topic or ""
        self.ears = Ears(stage.simulator, world.people.values())
        self.published: Counter[int] = Counter()  # records of each partition that the broker has acknowledged
        self.told = 0
        self.written = 0
        self.jumps = 0
        self._beats_at = stage.clock.now()

    async def run(self, on_jump: Callable[[dt.datetime], None]) -> None:
        """Raises StackError when it does not come to rest or the gateway breaks, Interrupted when it is to end."""
        clock = self._stage.clock
        now = clock.now()
        while now < self._end:
            at_rest = await self._rest(now)
            if await self._act(now) | await self._beat(now):
                at_rest = await self._rest(now)
            for message in self.ears.listen():
                self._world.notice(message)
            moments = (self._world.next(), self._beats_at, self._stage.pace.next(), at_rest.next)
            following = min((each for each in moments if each is not None), default=self._end)
            to = apart(jump(max(following, now + _TICK)), self._stage.pace.next(), at_rest.timer)
            now = min(to, self._end)
            clock.advance(now - clock.now())
            self.jumps += 1
            on_jump(now)
        await self._rest(now)

    async def _act(self, now: dt.datetime) -> bool:
        """Whether anybody does anything.  Of one borrower one thing is told at a time, however many there are.

        What leaves at a moment has left when something is told at it: so the same play is the same each time.
        """
        deeds, acknowledged = self._world.take(now), []
        for deed in deeds:
            if isinstance(deed, Letter):
                self._write(deed)
            else:
                acknowledged.append(await self._send(deed, now))
        for each in acknowledged:
            record = await each
            self.published[record.partition] = record.offset + 1
        return bool(deeds)

    async def _send(self, deed: Tell, now: dt.datetime) -> asyncio.Future[Any]:
        self.told += 1
        value = event(f"fact-{self.told}", deed.fact, now)
        stamp = int(now.timestamp() * 1000)
        sent: asyncio.Future[Any] = await self._producer.send(
            self._topic, value, key=deed.borrower.encode(), timestamp_ms=stamp
        )
        return sent

    async def _beat(self, now: dt.datetime) -> bool:
        """A heartbeat to every partition: what the core has known until now, it has told."""
        if now < self._beats_at:
            return False
        self._beats_at = now + _BEAT
        for partition in await self._producer.partitions_for(self._topic):
            value = event(f"beat-{now:%m%d%H%M}-{partition}", Watermark(as_of=now), now)
            record = await self._producer.send_and_wait(self._topic, value, partition=partition)
            self.published[record.partition] = record.offset + 1
        return True

    def _write(self, deed: Letter) -> None:
        self.written += 1
        settings = self._stage.config.providers["twilio"].settings
        self._stage.simulator.write_back(
            Sms(vendor="twilio", number=deed.number, content=deed.text, dest_code=str(getattr(settings, "sender", "")))
        )

    async def _rest(self, now: dt.datetime) -> Rest:
        """Waits until nothing is left to be done at `now`."""
        until = time.monotonic() + _QUIET_WITHIN
        simulator, pace = self._stage.simulator, self._stage.pace
        while True:
            if self._stage.running.done():
                raise StackError("the gateway has ended") if self._stage.running.result() else Interrupted
            size = simulator.journal.path.stat().st_size
            owed = simulator.pending_receipts - pace.asleep
            if owed == 0:
                found = await rest.read(self._stage.ledger, self._topic)
                under_way = found.under_way(now, self.published)
                owed = simulator.pending_receipts - pace.asleep
                if not under_way and owed == 0 and simulator.journal.path.stat().st_size == size:
                    return found
            else:
                under_way = {"receipts": owed}
            if time.monotonic() > until:
                raise StackError(f"it does not come to rest at {now:%Y-%m-%d %H:%M}: {under_way}")
            await asyncio.sleep(_GLANCE)


def event(identifier: str, fact: Fact | Watermark, now: dt.datetime) -> bytes:
    """The CloudEvent of a fact that is told at `now`."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": identifier,
            "source": SOURCE,
            "type": _TYPES[type(fact)],
            "time": now.isoformat(),
            "data": {name: value for name, value in msgspec.to_builtins(fact).items() if value is not None},
        }
    ).encode()
