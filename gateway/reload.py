"""Secrets that rotate: looked at every so often and at SIGHUP, checked, and then put in force, or left as they were.

Nothing that was read is kept here, and nothing of it is logged: of what is wrong the key's path and a code.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from gateway.config import Config, ConfigError, Problem, Rotated
from gateway.inforce import InForce
from gateway.observability.logs import get_logger

log = get_logger(__name__)

# Who writes several files, or one in place, is done by then; a change counts when two looks have seen the same.
_SETTLE_SECONDS: Final = 0.2
_LOOKS: Final = 5
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_MOST_TOLD: Final = 20


class Source(Protocol):
    def look(self) -> bytes: ...
    def rotate(self, running: Config) -> Rotated: ...


class ReloadObserver(Protocol):
    def reloaded(self, config: Config, at: float) -> None: ...
    def reload_failed(self) -> None: ...
    def unapplied(self, n: int) -> None: ...


class Reload:
    """Keeps the configuration in force in step with its files.  What does not validate changes nothing and is tried
    again at every look; it is logged once, and again when it has become something else.
    """

    def __init__(
        self,
        source: Source,
        in_force: InForce,
        observer: ReloadObserver,
        seconds: float,
        wall_clock: Callable[[], float] = time.time,
        settle_seconds: float = _SETTLE_SECONDS,
    ) -> None:
        self._source = source
        self._in_force = in_force
        self._observer = observer
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._settle_seconds = settle_seconds
        self._asked = asyncio.Event()
        self._seen: bytes | None = None  # of what is in force; None after a failure, so that the next look tries again
        self._told: object = None
        self._unapplied: tuple[str, ...] = ()

    def ask(self) -> None:
        """Looks now, and says what came of it."""
        self._asked.set()

    async def run(self) -> None:
        """The first look is at once: a secret may have changed while the gateway started."""
        asked = False
        while True:
            await self.once(asked)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._seconds)
            asked = self._asked.is_set()
            self._asked.clear()

    async def once(self, asked: bool = False) -> None:
        """One look, and what follows from it.  Never raises."""
        try:
            changed = await self._look()
        except ConfigError as error:
            self._failed(error.problems, error.problems, None, asked)
        except Exception as error:
            self._failed(type(error), (), error, asked)
        else:
            if asked and not changed:
                log.info("secrets_unchanged")

    async def _look(self) -> bool:
        """Whether something was put in force."""
        seen = await asyncio.to_thread(self._source.look)
        if seen == self._seen:
            return False
        for _ in range(_LOOKS):
            if self._settle_seconds:
                await asyncio.sleep(self._settle_seconds)
            error, found = None, None
            try:
                found = await asyncio.to_thread(self._source.rotate, self._in_force.config)
            except ConfigError as broken:
                error = broken
            again = await asyncio.to_thread(self._source.look)
            if again != seen:  # written under our eyes: half of it may be old
                seen = again
                continue
            if error is not None:
                raise error
            assert found is not None
            return self._take(found, seen)
        raise TimeoutError

    def _take(self, found: Rotated, seen: bytes) -> bool:
        # What is as it was must be taken all the same by those who took what others could not.
        changed = found.config != self._in_force.config or not self._in_force.whole
        if changed:
            self._in_force.replace(found.config)
        self._seen, recovered, self._told = seen, self._told is not None, None
        self._observer.reloaded(found.config, self._wall_clock())
        if changed or recovered:
            log.info("secrets_reloaded" if changed else "secrets_as_before")
        if found.unapplied != self._unapplied:
            self._unapplied = found.unapplied
            self._observer.unapplied(len(found.unapplied))
            if found.unapplied:
                keys = list(found.unapplied[:_MOST_TOLD])
                log.warning("restart_needed", n=len(found.unapplied), keys=keys)
        return changed

    def _failed(self, what: object, problems: Iterable[Problem], error: Exception | None, asked: bool) -> None:
        self._seen = None
        self._observer.reload_failed()
        if what == self._told and not asked:
            return
        self._told = what
        told = [f"{self._known(each.path)}: {each.reason}" for each in problems][:_MOST_TOLD]
        log.error("secrets_not_reloaded", keys=told, exc_info=error)

    def _known(self, path: str) -> str:
        """As much of a key's path as was there at the start: a new name may be a mistake, even a secret."""
        tree: object = self._in_force.config.written
        parts = []
        for part in filter(None, path.split(".")):
            below = tree.get(part) if isinstance(tree, dict) else None
            if below is None and not _NUMBER.fullmatch(part):
                break
            parts.append(part)
            tree = below
        return ".".join(parts) or "the file"
