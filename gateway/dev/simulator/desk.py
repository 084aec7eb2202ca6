"""The desk every request passes, whatever the vendor: read, decide, log, and only then answer, well or badly."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from gateway.dev.simulator.calls import Switchboard
from gateway.dev.simulator.courier import Courier
from gateway.dev.simulator.journal import Journal
from gateway.dev.simulator.names import Action, Kind
from gateway.dev.simulator.script import Director, Plan
from gateway.dev.simulator.wire import Incoming, Order, Refusal, Reply, Wire, bare

_GLANCE = 0.05  # how often a held connection is looked at, in seconds
_RST = struct.pack("ii", 1, 0)  # linger on, zero seconds: closing sends a reset


class Desk:
    """Holds what all vendors share."""

    def __init__(
        self, journal: Journal, director: Director, courier: Courier, switchboard: Switchboard, marker: str
    ) -> None:
        self.director = director
        self._journal = journal
        self._courier = courier
        self._switchboard = switchboard
        self._marker = re.compile(marker)
        self.closing = asyncio.Event()

    async def serve(self, wire: Wire, request: web.Request) -> web.StreamResponse:
        """One request from first byte to last."""
        body = await request.read()
        path, _, query = request.raw_path.partition("?")
        incoming = Incoming(request.method, path, query, request.headers, body, self._courier.pace.now())
        order = wire.read(incoming)
        if isinstance(order, Refusal):
            self._journal.write(Kind.REFUSED, vendor=wire.vendor.value, code=order.code, nonce=order.nonce)
            return _response(wire.refused(order))
        plan = self.director.decide(wire.vendor, order.recipient)
        if plan.action in (Action.STALL, Action.DROP):
            self._journal.write(Kind.DROPPED, **_who(wire, order, plan), marker=self._find(order))
            if plan.action is Action.STALL:
                await self._hold(request, plan.rule.seconds)
            return _cut(request)
        reply = self._settle(wire, order, plan, incoming.now)
        if plan.latency:
            await asyncio.sleep(plan.latency)
        return await self._answer(request, plan, reply)

    def _settle(self, wire: Wire, order: Order, plan: Plan, now: datetime) -> Reply:
        """Accepts or refuses for good.  Nothing here waits, so nothing can come between the log and the receipts."""
        rule = plan.rule
        error = None
        if plan.action is Action.ERROR:
            error = Refusal(rule.code, rule.status, retry_after=rule.retry_after)
        if error is not None and not rule.after_accept:
            code = error.code or f"http_{error.status}"
            self._journal.write(Kind.REFUSED, **_who(wire, order, plan), marker=self._find(order), code=code)
            return _refused(wire, error)
        reply = self._accept(wire, order, plan, now)
        return reply if error is None else _refused(wire, error)

    def _accept(self, wire: Wire, order: Order, plan: Plan, now: datetime) -> Reply:
        serial = f"{self._journal.salt}|{self._journal.accepted + 1}"
        if order.kind is not Kind.ACCEPTED:
            self._journal.write(order.kind, **_who(wire, order, plan))
            return wire.accepted(order, wire.message_id(bytes(16)), now)
        message_id = wire.message_id(hashlib.blake2b(serial.encode(), digest_size=16).digest())
        self._journal.write(
            Kind.ACCEPTED,
            **_who(wire, order, plan),
            id=message_id,
            text_or_template=order.text_or_template,
            params=order.params,
            marker=self._find(order),
            replaces=order.replaces,
        )
        self._courier.send(wire.posts(order, message_id, plan.receipts), plan)
        if order.call is not None:
            self._switchboard.dial(order, order.call, message_id, plan)
        return wire.accepted(order, message_id, now)

    async def _answer(self, request: web.Request, plan: Plan, reply: Reply) -> web.StreamResponse:
        match plan.action:
            case Action.HANG:
                await self._hold(request, plan.rule.seconds)
                return _cut(request)
            case Action.RESET:
                return _cut(request)
            case Action.TRUNCATE:
                half = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
                half.content_length = len(reply.body)
                half.force_close()
                await half.prepare(request)
                await half.write(reply.body[: len(reply.body) // 2])
                if request.transport is not None:
                    request.transport.close()
                return half
            case _:
                return _response(reply)

    async def _hold(self, request: web.Request, seconds: float) -> None:
        """Keeps silent until the time is up, the client hangs up or the simulator stops."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            transport = request.transport
            if transport is None or transport.is_closing() or self.closing.is_set():
                return
            await asyncio.sleep(min(left, _GLANCE))

    def _find(self, order: Order) -> str | None:
        for text in (order.text_or_template, *_strings(order.params)):
            if found := self._marker.search(text):
                return found.group()
        return None


def _who(wire: Wire, order: Order, plan: Plan) -> dict[str, Any]:
    return {
        "vendor": wire.vendor.value,
        "recipient": order.recipient,
        "reference": order.reference,
        "action": plan.action.value,
        "turn": plan.turn,
        "rules": plan.rules,
        "nonce": order.nonce,
    }


def _strings(value: Any) -> Iterator[str]:
    """Every string inside, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _refused(wire: Wire, refusal: Refusal) -> Reply:
    return bare(refusal) if refusal.code is None else wire.refused(refusal)


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)


def _cut(request: web.Request) -> web.Response:
    """Resets the connection; whatever is returned afterwards goes nowhere."""
    reset(request.transport)
    return web.Response()


def reset(transport: asyncio.Transport | None) -> None:
    """Ends a connection with a reset instead of a close."""
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        transport.abort()
