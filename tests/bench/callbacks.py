"""Durable callbacks a second: the gateway's endpoint against an aiohttp handler that does nothing.

The callbacks are signed, distinct, and each is the first receipt of an attempt that waits for it: the gateway stores it
before it answers, and then moves the reminder and tells Kafka in the same process.  Load: the receipt sender.
"""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import urlencode

import msgspec

from gateway.dev.host import free_port
from gateway.dev.process import Child
from tests.bench.contestants import Gateway
from tests.bench.counters import ACCEPTED, ANSWERED, HOLD
from tests.bench.measure import Cpu, rate, settled
from tests.bench.stage import Stage, listens
from tests.stack.gateway import requested

_SIGNING_PER_SECOND = 8_000


class CallbackRound(msgspec.Struct):
    gateway_per_second: float
    empty_per_second: float
    gateway_us: float
    empty_us: float
    others_percent: float

    @property
    def ratio(self) -> float:
        return self.gateway_per_second / self.empty_per_second


async def measure_callbacks(stage: Stage, n: int) -> CallbackRound:
    counters = stage.counters
    counters[HOLD] = 1
    try:
        async with Gateway(stage) as gateway:
            base = counters[ACCEPTED]
            await stage.publish(gateway.topics.requests, map(requested, range(n)))
            await rate(lambda: counters[ACCEPTED] - base, n, gateway.child)
            await settled(lambda: gateway.awaiting(n), gateway.child)
            await stage.postgres.execute("checkpoint")
            ours, ours_us, others = await _blast(stage, n, gateway.child)
            await settled(lambda: gateway.done(n), gateway.child)
        port = free_port()
        child = stage.child("empty", "tests.bench.empty_handler", port)
        try:
            await child.ready(lambda: listens(port), within=20)
            await _tell_sender(stage, n, port)
            empty, empty_us, _ = await _blast(stage, n, child)
        finally:
            await child.stop()
    finally:
        counters[HOLD] = 0
    return CallbackRound(ours, empty, ours_us, empty_us, others)


async def _tell_sender(stage: Stage, n: int, port: int) -> None:
    """What the provider would tell it, with addresses of the same shape."""
    _, writer = await asyncio.open_unix_connection(stage.receipts_socket)
    url = f"http://127.0.0.1:{port}/callbacks/twilio/{secrets.token_urlsafe(24)}"
    for number in range(n):
        form = {"To": f"+86139{number:08d}", "From": "+15005550006", "StatusCallback": f"{url}/{number:013d}"}
        writer.write(f"SM{number:032x} {urlencode(form)}\n".encode())
    await writer.drain()
    writer.close()
    await asyncio.sleep(n / _SIGNING_PER_SECOND + 0.5)


async def _blast(stage: Stage, n: int, child: Child) -> tuple[float, float, float]:
    """Callbacks a second, CPU microseconds of the process for each, and the noise."""
    counters = stage.counters
    base, start = counters[ANSWERED], Cpu.now(stage, child)
    counters[HOLD] = 0
    per_second = await rate(lambda: counters[ANSWERED] - base, n, child)
    end = Cpu.now(stage, child)
    counters[HOLD] = 1
    return per_second, 1e6 * (end.process - start.process) / n, end.others_since(start)
