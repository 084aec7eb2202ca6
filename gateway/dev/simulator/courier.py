"""Carries receipts to the gateway as the vendors do: late, in batches, again and again; and as the script orders."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import aiohttp
from yarl import URL

from gateway.dev.simulator.config import ReceiptSettings
from gateway.dev.simulator.journal import Journal
from gateway.dev.simulator.names import Kind
from gateway.dev.simulator.script import Plan
from gateway.dev.simulator.wire import Answer, Post, Route

_MAX_REPLY = 64 * 1024


@lru_cache
def near(url: str) -> bool:
    """Whether a URL points at this machine.  A simulator that called anything else could reach a real system."""
    try:
        host = URL(url, encoded=True).host or ""
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Courier:
    """Calls loopback only.  Start before use.  Receipts still under way when it stops are lost."""

    def __init__(self, journal: Journal, settings: ReceiptSettings) -> None:
        self._journal = journal
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: dict[Route, list[Post]] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def pending(self) -> int:
        return len(self._tasks)

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=self._settings.connections)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

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
                self._record(post, 0, kept)
            return
        self._spawn(self._life(posts, plan))

    def carry(self, post: Post) -> None:
        """Takes one along that no message of ours asked for: at once, in the next call of its route."""
        if near(post.route.url):
            self._collect(post)
        else:
            self._record(post, 0, "not_loopback")

    async def _life(self, posts: list[Post], plan: Plan) -> None:
        """One receipt after the other, each after its delay.  Retries do not hold up the next one."""
        span = plan.receipts.delay or self._settings.delay
        ordered = posts[::-1] if plan.receipts.reorder else posts
        for copy in range(plan.receipts.copies):
            for step, post in enumerate(ordered):
                await asyncio.sleep(plan.between(span, f"receipt|{copy}|{step}"))
                if post.route.batch > 1:
                    self._collect(post)
                else:
                    await self._first(post.route, [post])

    def _collect(self, post: Post) -> None:
        waiting = self._batches.setdefault(post.route, [])
        waiting.append(post)
        if len(waiting) >= post.route.batch:
            self._spawn(self._first(post.route, self._batches.pop(post.route)))
        elif len(waiting) == 1:
            self._spawn(self._flush(post.route, waiting))

    async def _flush(self, route: Route, waiting: list[Post]) -> None:
        await asyncio.sleep(route.window)
        if self._batches.get(route) is waiting:
            await self._first(route, self._batches.pop(route))

    async def _first(self, route: Route, posts: list[Post]) -> None:
        now = datetime.now(UTC)
        headers, body = route.pack([post.item(now) for post in posts])
        answer = await self._call(route, headers, body)
        for post in posts:
            self._record(post, 1, answer)
        if route.delays and route.again(answer):
            self._spawn(self._retry(route, posts, headers, body))

    async def _retry(self, route: Route, posts: list[Post], headers: Any, body: bytes) -> None:
        for attempt, delay in enumerate(route.delays, start=2):
            await asyncio.sleep(delay)
            answer = await self._call(route, headers, body)
            for post in posts:
                self._record(post, attempt, answer)
            if not route.again(answer):
                return

    async def _call(self, route: Route, headers: Any, body: bytes) -> Answer:
        if self._session is None:
            raise RuntimeError("the courier was not started")
        try:
            async with self._session.post(
                URL(route.url, encoded=True), data=body, headers=headers, timeout=route.timeout, allow_redirects=False
            ) as response:
                return route.judge(response.status, await response.content.read(_MAX_REPLY))
        except aiohttp.ConnectionTimeoutError:
            return "connect_timeout"
        except aiohttp.ClientConnectorError:
            return "connect_error"
        except TimeoutError:
            return "timeout"
        except (aiohttp.ClientError, ValueError, OSError):
            return "broken"

    def _record(self, post: Post, attempt: int, answer: Answer) -> None:
        self._journal.write(
            Kind.RECEIPT,
            vendor=post.route.vendor.value,
            id=post.id,
            reference=post.reference,
            status=post.status,
            attempt=attempt,
            answer=answer,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
