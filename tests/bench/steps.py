"""The pure steps of a life, one by one: CPU microseconds for each message.  `make bench ARGS="--only steps"`.

Every message is another one, as in life: a recipient, a reference and an amount of its own.
"""

from __future__ import annotations

import datetime as dt
import gc
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from gateway.content import DEFAULT_TEMPLATES, Catalogue
from gateway.dev.simulator.twilio_account import sign
from gateway.dispatch.pipeline import Job, LenderRoutes, Steps
from gateway.dispatch.provider import Provider
from gateway.dispatch.reserve import Reservation
from gateway.dispatch.transport import Timeouts, Transport
from gateway.ids import IdSource, to_reference
from gateway.intake.decode import Decoder, LenderFacts, Record
from gateway.intake.intake import claimed_of
from gateway.ledger.commands import Request
from gateway.ledger.freezes import Freezes
from gateway.sealing import Sealer
from gateway.worker import Lease
from providers.catalog import discover
from providers.contract import Callback, Context, HttpResponse
from schemas.vocabulary import Channel, Mode
from tests.stack.gateway import requested

_TOKEN: Final = "t0ken"
_URL: Final = "https://gateway.example.com/callbacks/twilio/secret"


class Timed:
    """Runs a step over many items; the cost of the loop itself is taken off."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float]] = []

    def __call__(self, name: str, items: Sequence[Any], step: Callable[[Any], Any]) -> list[Any]:
        gc.collect()
        gc.disable()
        start = time.process_time()
        results = [step(each) for each in items]
        spent = time.process_time() - start
        start = time.process_time()
        for each in items:
            _nothing(each)
        spent -= time.process_time() - start
        gc.enable()
        self.rows.append((name, 1e6 * spent / len(items)))
        return results


def _nothing(_: Any) -> None:
    return None


def measure(n: int) -> list[tuple[str, float]]:
    """(step, CPU microseconds for each message) in the order of a life."""
    timed = Timed()
    sealer = Sealer({1: os.urandom(32)}, 1, os.urandom(32))
    catalogue = Catalogue.load(DEFAULT_TEMPLATES)
    decoder = Decoder(lenders={"acme": LenderFacts("Acme Finance", "en")}, catalogue=catalogue, sealer=sealer)
    ids, now = IdSource(1), dt.datetime.now(dt.UTC)
    records = [Record("requests", 0, n, b"k", msgspec.json.encode(requested(n))) for n in range(n)]
    decoded = timed("decode and seal a request", records, lambda each: decoder.decode(each, ids, now))

    provider = _provider()
    lender = LenderRoutes("Acme Finance", "en", {Channel.SMS: "twilio"})
    steps = Steps(catalogue, sealer, {"acme": lender}, {"twilio": provider}, Mode.LIVE, None)
    lease = Lease(1, time.monotonic() + 60)
    jobs = [_job(each, lease) for each in decoded]
    unfrozen = Freezes({})
    assert timed("decide, route, render, seal", jobs, lambda job: steps.prepare(job, now, unfrozen, ids)) == [None] * n

    context = Context(now, "nonce", None, f"{_URL}/{to_reference(1)}")
    adapter, settings = provider.adapter, provider.settings
    timed("Twilio: build the request", jobs, lambda job: adapter.build_request(job.message, settings, context))
    answers = [HttpResponse(201, {}, b'{"sid":"SM%032x","status":"queued"}' % n) for n in range(n)]
    timed("Twilio: classify the answer", answers, adapter.classify_response)
    callbacks = list(_callbacks(jobs))

    def receive(callback: Callback) -> Any:
        adapter.verify_callback(callback, settings, now)
        return adapter.parse_callback(callback)

    timed("Twilio: verify and parse a receipt", callbacks, receive)
    return timed.rows


def _provider() -> Provider:
    adapter = discover()["twilio_sms"]
    settings = adapter.settings_type.model_validate(
        {"account_sid": "AC" + "0" * 32, "auth_tokens": [_TOKEN], "sender": "+15005550006"}
    )
    timeouts = Timeouts(1, 2, 4)
    return Provider(
        name="twilio",
        adapter=adapter,
        settings=settings,
        timeouts=timeouts,
        reservation=Reservation(10**9, None, None, time.monotonic),
        transport=Transport(timeouts, 1),
        wall_clock=lambda: dt.datetime.now(dt.UTC),
        allowlist=None,
    )


def _job(decoded: Any, lease: Lease) -> Job:
    assert isinstance(decoded.command, Request)
    return Job(claimed_of(decoded.command, 7), lease, decoded.personal)


def _callbacks(jobs: Iterable[Job]) -> Iterable[Callback]:
    for number, job in enumerate(jobs):
        assert job.message is not None
        url = f"{_URL}/{job.message.reference}"
        params = {
            "AccountSid": "AC" + "0" * 32, "ApiVersion": "2010-04-01", "From": "+15005550006",
            "MessageSid": f"SM{number:032x}", "MessageStatus": "delivered", "SmsSid": f"SM{number:032x}",
            "SmsStatus": "delivered", "To": job.message.address,
        }  # fmt: skip
        body = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in params.items()).encode()
        headers = {
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
            "x-twilio-signature": sign(url, params.items(), _TOKEN),
        }
        yield Callback(url, headers, body, job.message.reference)


def show(console: Console, n: int) -> None:
    table = Table("step", "µs of CPU", title="the pure steps, one message each", title_justify="left")
    for name, spent in measure(n):
        table.add_row(name, f"{spent:.1f}")
    console.print(table)
