"""Grouped commits: what arrives while one transaction runs is written by the next, together.

No timer is involved: an idle ledger writes at once, a busy one in larger groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Runs `write` over groups of submitted items, one group at a time, and hands each item its answer.

    `write` returns one answer per item, in order.  What it raises, every item of the group raises.
    """

    def __init__(
        self, name: str, write: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], largest: int = 200
    ) -> None:
        self._name = name
        self._write = write
        self._largest = largest
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, item: Item) -> asyncio.Future[Answer]:
        """The answer to come.  Dropping it does not take the item back."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"batcher-{self._name}")
        return future

    async def flushed(self) -> None:
        """Returns when everything submitted so far is written or has failed."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(asyncio.wait([self._task]))

    async def _run(self) -> None:
        # One turn of the loop lets the callbacks of the same read cycle join the group.
        await asyncio.sleep(0)
        while self._waiting:
            group, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
            try:
                answers = await self._write([item for item, _ in group])
                if len(answers) != len(group):
                    raise RuntimeError(f"{self._name}: {len(group)} items, {len(answers)} answers")
            except BaseException as error:
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                        # The submitter may have gone; an unread exception is not worth a warning then.
                        future.exception()
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
