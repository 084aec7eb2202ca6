"""Named points at which a test may have the process killed.  Nothing happens at them unless the environment says so.

`REMINDER_GATEWAY_CRASH_AT=<point>[:n]` makes the n-th arrival (first by default) at that point SIGKILL the process;
`REMINDER_GATEWAY_PAUSE_AT=<point>` makes it SIGSTOP itself once, until somebody continues it;
`REMINDER_GATEWAY_BLOCK_AT=<point>[:n]` makes it block its event loop there for `REMINDER_GATEWAY_BLOCK_SECONDS`: the
process runs, and nothing in it does.
"""

from __future__ import annotations

import os
import signal
import time
from enum import StrEnum
from typing import Final


class CrashPoint(StrEnum):
    AFTER_FETCH = "after_fetch"  # records read, nothing written
    AFTER_INTAKE = "after_intake"  # rows committed, Kafka not told
    AFTER_CLAIM = "after_claim"  # claimed, nothing intended
    AFTER_RESERVE = "after_reserve"  # reserved, nothing intended
    AFTER_INTEND = "after_intend"  # intended, no byte left
    BEFORE_FIRST_BYTE = "before_first_byte"
    AFTER_ANSWER = "after_answer"  # the provider answered, nothing recorded
    AFTER_RECORD = "after_record"  # recorded, event not published
    AFTER_STORE = "after_store"  # receipt stored, provider not answered
    AFTER_PUBLISH = "after_publish"  # event acknowledged by Kafka, still in the outbox


def _setting(name: str) -> tuple[str, int]:
    point, _, nth = os.environ.get(name, "").partition(":")
    return point, int(nth or 1)


_CRASH: Final = _setting("REMINDER_GATEWAY_CRASH_AT")
_PAUSE: Final = _setting("REMINDER_GATEWAY_PAUSE_AT")
_BLOCK: Final = _setting("REMINDER_GATEWAY_BLOCK_AT")
_BLOCK_SECONDS: Final = float(os.environ.get("REMINDER_GATEWAY_BLOCK_SECONDS", "15"))
_ARMED: Final = bool(_CRASH[0] or _PAUSE[0] or _BLOCK[0])
_arrivals: dict[str, int] = {}


def reached(point: CrashPoint) -> None:
    """Marks the point; free of cost unless a test armed one."""
    if _ARMED:
        _act(point)


def _act(point: CrashPoint) -> None:
    _arrivals[point] = _arrivals.get(point, 0) + 1
    for (armed, nth), number in ((_CRASH, signal.SIGKILL), (_PAUSE, signal.SIGSTOP)):
        if armed == point and _arrivals[point] == nth:
            os.kill(os.getpid(), number)
    if (point, _arrivals[point]) == _BLOCK:
        time.sleep(_BLOCK_SECONDS)
