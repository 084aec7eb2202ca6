"""Carries receipts to the gateway as the vendors do: late, in batches, again and again; and as the script orders."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.dev.simulator.config import ReceiptSettings
from gateway.dev.simulator.journal import Journal
from gateway.dev.simulator.names import Kind
from gateway.dev.simulator.outward import Outward, near
from gateway.dev.simulator.pace import Pace
from gateway.dev.simulator.script import Plan
from gateway.dev.simulator.wire import Answer, Post, Route


class Courier:
    """Receipts, and whatever else is under way.  What still is when it stops is lost."""

    def __init__(self, journal: Journal, outward: Outward, settings: ReceiptSettings, pace: Pace) -> None:
        self._journal = journal
        self._outward = outward
        self._settings = settings
        self.pace = pace
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: dict[Route, list[Post]] = {}

    @property
    def pending(self) -> int:
        return len(self._tasks)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Returns once nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def send(self, posts: list[Post], plan: Plan) -> None:
        """Plans the receipts of one message."""
        if not posts:
            return
        kept = "lost" if plan.receipts.lost else None if near(posts[0].route.url) else "not_loopback"
        if kept is not None:
            for post in posts:
                self.record(post, 0, kept)
            return
        self.begin(self._life(posts, plan))

    def carry(self, post: Post) -> None:
        """Takes one along that no message of ours asked for: at once, in the next call of its route."""
        if near(post.route.url):
            self._collect(post)
        else:
            self.record(post, 0, "not_loopback")

    async def _life(self, posts: list[Post], plan: Plan) -> None:
        """One receipt after the other, each after its delay.  Retries do not hold up the next one."""
        span = plan.receipts.delay or self._settings.delay
        ordered = posts[::-1] if plan.receipts.reorder else posts
        for copy in range(plan.receipts.copies):
            for step, post in enumerate(ordered):
                await self.pace.sleep(plan.between(span, f"receipt|{copy}|{step}"))
                if post.route.batch > 1:
                    self._collect(post)
                else:
                    await self.deliver(post)

    async def deliver(self, post: Post) -> None:
        """Returns after the first try; the others follow by themselves."""
        await self._first(post.route, [post])

    def _collect(self, post: Post) -> None:
        waiting = self._batches.setdefault(post.route, [])
        waiting.append(post)
        if len(waiting) >= post.route.batch:
            self.begin(self._first(post.route, self._batches.pop(post.route)))
        elif len(waiting) == 1:
            self.begin(self._flush(post.route, waiting))

    async def _flush(self, route: Route, waiting: list[Post]) -> None:
        await asyncio.sleep(route.window)
        if self._batches.get(route) is waiting:
            await self._first(route, self._batches.pop(route))

    async def _first(self, route: Route, posts: list[Post]) -> None:
        now = self.pace.now()
        headers, body = route.pack([post.item(now) for post in posts])
        answer = (await self._outward.exchange(route, headers, body)).answer
        for post in posts:
            self.record(post, 1, answer)
        if route.delays and route.again(answer):
            self.begin(self._retry(route, posts, headers, body))

    async def _retry(self, route: Route, posts: list[Post], headers: Any, body: bytes) -> None:
        for attempt, delay in enumerate(route.delays, start=2):
            await self.pace.sleep(delay)
            answer = (await self._outward.exchange(route, headers, body)).answer
            for post in posts:
                self.record(post, attempt, answer)
            if not route.again(answer):
                return

    def record(self, post: Post, attempt: int, answer: Answer) -> None:
        """One line of the log about one try; attempt 0 says why there was none."""
        self._journal.write(
            Kind.RECEIPT,
            vendor=post.route.vendor.value,
            id=post.id,
            reference=post.reference,
            status=post.status,
            attempt=attempt,
            answer=answer,
        )

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts what `settled` waits for and `stop` ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
