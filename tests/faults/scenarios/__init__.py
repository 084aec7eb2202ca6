"""Stories that take minutes when they are told in full: each asserts from outside what must have happened.

`tests/faults/test_scenarios.py` tells each in short; `python -m tests.faults.scenarios NAME` tells it in full.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.scenarios import (
    blocked,
    brokers,
    full_disk,
    kafka_link,
    lost_commits,
    outage,
    pooler,
    refused,
    standby,
    storm,
)
from tests.faults.scenarios.ground import Ground

__all__ = ["SCENARIOS", "Ground", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """`tell(ground, seconds)` disturbs for so long, heals, has the judge look, and returns what was counted.

    `missing()` says what this machine lacks for it, None when nothing.
    """

    tell: Callable[[Ground, float], Awaitable[Mapping[str, Any]]]
    full: float
    short: float
    missing: Callable[[], str | None] = lambda: None


SCENARIOS: Final[Mapping[str, Scenario]] = {
    # The longest first: they are told side by side.
    "kafka-link": Scenario(kafka_link.tell, full=120, short=12),
    "provider-outage": Scenario(outage.tell, full=600, short=16),
    "rebalance-storm": Scenario(storm.tell, full=300, short=16),
    "no-brokers": Scenario(brokers.tell, full=600, short=30),
    "blocked-loop": Scenario(blocked.tell, full=15, short=11),
    "standby": Scenario(standby.tell, full=330, short=5),
    "events-refused": Scenario(refused.tell, full=60, short=10),
    "lost-commits": Scenario(lost_commits.tell, full=30, short=0),
    "full-disk": Scenario(full_disk.tell, 60, 3, full_disk.missing),
    "pgbouncer": Scenario(pooler.tell, 120, 1, pooler.missing),
}
