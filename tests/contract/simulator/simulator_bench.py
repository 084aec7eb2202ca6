"""What the simulator's tests share: a running simulator with plain clients, and the far end of its receipts."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from gateway.dev.simulator import ReceiptSettings, Simulator
from gateway.dev.simulator.journal import read

QUICK = ReceiptSettings(delay=(0.0, 0.0), retry_scale=0.0005)


@dataclass
class Bench:
    """A running simulator and plain clients for it; the vendors' SDKs have their own tests."""

    simulator: Simulator
    session: aiohttp.ClientSession

    @property
    def base(self) -> str:
        return self.simulator.urls.base

    @property
    def log(self) -> Path:
        return self.simulator.config.log

    def lines(self, kind: str | None = None) -> list[dict[str, Any]]:
        return [line for line in read(self.log) if kind in (None, line["kind"])]

    async def logged(self, kind: str, n: int = 1) -> None:
        """Returns once the log has so many lines of the kind."""
        async with asyncio.timeout(10):
            while len(self.lines(kind)) < n:
                await asyncio.sleep(0.02)

    async def sms(
        self, to: str = "+14155550100", body: str = "M-1", callback: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        secrets = self.simulator.credentials
        form = {"To": to, "From": "+14155550000", "Body": body}
        if callback is not None:
            form["StatusCallback"] = callback
        basic = aiohttp.encode_basic_auth(secrets.twilio_account_sid, secrets.twilio_auth_token)
        url = f"{self.base}/2010-04-01/Accounts/{secrets.twilio_account_sid}/Messages.json"
        headers = {"Authorization": basic, "Content-Type": "application/x-www-form-urlencoded"}
        async with self.session.post(url, data=urlencode(form), headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.headers["Content-Type"] else {"text": text}

    async def control(self, path: str, body: Any) -> tuple[int, Any]:
        async with self.session.post(f"{self.simulator.urls.control}/{path}", json=body) as response:
            return response.status, await response.json()


Start = Callable[..., Awaitable[Bench]]


@dataclass
class Call:
    """One call that reached the far end."""

    url: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class FarEnd:
    """Stands where the gateway would: records every call and answers from `answers`, then 200 with Aliyun's yes."""

    base: str = ""
    calls: list[Call] = field(default_factory=list)
    answers: deque[tuple[int, str, float]] = field(default_factory=deque)  # status, body, seconds before it

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append(Call(self.base + request.raw_path, headers, body, time.monotonic()))
        status, text, wait = self.answers.popleft() if self.answers else (200, '{"code":0,"msg":"ok"}', 0.0)
        await asyncio.sleep(wait)
        return web.Response(status=status, text=text)
