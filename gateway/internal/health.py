"""Is this process alive, can it take callbacks, and what is it in trouble with?

The components are asked when somebody asks here.  What they answer are stable codes: no error texts, no data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LOOP: Final = "event_loop"
PROCESS: Final = "process"
STARTING: Final = "starting"

Trouble = Callable[[], str | None]


class Health:
    """What the components say of themselves.

    Not ready: the process has not started or is stopping, or a component it `needs` is in trouble; the platform sends
    no callbacks here.  A component it `follows` has to be well once; later trouble is told, and no reason to turn
    callbacks away that can still be stored.  Dead: the loop is later than `max_lag` seconds; the platform restarts it.
    """

    def __init__(self, *, lag: Callable[[], float] = lambda: 0.0, max_lag: float = 10.0) -> None:
        self._needed: dict[str, Trouble] = {}
        self._followed: dict[str, Trouble] = {}
        self._never_well: set[str] = set()
        self._process: str | None = STARTING
        self._lag = lag
        self._max_lag = max_lag

    def needs(self, component: str, trouble: Trouble) -> None:
        """`trouble()` says what is wrong now, None when nothing is."""
        self._needed[component] = trouble

    def follows(self, component: str, trouble: Trouble) -> None:
        self._followed[component] = trouble
        self._never_well.add(component)

    def started(self) -> None:
        """Everything is built and running."""
        if self._process == STARTING:
            self._process = None

    def stop(self) -> None:
        """Not ready from now on; alive until the end."""
        self._process = "stopping"

    def unready(self) -> dict[str, str]:
        """Why not ready, by component; empty when ready."""
        followed = _troubles(self._followed)
        self._never_well &= followed.keys()
        own = {} if self._process is None else {PROCESS: self._process}
        waited_for = {each: followed[each] for each in self._followed if each in self._never_well}
        return _troubles(self._needed) | waited_for | self.dead() | own

    def degraded(self) -> dict[str, str]:
        """Trouble, by component, that keeps nobody from sending callbacks here."""
        return {each: why for each, why in _troubles(self._followed).items() if each not in self._never_well}

    def dead(self) -> dict[str, str]:
        """Why dead, by component; empty while alive."""
        return {LOOP: "stuck"} if self._lag() > self._max_lag else {}


def _troubles(components: dict[str, Trouble]) -> dict[str, str]:
    found = ((component, trouble()) for component, trouble in components.items())
    return {component: why for component, why in found if why is not None}
