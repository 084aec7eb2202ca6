"""The operator's endpoints, on the same loopback port as the vendors.

POST /control/script    replaces the script (JSON, see `script`)
POST /control/console   sets what the vendors' consoles know: {"aliyun_url": ..., "aliyun_sms_url": ...,
                        "app_events_url": ..., "twilio_sms_url": ...}
POST /control/reply     a borrower writes back to an SMS (JSON, see `upstream.Letter`): {"id": ..., "sequence_id": n},
                        or 409 as long as the console has no URL for it
POST /control/refuse    {"seconds": s}: connections are refused and open ones reset for that long
GET  /control/log?since=<byte offset>   {"lines": [...], "next": <byte offset>}
GET  /control/stats     counts of log lines by kind, vendor and code, and the receipts and calls under way
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.dev.simulator.console import Console, Entries
from gateway.dev.simulator.courier import Courier
from gateway.dev.simulator.journal import Journal
from gateway.dev.simulator.script import Director, Script, Seconds
from gateway.dev.simulator.upstream import Letter, Upstream

_ANSWER_FIRST = 0.02  # seconds


class _Refuse(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: Seconds


class Control:
    """Answers 400 with the list of problems when a body does not fit."""

    def __init__(
        self,
        journal: Journal,
        director: Director,
        courier: Courier,
        console: Console,
        upstream: Upstream,
        refuse: Callable[[float], None],
    ) -> None:
        self._journal = journal
        self._director = director
        self._courier = courier
        self._console = console
        self._upstream = upstream
        self._refuse = refuse

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/control/script", self._script),
            web.post("/control/console", self._enter),
            web.post("/control/reply", self._reply),
            web.post("/control/refuse", self._refused),
            web.get("/control/log", self._log),
            web.get("/control/stats", self._stats),
        ]

    async def _script(self, request: web.Request) -> web.Response:
        self._director.script = await _body(request, Script)
        return web.json_response({"rules": len(self._director.script.rules)})

    async def _enter(self, request: web.Request) -> web.Response:
        given = await _body(request, Entries)
        self._console.enter(given)
        return web.json_response({"set": sorted(given.model_fields_set)})

    async def _reply(self, request: web.Request) -> web.Response:
        letter = await _body(request, Letter)
        written = self._upstream.write(letter)
        if written is None:
            missing = "aliyun_sms_url" if letter.vendor == "aliyun_sms" else "twilio_sms_url"
            raise web.HTTPConflict(
                text=json.dumps({"errors": [f"{missing} is not set"]}), content_type="application/json"
            )
        return web.json_response({"id": written.id, "sequence_id": written.sequence})

    async def _refused(self, request: web.Request) -> web.Response:
        given = await _body(request, _Refuse)
        # A moment later, so that this answer still gets out.
        asyncio.get_running_loop().call_later(_ANSWER_FIRST, self._refuse, given.seconds)
        return web.json_response({"seconds": given.seconds})

    async def _log(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not (since.isascii() and since.isdigit()):
            raise web.HTTPBadRequest(text=json.dumps({"errors": ["since is a byte offset"]}))
        lines, offset = self._journal.since(int(since))
        return web.json_response({"lines": lines, "next": offset})

    async def _stats(self, _request: web.Request) -> web.Response:
        totals = [
            {"kind": kind, "vendor": vendor, "detail": detail, "lines": n}
            for (kind, vendor, detail), n in sorted(self._journal.totals.items())
        ]
        return web.json_response(
            {"accepted": self._journal.accepted, "pending_receipts": self._courier.pending, "totals": totals}
        )


_Body = TypeVar("_Body", bound=BaseModel)


async def _body(request: web.Request, kind: type[_Body]) -> _Body:
    try:
        return kind.model_validate_json(await request.read())
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise web.HTTPBadRequest(text=json.dumps({"errors": problems}), content_type="application/json") from None
