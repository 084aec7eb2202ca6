"""Reserve: a slot, a rate token and a closed circuit, so that nothing waits once an attempt is intended.

Who finds none waits a moment in line, urgent before bulk, and is sent back to the queue when that is not enough: there
waiting costs nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.dispatch.circuit import Circuits
from schemas.vocabulary import Failure, FailureScope, Lane

Tell = Callable[[float], None]
Later = Callable[[float, Callable[[], None]], object]

# Who is sent back comes when there may be a token for it, but not much later than others may have gone.
_FURTHEST_SECONDS: Final = 60.0
_LANES: Final = (Lane.URGENT, Lane.BULK)


@dataclass(slots=True)
class _Waiter:
    template: str
    until: float
    tell: Tell


def _call_later(seconds: float, what: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, what)


class Reservation:
    """One provider's capacity in this process.  Not thread-safe; lives on the event loop."""

    def __init__(
        self,
        slots: int,
        rate: float | None,
        burst: int | None,
        clock: Callable[[], float],
        on_open: Callable[[FailureScope, Failure, float], None] = lambda scope, failure, seconds: None,
        *,
        patience: float = 1.0,
        later: Later = _call_later,
    ) -> None:
        """`patience` is how long somebody stands in line, in seconds."""
        self._slots = slots
        self._rate = rate
        self._burst = float(burst or max(rate or 1, 1))
        self._tokens = self._burst
        self._filled_at = clock()
        self._promised_at = 0.0  # when the last of those who were sent back may find a token
        self.clock = clock
        self._patience = patience
        self._later = later
        self._lines: dict[Lane, deque[_Waiter]] = {lane: deque() for lane in _LANES}
        self._looks_at: float | None = None
        self.circuits = Circuits(clock, on_open)

    @property
    def free(self) -> int:
        return self._slots

    def ask(self, template: str, lane: Lane, tell: Tell) -> float | None:
        """0.0 when a send is reserved; give it back with `done`.  Seconds when a circuit is open: come back then.

        None when the asker stands in line: `tell` gets the one or the other later.
        """
        if not self._ahead_of(lane):
            wait = self.take(template)
            if wait == 0 or self.circuits.wait(template) > 0:
                return wait
        self._lines[lane].append(_Waiter(template, self.clock() + self._patience, tell))
        self._look_again()
        return None

    def take(self, template: str) -> float:
        """As `ask`, without standing in line: 0.0, or seconds after which it may be worth another try."""
        if (closed := self.circuits.wait(template)) > 0:
            return closed
        if self._slots <= 0:
            return 0.2 + random.random() * 0.3  # noqa: S311  jitter, not a secret
        if (lack := self._lack()) > 0:
            return lack
        if self._rate is not None:
            self._tokens -= 1
        self._slots -= 1
        self.circuits.begin(template)  # only now: a message that found no slot or token is no probe
        return 0.0

    def done(self) -> None:
        """The slot is free again."""
        self._slots += 1
        self._pump()

    def succeeded(self, template: str, started_at: float) -> None:
        self.circuits.succeeded(template, started_at)

    def failed(
        self,
        failure: Failure,
        scope: FailureScope,
        template: str,
        retry_after: float | None = None,
        started_at: float = 0.0,
    ) -> None:
        self.circuits.failed(failure, scope, template, retry_after, started_at)

    def failed_by_receipt(self, failure: Failure, scope: FailureScope, template: str, sent_seconds_ago: float) -> None:
        self.circuits.failed(failure, scope, template, None, self.clock() - sent_seconds_ago, receipt=True)

    def _lack(self) -> float:
        """Seconds until the next token; 0.0 when there is one."""
        if self._rate is None:
            return 0.0
        now = self.clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate

    # --- the lines ------------------------------------------------------------------------------------------------

    def _ahead_of(self, lane: Lane) -> bool:
        urgent, bulk = self._lines[Lane.URGENT], self._lines[Lane.BULK]
        return bool(urgent) or (lane is Lane.BULK and bool(bulk))

    def _pump(self) -> None:
        """Serves the lines as far as it goes."""
        for lane in _LANES:
            line = self._lines[lane]
            while line:
                first = line[0]
                wait = self.take(first.template)
                if wait > 0 and self.circuits.wait(first.template) == 0 and self.clock() < first.until:
                    self._look_again()
                    return
                line.popleft()
                first.tell(self._back_in(wait) if wait > 0 and self.circuits.wait(first.template) == 0 else wait)

    def _back_in(self, wait: float) -> float:
        """Seconds after which it is worth coming back, behind those who were sent back before: if all came for the next
        token, the queue would be written over and over for one message.
        """
        if self._rate is None:
            return wait
        now = self.clock()
        self._promised_at = min(max(self._promised_at, now) + 1 / self._rate, now + _FURTHEST_SECONDS)
        return max(wait, self._promised_at - now)

    def _look_again(self) -> None:
        """A timer for the next token or the end of somebody's patience, whichever is first."""
        waiting = [line[0].until for line in self._lines.values() if line]
        if not waiting:
            return
        now = self.clock()
        at = min(waiting)
        if self._slots > 0:
            at = min(at, now + self._lack())
        if self._looks_at is not None and self._looks_at <= at:
            return
        self._looks_at = at
        self._later(max(at - now, 0.001), self._looked)

    def _looked(self) -> None:
        self._looks_at = None
        self._pump()
