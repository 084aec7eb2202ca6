"""Pages of a list, at a fixed cost whatever the table holds.

Ids are made in the order of time, so a span of time is a range of ids, and the last id of a page is where the next one
begins.  What has no index is looked for among `LOOKED_AT` rows at most; how far that was is told.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.ids import first_id_at

T = TypeVar("T")

LOOKED_AT: Final = 50_000
_LAST_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Range:
    """Ids from `low` up to and without `high`."""

    low: int = 0
    high: int = _LAST_ID

    @classmethod
    def of(cls, since: dt.datetime | None, until: dt.datetime | None, before: int | None = None) -> Range:
        """The ids made from `since` until before `until`, and smaller than `before`."""
        low = 0 if since is None else first_id_at(int(since.timestamp() * 1000))
        high = _LAST_ID if until is None else first_id_at(int(until.timestamp() * 1000))
        return cls(low, high if before is None else min(high, before))


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """At most `limit` rows.  `looked_to` is the last id that was looked at, where there are more; else None."""

    rows: list[T]
    limit: int
    looked_to: int | None = None

    @property
    def full(self) -> bool:
        """Whether there may be more rows behind the last one."""
        return len(self.rows) >= self.limit
