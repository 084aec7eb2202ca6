"""Stories that take minutes when they are told in full: each asserts from outside what must have happened.

`tests/faults/test_scenarios.py` tells each in short; `python -m tests.faults.scenarios NAME` tells it in full.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.scenarios import blocked, brokers, kafka_link, outage, refused, standby, storm
from tests.faults.scenarios.ground import Ground

__all__ = ["SCENARIOS", "Ground", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """`tell(ground, seconds)` disturbs for so long, heals, has the judge look, and returns what was counted."""

    tell: Callable[[Ground, float], Awaitable[Mapping[str, Any]]]
    full: float
    short: float


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "rebalance-storm": Scenario(storm.tell, full=300, short=16),
    "blocked-loop": Scenario(blocked.tell, full=15, short=11),
    "no-brokers": Scenario(brokers.tell, full=600, short=30),
    "standby": Scenario(standby.tell, full=330, short=5),
    "kafka-link": Scenario(kafka_link.tell, full=120, short=12),
    "events-refused": Scenario(refused.tell, full=60, short=10),
    "provider-outage": Scenario(outage.tell, full=600, short=16),
}
