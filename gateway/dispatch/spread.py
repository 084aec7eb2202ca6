"""What is put off together does not come back together."""

from __future__ import annotations

import datetime as dt


def after(wait: dt.timedelta, now: dt.datetime, reminder: int) -> dt.datetime:
    """After the wait and up to once more of it; for one reminder always the same share, by the counter in its id."""
    return now + wait * (1 + share(reminder))


def share(reminder: int) -> float:
    """In 0..1, below 1."""
    return (reminder >> 8 & 0xFF) / 0x100
