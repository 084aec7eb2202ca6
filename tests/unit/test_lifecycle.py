"""Stops: in reverse, each inside its phase's seconds, whatever hangs or fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.lifecycle import Lifecycle, Phase

SECONDS = {Phase.DRAIN: 0.3, Phase.FLUSH: 0.2, Phase.LEAVE: 0.2}


class Log:
    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.given: dict[str, float] = {}

    def stop(self, name: str, takes: float = 0.0, fails: bool = False) -> Callable[[float], Awaitable[None]]:
        async def stopping(seconds: float) -> None:
            self.given[name] = seconds
            await asyncio.sleep(takes)
            if fails:
                raise OSError(name)
            self.stopped.append(name)

        return stopping


async def test_in_reverse() -> None:
    log, life = Log(), Lifecycle(SECONDS)
    for name in ("database", "relay", "intake"):
        life.on_stop(name, log.stop(name))
    assert await life.stop() == []
    assert log.stopped == ["intake", "relay", "database"]
    assert await life.stop() == []  # once is enough
    assert log.stopped == ["intake", "relay", "database"]


async def test_a_phase_is_shared_and_the_next_has_its_own() -> None:
    log, life = Log(), Lifecycle(SECONDS)
    life.on_stop("relay", log.stop("relay"), Phase.FLUSH)
    life.on_stop("drain", log.stop("drain"), Phase.DRAIN)
    life.on_stop("intake", log.stop("intake", takes=0.12), Phase.DRAIN)
    assert await life.stop() == []
    assert log.given["intake"] == 0.3
    assert log.given["drain"] < 0.2
    assert log.given["relay"] == 0.2


async def test_what_hangs_or_fails_does_not_keep_the_others() -> None:
    log, life = Log(), Lifecycle(SECONDS)
    life.on_stop("database", log.stop("database"))
    life.on_stop("broken", log.stop("broken", fails=True))
    life.on_stop("hangs", log.stop("hangs", takes=60), Phase.DRAIN)
    life.on_stop("late", log.stop("late", takes=60), Phase.DRAIN)
    began = time.monotonic()
    assert await life.stop() == ["late", "hangs", "broken"]
    assert log.stopped == ["database"]
    assert log.given["hangs"] == 0.1  # the phase was over; a moment it has all the same
    assert time.monotonic() - began < 2


async def test_what_ignores_its_cancellation_is_left_behind() -> None:
    life = Lifecycle(SECONDS)
    over = asyncio.Event()

    async def stubborn(seconds: float) -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    life.on_stop("stubborn", stubborn)
    assert await asyncio.wait_for(life.stop(), 5) == ["stubborn"]
    over.set()
