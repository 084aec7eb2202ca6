"""Circuit breakers by the scope of a failure: the account, the sender, a template.

Open means defer, never fail.  A circuit is closed by what was sent after it opened and by nothing else: an answer to
something older says nothing about now.  What a receipt complained of, answers do not show: such a circuit stays open
for long, lets one message try, and closes when no receipt has complained of it for as long again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.vocabulary import Failure, FailureScope

# No Retry-After keeps a circuit open for longer without a probe; some send a date's seconds instead of a delay.
_LONGEST_OPEN: Final = 3600.0

# While one message tries, the others ask again so soon.
_PROBE_SECONDS: Final = 1.0

# A receipt takes its time: from seconds to some minutes.
_RECEIPT_SECONDS: Final = 300.0

# Failures that say something about more than one recipient.  After the others the provider is known to be well.
OPENS: Final = frozenset({Failure.BAD_CONFIG, Failure.THROTTLED, Failure.TRANSIENT, Failure.AMBIGUOUS})
_AT_ONCE: Final = frozenset({Failure.BAD_CONFIG})


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Circuit:
    """Opens on `threshold` failures in a row, at once on bad configuration or an explicit Retry-After.

    After `until` one message tries; its outcome closes or opens the circuit again.  `receipts` is set where a receipt
    has opened it.
    """

    threshold: int = 10
    cool_off: float = 15.0
    failures: int = 0
    opened_at: float | None = None
    until: float = 0.0
    probing: bool = False
    receipts: bool = False

    def state(self, now: float) -> CircuitState:
        if self.opened_at is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.until else CircuitState.HALF_OPEN

    def wait(self, now: float) -> float:
        """Seconds until a try is worth it; 0 when one may be made now.  A probe's answer is not far."""
        if self.state(now) is not CircuitState.OPEN:
            return 0.0
        return _PROBE_SECONDS if self.probing and not self.receipts else max(self.until - now, 0.5)

    def begin(self, now: float) -> bool:
        """A message is on its way; if the circuit was half open, it is the probe.  True when that closes it."""
        if self.state(now) is not CircuitState.HALF_OPEN:
            return False
        if self.receipts and self.probing:
            return True  # nobody has complained of the probe
        # A probe that never reports back does not lock the circuit for ever: another follows.
        self.probing, self.until = True, now + (_RECEIPT_SECONDS if self.receipts else self.cool_off)
        return False

    def failed(
        self, now: float, failure: Failure, retry_after: float | None, started_at: float, *, receipt: bool = False
    ) -> bool:
        """Counts a failure, told by an answer or by a receipt; whether the circuit opened by it, having been closed."""
        wait = self.cool_off if retry_after is None else min(retry_after, _LONGEST_OPEN)
        wait = _RECEIPT_SECONDS if receipt else wait
        told = retry_after is not None and retry_after > 0
        if self.opened_at is not None and started_at <= self.opened_at and not told:
            return False  # what set out before says nothing about the probe
        self.failures += 1
        if not (failure in _AT_ONCE or told or self.failures >= self.threshold or self.probing):
            return False
        was_closed = self.opened_at is None
        self.opened_at, self.until, self.probing = now, max(self.until, now + wait), False
        self.receipts = self.receipts or receipt
        return was_closed

    def closes_by(self, started_at: float) -> bool:
        """Whether a good answer to what started then closes it."""
        return self.opened_at is None or (started_at > self.opened_at and not self.receipts)


_Key = tuple[FailureScope, str]


class Circuits:
    """One provider's circuits in this process.  `on_open(scope, failure, seconds)` hears of each that opens."""

    def __init__(
        self,
        clock: Callable[[], float],
        on_open: Callable[[FailureScope, Failure, float], None] = lambda scope, failure, seconds: None,
    ) -> None:
        self._clock = clock
        self._on_open = on_open
        self._circuits: dict[_Key, Circuit] = {}

    def wait(self, template: str) -> float:
        """Seconds until a message of this template is worth a try; 0 when it is now."""
        if not self._circuits:
            return 0.0
        now = self._clock()
        return max((each.wait(now) for each in self._of(template)), default=0.0)

    def begin(self, template: str) -> None:
        """A message sets out now."""
        if self._circuits:
            now = self._clock()
            for key in _keys(template):
                circuit = self._circuits.get(key)
                if circuit is not None and circuit.begin(now):
                    del self._circuits[key]

    def succeeded(self, template: str, started_at: float) -> None:
        """The provider has answered in a way that shows it well, to what set out at `started_at`."""
        if not self._circuits:
            return
        for key in _keys(template):
            circuit = self._circuits.get(key)
            if circuit is not None and circuit.closes_by(started_at):
                del self._circuits[key]

    def failed(
        self,
        failure: Failure,
        scope: FailureScope,
        template: str,
        retry_after: float | None,
        started_at: float,
        *,
        receipt: bool = False,
    ) -> None:
        """Counts a failure against its scope; an answer that blames the recipient alone shows the provider well."""
        if failure not in OPENS or scope is FailureScope.RECIPIENT:
            if not receipt:
                self.succeeded(template, started_at)
            return
        circuit = self._circuits.setdefault((scope, template if scope is FailureScope.TEMPLATE else ""), Circuit())
        now = self._clock()
        if circuit.failed(now, failure, retry_after, started_at, receipt=receipt):
            self._on_open(scope, failure, circuit.until - now)

    def states(self) -> dict[FailureScope, CircuitState]:
        """The worst state of each scope, as it is now."""
        now = self._clock()
        found = dict.fromkeys(FailureScope, CircuitState.CLOSED)
        for (scope, _), circuit in self._circuits.items():
            found[scope] = max(found[scope], circuit.state(now), key=_BADNESS.index)
        return found

    def _of(self, template: str) -> list[Circuit]:
        return [self._circuits[key] for key in _keys(template) if key in self._circuits]


_BADNESS: Final = (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN)


def _keys(template: str) -> tuple[_Key, ...]:
    return ((FailureScope.ACCOUNT, ""), (FailureScope.SENDER, ""), (FailureScope.TEMPLATE, template))
