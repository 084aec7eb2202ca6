"""Which faults there are, and how often each comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from tests.faults.soak import faults, hands, outside
from tests.faults.soak.run import Run


class Fault(NamedTuple):
    weight: int
    work: Callable[[Run], Awaitable[str]]

    @property
    def name(self) -> str:
        return self.work.__name__


FAULTS: Final[Sequence[Fault]] = (
    Fault(30, faults.kill),
    Fault(8, faults.crash_at),
    Fault(6, faults.sleep_at),
    Fault(4, faults.pause),
    Fault(4, faults.stutter),
    Fault(3, faults.drained),
    Fault(5, faults.guest),
    Fault(1, faults.broker_restarts),
    Fault(1, faults.broker_dies),
    Fault(2, faults.broker_hangs),
    Fault(2, faults.ledger_restarts),
    Fault(2, faults.ledger_dies),
    Fault(2, faults.ledger_hangs),
    Fault(12, outside.link),
    Fault(4, outside.cut),
    Fault(5, outside.lost_commits),
    Fault(4, outside.providers_gone),
    Fault(9, outside.providers_misbehave),
    Fault(4, outside.rush),
    Fault(2, outside.replies),
    Fault(2, outside.strangers),
    Fault(4, hands.freeze),
    Fault(4, hands.unfreeze),
    Fault(3, hands.redrive),
    Fault(4, hands.settle),
    Fault(2, hands.rotate),
    Fault(2, hands.reseal),
    Fault(1, hands.look),
)
NAMES: Final = tuple(each.name for each in FAULTS)
