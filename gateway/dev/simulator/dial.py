"""A call to make, as it was ordered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.dev.simulator.twiml import Document

EVENTS = ("initiated", "ringing", "answered", "completed")


@dataclass(frozen=True, slots=True)
class Dial:
    """What to say, or where to ask for it, and whom to tell how it goes.  It shows neither texts nor URLs."""

    caller: str
    document: Document | None = field(default=None, repr=False)  # else `url` is asked for one
    url: str = field(default="", repr=False)
    method: str = "POST"
    callback: str = field(default="", repr=False)
    callback_method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})
    timeout: int = 60  # seconds of ringing
    time_limit: int = 14_400  # seconds of talking
    detection: str | None = None  # Enable or DetectMessageEnd

    def texts(self) -> Iterator[str]:
        """Everything known beforehand that the call can say."""
        if self.document is not None:
            yield from self.document.texts()
