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
from urllib.parse import parse_qsl, urlencode

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
        form = {"To": to, "From": "+14155550000", "Body": body}
        if callback is not None:
            form["StatusCallback"] = callback
        return await self._twilio("Messages", form)

    async def call(self, twiml: str = "<Response/>", to: str = "+14155550100", **fields: Any) -> tuple[int, Any]:
        """One call by Twilio; a field without a value is left out."""
        form = {"To": to, "From": "+14155550000", "Twiml": twiml, **fields}
        return await self._twilio("Calls", {name: value for name, value in form.items() if value})

    async def _twilio(self, resource: str, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        secrets = self.simulator.credentials
        basic = aiohttp.encode_basic_auth(secrets.twilio_account_sid, secrets.twilio_auth_token)
        url = f"{self.base}/2010-04-01/Accounts/{secrets.twilio_account_sid}/{resource}.json"
        headers = {"Authorization": basic, "Content-Type": "application/x-www-form-urlencoded"}
        async with self.session.post(url, data=urlencode(form, doseq=True), headers=headers) as response:
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
    method: str = "POST"

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), strict_parsing=True, keep_blank_values=True))


@dataclass
class FarEnd:
    """Stands where the gateway would: records every call and answers from `answers`, then 200 with Aliyun's yes.

    What asks under /twiml gets the next of `documents`; those calls are recorded in `asked`.
    """

    base: str = ""
    calls: list[Call] = field(default_factory=list)
    answers: deque[tuple[int, str, float]] = field(default_factory=deque)  # status, body, seconds before it
    asked: list[Call] = field(default_factory=list)
    documents: deque[str | web.Response] = field(default_factory=deque)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(self.base + request.raw_path, headers, body, time.monotonic(), request.method)
        if request.path.startswith("/twiml"):
            self.asked.append(call)
            document = self.documents.popleft() if self.documents else web.Response(status=404)
            return web.Response(text=document, content_type="text/xml") if isinstance(document, str) else document
        self.calls.append(call)
        status, text, wait = self.answers.popleft() if self.answers else (200, '{"code":0,"msg":"ok"}', 0.0)
        await asyncio.sleep(wait)
        return web.Response(status=status, text=text)
