"""Is this process alive, and can it do its work?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

LOOP: Final = "event_loop"
PROCESS: Final = "process"


class Health:
    """What the components say of themselves.  Reasons are stable codes: no error texts, no data.

    Not ready: a component said so, has not spoken yet, or the process is stopping; the platform sends no work here.
    Dead: the loop is later than `max_lag` seconds or a component cannot go on; the platform restarts the process.
    """

    def __init__(
        self, components: Iterable[str] = (), *, lag: Callable[[], float] = lambda: 0.0, max_lag: float = 10.0
    ) -> None:
        """`components` are those that must have spoken before the process is ready."""
        self._unready = dict.fromkeys(components, "starting")
        self._dead: dict[str, str] = {}
        self._stopping = False
        self._lag = lag
        self._max_lag = max_lag

    def set(self, component: str, ok: bool, reason: str = "") -> None:
        """A component's present state; `reason` says why it is not ok."""
        if ok:
            self._unready.pop(component, None)
        else:
            self._unready[component] = reason or "not_ready"

    def die(self, component: str, reason: str) -> None:
        """The component will not come back by itself.  There is no way back from this."""
        self._dead[component] = reason

    def stop(self) -> None:
        """Not ready from now on; alive until the end."""
        self._stopping = True

    def unready(self) -> dict[str, str]:
        """Why not ready, by component; empty when ready."""
        stopping = {PROCESS: "stopping"} if self._stopping else {}
        return self._unready | self.dead() | stopping

    def dead(self) -> dict[str, str]:
        """Why dead, by component; empty while alive."""
        stuck = {LOOP: "stuck"} if self._lag() > self._max_lag else {}
        return self._dead | stuck
