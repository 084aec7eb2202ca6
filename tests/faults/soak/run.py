"""What a soak carries from fault to fault."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.evidence import Violation
from tests.faults.load import Load, script
from tests.faults.soak.stage import Stage

# The first of them tell what happened, the others only that it was bad.
_TOLD: Final = 100


@dataclass
class Run:
    """The stage, the load, the dice, and what was done so far."""

    stage: Stage
    load: Load
    chance: random.Random
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)  # to what is sent to the public listener by nobody we know
    violations: list[Violation] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    disturbed: float = 0.0  # minutes, with the quiet moments among them
    providers_since: float = 0.0  # when the way to the providers was whole again
    frozen: set[tuple[str, str]] = field(default_factory=set)
    sealing_key: int = 1
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.started) / 60

    def begins(self) -> None:
        """The minutes count from now."""
        self.started = time.monotonic()

    def ends(self) -> None:
        """Nothing is disturbed any more."""
        self.disturbed = self.minutes

    def blame(self, invariant: str, what: str) -> None:
        violation = Violation(invariant, what)
        if len(self.violations) < _TOLD:
            print(f"VIOLATION at {self.minutes:.1f} min: {violation}", flush=True)
        self.violations.append(violation)

    def meanwhile(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that goes on beside the next faults, and is waited for in `calm`."""
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def perform(self, *rules: dict[str, Any]) -> None:
        """The providers' script, with these rules before it."""
        plain = script(self.seed)
        self.stage.here.world.simulator.perform(
            self.stage.here.world.simulator.config.script.model_validate({**plain, "rules": [*rules, *plain["rules"]]})
        )

    async def calm(self) -> None:
        """Waits until the faults that are under way have ended by themselves, as they all do within seconds."""
        while self._under_way:
            await asyncio.gather(*self._under_way)
