"""Stories that take minutes when they are told in full: each asserts from outside what must have happened.

`python -m tests.faults.scenarios NAME` tells one in full; `tests/faults/test_scenarios.py` tells in short those that a
run of all the tests has the time for, or `STORIES="NAME NAME"`.
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

    `missing()` says what this machine lacks for it, None when nothing.  `in_test`: what is short and needs little of
    the machine is told in every run of the tests.
    """

    tell: Callable[[Ground, float], Awaitable[Mapping[str, Any]]]
    full: float
    short: float
    missing: Callable[[], str | None] = lambda: None
    in_test: bool = False


SCENARIOS: Final[Mapping[str, Scenario]] = {
    # The longest first: they are told side by side.
    "kafka-link": Scenario(kafka_link.tell, full=120, short=12),
    "provider-outage": Scenario(outage.tell, full=600, short=16),
    "rebalance-storm": Scenario(storm.tell, full=300, short=16),
    "no-brokers": Scenario(brokers.tell, full=600, short=30),
    "blocked-loop": Scenario(blocked.tell, full=15, short=11),
    "standby": Scenario(standby.tell, full=330, short=5),
    "events-refused": Scenario(refused.tell, full=60, short=10, in_test=True),
    "lost-commits": Scenario(lost_commits.tell, full=30, short=0, in_test=True),
    "full-disk": Scenario(full_disk.tell, 60, 3, full_disk.missing, in_test=True),
    "pgbouncer": Scenario(pooler.tell, 120, 1, pooler.missing, in_test=True),
}
