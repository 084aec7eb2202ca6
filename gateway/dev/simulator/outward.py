"""The simulator's only way out: requests to our own endpoints, which must be on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
from yarl import URL

from gateway.dev.simulator.wire import Answer, Route

MAX_REPLY = 64 * 1024


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


@dataclass(frozen=True, slots=True)
class Heard:
    """What our endpoint answered; of a body that is too big one byte more than MAX_REPLY."""

    answer: Answer
    body: bytes = b""
    content_type: str = ""


class Outward:
    """Calls whatever a route says; who builds the route looks whether it is `near`.  Start before use."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=self._connections)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, route: Route, note: Callable[[int, Answer], None]) -> Heard:
        """A request whose answer is waited for.  Every try is noted; the last one counts."""
        headers, body = route.pack([])
        heard = await self.exchange(route, headers, body)
        note(1, heard.answer)
        for attempt, delay in enumerate(route.delays, start=2):
            if not route.again(heard.answer):
                break
            await asyncio.sleep(delay)
            heard = await self.exchange(route, headers, body)
            note(attempt, heard.answer)
        return heard

    async def exchange(self, route: Route, headers: Any, body: bytes) -> Heard:
        """One try."""
        if self._session is None:
            raise RuntimeError("it was not started")
        try:
            async with self._session.request(
                route.method,
                URL(route.url, encoded=True),
                data=body or None,
                headers=headers,
                timeout=route.timeout,
                allow_redirects=False,
            ) as response:
                content = await _read(response.content)
                return Heard(route.judge(response.status, content), content, response.content_type)
        except aiohttp.ConnectionTimeoutError:
            return Heard("connect_timeout")
        except aiohttp.ClientConnectorError:
            return Heard("connect_error")
        except TimeoutError:
            return Heard("timeout")
        except (aiohttp.ClientError, ValueError, OSError):
            return Heard("broken")


async def _read(content: aiohttp.StreamReader) -> bytes:
    """A body that comes in parts, whole, up to one byte more than MAX_REPLY."""
    body = b""
    while len(body) <= MAX_REPLY and (part := await content.read(MAX_REPLY + 1 - len(body))):
        body += part
    return body
