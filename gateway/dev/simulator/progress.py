"""Tells the life of one call to its status callback while it is lived, and as the script orders."""

from __future__ import annotations

import asyncio

from gateway.dev.simulator.courier import Courier
from gateway.dev.simulator.names import Outcome
from gateway.dev.simulator.outward import near
from gateway.dev.simulator.script import Plan, Span
from gateway.dev.simulator.wire import Post


class Progress:
    """One callback after the other, each after its delay; the call does not wait for them.

    Callbacks that come in the wrong order, or twice, can only be sent when the call has ended.
    """

    def __init__(self, courier: Courier, plan: Plan, delay: Span) -> None:
        self._courier = courier
        self._plan = plan
        self._delay = plan.receipts.delay or delay
        self._posts: asyncio.Queue[Post | None] = asyncio.Queue()

    def tell(self, post: Post, *, last: bool = False) -> None:
        """Takes the next callback.  What is kept back is in the log, with the reason."""
        outcome = self._plan.receipts.outcome
        if outcome is Outcome.NONE or (last and outcome is Outcome.SENT):
            return
        kept = "lost" if self._plan.receipts.lost else None if near(post.route.url) else "not_loopback"
        if kept is not None:
            self._courier.record(post, 0, kept)
        else:
            self._posts.put_nowait(post)

    def close(self) -> None:
        """There will be no more."""
        self._posts.put_nowait(None)

    async def run(self) -> None:
        """Returns when everything told has had its first answer."""
        posts: list[Post] = []
        reorder, copies = self._plan.receipts.reorder, self._plan.receipts.copies
        while (post := await self._posts.get()) is not None:
            posts.append(post)
            if not reorder:
                await self._send(post, 0, len(posts) - 1)
        ordered = posts[::-1] if reorder else posts
        for copy in range(0 if reorder else 1, copies):
            for step, post in enumerate(ordered):
                await self._send(post, copy, step)

    async def _send(self, post: Post, copy: int, step: int) -> None:
        await self._courier.pace.sleep(self._plan.between(self._delay, f"receipt|{copy}|{step}"))
        await self._courier.deliver(post)
