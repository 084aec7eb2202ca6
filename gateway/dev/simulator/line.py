"""One open line: the person or machine at the other end, the clock of the call, and what was said and heard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from gateway.dev.simulator.callee import Callee
from gateway.dev.simulator.names import Ending, Pickup
from gateway.dev.simulator.twiml import Gather, Pause, Say

_KEY: Final = 0.5  # seconds for one press
_WIDE: Final = "\u2e80"  # from here on a character is a syllable or more


@dataclass(frozen=True, slots=True)
class End:
    """Why a call ended; of an error, the vendor's code and what was wrong."""

    why: Ending
    code: str | None = None
    detail: str | None = None


class Line:
    """Keeps the call's own seconds, which pass as fast as `scale` says, and writes the transcript."""

    def __init__(self, callee: Callee, scale: float, time_limit: float) -> None:
        self.callee = callee
        self.seconds = 0.0
        self.transcript: list[dict[str, Any]] = []
        self._scale = scale if callee.scale is None else callee.scale
        self._limit = time_limit
        self._said = 0
        self._asked = 0

    async def wait(self, seconds: float) -> None:
        """Time that nobody is charged for."""
        await asyncio.sleep(seconds * self._scale)

    async def spend(self, seconds: float) -> End | None:
        """Time on the line, up to the call's limit."""
        left = min(seconds, self._limit - self.seconds)
        await self.wait(left)
        self.seconds += left
        return End(Ending.TIME_LIMIT) if self.seconds >= self._limit else None

    def note(self, event: str, **heard: Any) -> None:
        """One line of the transcript, with the second at which it began."""
        self.transcript.append({"event": event, "at": round(self.seconds, 2), **heard})

    def gone(self) -> End | None:
        """Whether the callee hangs up now."""
        last = self.callee.hangs_up
        return End(Ending.CALLEE) if last is not None and self._said >= last else None

    async def say(self, part: Say | Pause) -> End | None:
        """Plays one piece to its end."""
        if isinstance(part, Pause):
            self.note("pause", seconds=part.seconds)
            return await self.spend(part.seconds)
        self.note("say", text=part.text, language=part.language, voice=part.voice)
        self._said += 1
        return await self.spend(_duration(part.text)) or self.gone()

    async def gather(self, verb: Gather) -> str | End:
        """The digits that were collected, perhaps none.  After `hangs_up` prompts there is nobody left to press."""
        for part in verb.prompts:
            if end := await self.say(part):
                return end
        keys = self.callee.keys if self.callee.pickup is Pickup.HUMAN else ()
        pressed = keys[self._asked] if self._asked < len(keys) else ""
        self._asked += 1
        digits, seconds = collect(pressed, verb)
        self.note("gather", pressed=pressed, digits=digits)
        return await self.spend(seconds) or digits


def collect(pressed: str, verb: Gather) -> tuple[str, float]:
    """What <Gather> makes of the keys that are pressed, and how long it takes.  Keys after its end are lost."""
    digits = ""
    for count, key in enumerate(pressed, start=1):
        if verb.finish and key == verb.finish:
            return digits, count * _KEY
        digits += key
        if len(digits) == verb.most:
            return digits, count * _KEY
    return digits, len(pressed) * _KEY + verb.timeout


def _duration(text: str) -> float:
    return sum(0.25 if letter >= _WIDE else 0.07 for letter in text)
