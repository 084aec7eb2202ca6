"""Where the queue begins, as this process last saw it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from gateway.ledger.claims import Claimed, Place
from schemas.vocabulary import Lane

_LOOK_SECONDS: Final = 1.0
_IDLE_LOOK_SECONDS: Final = 0.05


class Head:
    """The place in each lane where this process took its last row: claims begin there.

    A row that is gone stays in the queue's index until vacuum has been, so from the front a claim would cost the more
    the more were sent since.  What enters behind the place (a turn that is put back, a clock that is behind ours) is
    found by a look from the front: one a second while there is plenty to take, twenty when there is not.  Where urgent
    left no room for bulk, the look at bulk is still to come.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places: dict[Lane, Place] = {}
        self._looked_at = dict.fromkeys(Lane, clock())
        self._looking: dict[Lane, float] = {}  # since when, in the claim under way
        self._look_seconds = _IDLE_LOOK_SECONDS

    @property
    def places(self) -> Mapping[Lane, Place]:
        """Before them there was nothing when this process last looked.  They stay as they are now."""
        return dict(self._places)

    def begin(self) -> Mapping[Lane, Place]:
        """Where the next claim begins: at the places, but for lanes in which it is time to look from the front."""
        now = self._clock()
        self._looking = {lane: now for lane, at in self._looked_at.items() if now - at >= self._look_seconds}
        return {lane: place for lane, place in self._places.items() if lane not in self._looking}

    def took(self, rows: Collection[Claimed], *, plenty: bool) -> None:
        """What a claim returned, in its order, and whether it was all that it could take.

        A place may go back by it: behind the last row there may be more.
        """
        for each in rows:
            self._places[each.lane] = (each.due_at, each.id)
        if plenty and not any(each.lane is Lane.BULK for each in rows):
            self._looking.pop(Lane.BULK, None)
        self._looked_at |= self._looking
        self._look_seconds = _LOOK_SECONDS if plenty else _IDLE_LOOK_SECONDS
