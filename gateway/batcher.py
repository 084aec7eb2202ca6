"""Grouped commits: what arrives while one transaction runs is written by the next, together.

An idle ledger writes at once, a busy one in larger groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

from gateway.observability.logs import get_logger

log = get_logger(__name__)

# What a statement costs by itself is shared by its group: who has just written this many waits a moment for more.
_BUSY: Final = 32
_GATHER_SECONDS: Final = 0.01

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Runs `write` over groups of items, in the order they came.

    One group at a time; while it is under way a second one starts only when `crowd` items wait, so that a busy process
    does not stand still for its ledger and an idle one keeps its groups whole.  Between two groups of a busy process
    pass 10 ms, unless a crowd waits already.

    `write` deals with its own failures and tells whoever waits for an item; if it raises all the same, that is logged
    and the next group is written.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[Item]], Awaitable[None]],
        largest: int = 200,
        crowd: int = 100,
    ) -> None:
        self._name = name
        self._write = write
        self._largest = largest
        self._crowd = crowd
        self._waiting: list[Item] = []
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Item) -> None:
        self._waiting.append(item)
        self._begin()

    def extend(self, items: Iterable[Item]) -> None:
        self._waiting.extend(items)
        self._begin()

    async def flushed(self) -> None:
        """Returns when everything added so far is written or has failed."""
        while self._tasks:
            await asyncio.shield(asyncio.wait(list(self._tasks)))

    def _begin(self) -> None:
        if self._waiting and (self._running == 0 or (self._running == 1 and len(self._waiting) >= self._crowd)):
            self._running += 1
            task = asyncio.create_task(self._run(), name=f"batcher-{self._name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            # One turn of the loop lets the callbacks of the same read cycle join the group.
            await asyncio.sleep(0)
            while self._waiting:
                group, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
                await self._write_safely(group)
                if self._running > 1 and len(self._waiting) < self._crowd:
                    return  # the other one goes on
                if len(group) >= _BUSY and len(self._waiting) < self._crowd:
                    await asyncio.sleep(_GATHER_SECONDS)
        finally:
            self._running -= 1

    async def _write_safely(self, group: Sequence[Item]) -> None:
        try:
            await self._write(group)
        except Exception as error:
            log.error("group_failed", group=self._name, n=len(group), exc_info=error)
