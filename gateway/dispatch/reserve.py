"""Reserve: a slot, a rate token and a closed circuit, so that nothing waits once an attempt is intended."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.vocabulary import Failure, FailureScope

# No Retry-After keeps a circuit open for longer without a probe; some send a date's seconds instead of a delay.
_LONGEST_OPEN: Final = 3600.0

# Failures that say something about more than one recipient.  The others never open a circuit.
_OPENS: Final = frozenset({Failure.BAD_CONFIG, Failure.THROTTLED, Failure.TRANSIENT, Failure.AMBIGUOUS})
_AT_ONCE: Final = frozenset({Failure.BAD_CONFIG})


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Circuit:
    """Opens on `threshold` failures in a row, at once on bad configuration or an explicit Retry-After.

    Open means defer, never fail.  After `until` one message tries; its outcome closes or opens the circuit again.
    """

    threshold: int = 10
    cool_off: float = 15.0
    failures: int = 0
    until: float = 0.0
    probing: bool = False

    def state(self, now: float) -> CircuitState:
        if self.until == 0.0:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.until else CircuitState.HALF_OPEN

    def wait(self, now: float) -> float:
        """Seconds until a try is worth it; 0 when one may be made now."""
        return max(self.until - now, 0.5) if self.state(now) is CircuitState.OPEN else 0.0

    def begin(self, now: float) -> None:
        """A message is on its way; if the circuit was half open, it is the probe."""
        if self.state(now) is CircuitState.HALF_OPEN:
            # A probe that never reports back does not lock the circuit for ever: another follows.
            self.probing, self.until = True, now + self.cool_off

    def succeeded(self) -> None:
        self.failures, self.until, self.probing = 0, 0.0, False

    def failed(self, now: float, failure: Failure, retry_after: float | None) -> None:
        self.failures += 1
        if failure in _AT_ONCE or retry_after is not None or self.failures >= self.threshold or self.probing:
            wait = self.cool_off if retry_after is None else min(retry_after, _LONGEST_OPEN)
            self.until = max(self.until, now + wait)
        self.probing = False


class Reservation:
    """One provider's capacity in this process.  Not thread-safe; lives on the event loop."""

    def __init__(
        self,
        slots: int,
        rate: float | None,
        burst: int | None,
        clock: Callable[[], float],
        on_change: Callable[[FailureScope, CircuitState], None] = lambda scope, state: None,
    ) -> None:
        self._slots = slots
        self._rate = rate
        self._burst = float(burst or max(rate or 1, 1))
        self._tokens = self._burst
        self._filled_at = clock()
        self._clock = clock
        self._on_change = on_change
        self._circuits: dict[tuple[FailureScope, str], Circuit] = {}

    @property
    def free(self) -> int:
        return self._slots

    def take(self, template: str) -> float:
        """0.0 when a send is reserved; give it back with `done`.  Otherwise seconds after which to try again."""
        now = self._clock()
        circuits = [self._circuits[key] for key in _keys(template) if key in self._circuits]
        if (wait := max((each.wait(now) for each in circuits), default=0.0)) > 0:
            return wait
        if self._slots <= 0:
            return 0.2 + random.random() * 0.3  # noqa: S311  jitter, not a secret
        if self._rate is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
            self._filled_at = now
            if self._tokens < 1:
                return (1 - self._tokens) / self._rate
            self._tokens -= 1
        self._slots -= 1
        for each in circuits:  # only now: a message that found no slot or token is no probe
            each.begin(now)
        return 0.0

    def done(self) -> None:
        """The slot is free again."""
        self._slots += 1

    def succeeded(self, template: str) -> None:
        for key in _keys(template):
            circuit = self._circuits.pop(key, None)
            if circuit is not None:
                self._on_change(key[0], CircuitState.CLOSED)

    def failed(self, failure: Failure, scope: FailureScope, template: str, retry_after: float | None) -> None:
        """Counts a failure against its scope; a recipient's own failures say nothing about the provider."""
        if failure not in _OPENS or scope is FailureScope.RECIPIENT:
            return
        key = (scope, template if scope is FailureScope.TEMPLATE else "")
        circuit = self._circuits.setdefault(key, Circuit())
        now = self._clock()
        circuit.failed(now, failure, retry_after)
        self._on_change(scope, circuit.state(now))


def _keys(template: str) -> tuple[tuple[FailureScope, str], ...]:
    return ((FailureScope.ACCOUNT, ""), (FailureScope.SENDER, ""), (FailureScope.TEMPLATE, template))
