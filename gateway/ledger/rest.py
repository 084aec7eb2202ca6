"""Whether everything stands still, and until when: for who turns the clock by hand.  Not for a busy ledger."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from gateway.ledger.database import Connection

# One statement, so of one moment.
_REST: Final = """
select (select min(due_at) from due), (select min(at) from timer), (select min(sweep_at) from parked),
       (select count(*) from claim), (select count(*) from live where state = 'sending'),
       (select count(*) from outbox),
       (select array_agg(array[partition, next]) from intake_offset where topic = $1)
"""


class Rest(Struct, frozen=True):
    """One moment of the ledger.  `due`, `timer` and `parked` are when the first of each comes to its turn."""

    due: dt.datetime | None
    timer: dt.datetime | None
    parked: dt.datetime | None
    claimed: int
    sending: int
    outbox: int
    read: Mapping[int, int]  # of each partition, the next offset to be read

    @property
    def next(self) -> dt.datetime | None:
        """When something happens without anybody doing anything."""
        return min((each for each in (self.due, self.timer, self.parked) if each is not None), default=None)

    def under_way(self, now: dt.datetime, published: Mapping[int, int]) -> dict[str, int]:
        """What is not finished at business time `now`, by name; `published` are records of each partition."""
        ripe = {"due": self.due, "timers": self.timer, "receipts parked": self.parked}
        found = {name: int(each is not None and each <= now) for name, each in ripe.items()}
        found |= {"claimed": self.claimed, "sending": self.sending, "outbox": self.outbox}
        found["records not read"] = sum(max(n - self.read.get(each, 0), 0) for each, n in published.items())
        return {name: n for name, n in found.items() if n}


async def read(connection: Connection, topic: str) -> Rest:
    """Everything at one moment; `topic` is the one that is read."""
    row = await connection.fetchrow(_REST, topic)
    assert row is not None
    due, timer, parked, claimed, sending, outbox, offsets = row
    return Rest(due, timer, parked, claimed, sending, outbox, dict(offsets or ()))
