"""Grouped commits: what arrives while one transaction runs is written by the next, together.

No timer is involved: an idle ledger writes at once, a busy one in larger groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

from gateway.observability.logs import get_logger

log = get_logger(__name__)

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Runs `write` over groups of items, in their order, one group at a time.

    `write` deals with its own failures and tells whoever waits for an item; if it raises all the same, that is logged
    and the next group is written.
    """

    def __init__(self, name: str, write: Callable[[Sequence[Item]], Awaitable[None]], largest: int = 200) -> None:
        self._name = name
        self._write = write
        self._largest = largest
        self._waiting: list[Item] = []
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Item) -> None:
        self._waiting.append(item)
        self._begin()

    def extend(self, items: Iterable[Item]) -> None:
        self._waiting.extend(items)
        if self._waiting:
            self._begin()

    async def flushed(self) -> None:
        """Returns when everything added so far is written or has failed."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(asyncio.wait([self._task]))

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"batcher-{self._name}")

    async def _run(self) -> None:
        # One turn of the loop lets the callbacks of the same read cycle join the group.
        await asyncio.sleep(0)
        while self._waiting:
            group, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
            try:
                await self._write(group)
            except Exception as error:
                log.error("group_failed", group=self._name, n=len(group), exc_info=error)
