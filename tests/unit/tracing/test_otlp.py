"""The export on a real socket: what a collector gets, and that nobody waits for one that is away, slow or full."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry

from gateway.tracing import Context, Field, Kind, Span, SpanName
from gateway.tracing.otlp import Export
from tests.stack.collector import Collector, collector

CAME = Context("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)
NUMBERS = itertools.count(1)


def span(**changes: Any) -> Span:
    values: dict[str, Any] = {
        "name": SpanName.SEND,
        "kind": Kind.CLIENT,
        "context": CAME._replace(span=f"{next(NUMBERS):016x}"),
        "parent": CAME,
        "began": 1_700_000_000_000_000_000,
        "ended": 1_700_000_000_500_000_000,
        "attributes": {Field.PROVIDER: "texts", Field.OFFSET: 7},
        "steps": (("intended", 1_700_000_000_100_000_000),),
    }
    return Span(**(values | changes))


class Counted:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def __getitem__(self, outcome: str) -> int:
        value = self._registry.get_sample_value("reminder_gateway_spans_total", {"outcome": outcome})
        assert value is not None
        return int(value)

    @property
    def all(self) -> dict[str, int]:
        return {each: self[each] for each in ("exported", "dropped", "failed")}


@asynccontextmanager
async def exporting(
    url: str, headers: dict[str, str] | None = None, queue: int = 2048, ca_file: Path | None = None
) -> AsyncIterator[tuple[Export, Counted]]:
    registry = CollectorRegistry()
    export = Export(url, headers or {}, ca_file, "gw", "1", registry, queue, delay_seconds=0.05)
    try:
        yield export, Counted(registry)
    finally:
        await export.stop(0.5)


async def until(probe: Callable[[], object], what: str, within: float = 20) -> None:
    end = time.monotonic() + within
    while not probe():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


async def test_what_a_collector_gets() -> None:
    with collector() as there:
        async with exporting(there.url, {"api-key": "k" * 30}) as (export, counted):
            export(span())
            export(span(name=SpanName.INTAKE, kind=Kind.CONSUMER, parent=None, failed=True, steps=()))
            await export.stop(10)
        one, other = there.spans()
        assert (one.name, one.kind, one.trace, one.parent) == ("send", "client", CAME.trace, CAME.span)
        assert (one.seconds, one.steps, one.failed, one.service) == (0.5, ("intended",), False, "gw")
        assert one.attributes == {"reminder.provider": "texts", "messaging.kafka.offset": 7}
        assert (other.name, other.kind, other.parent, other.failed) == ("intake", "consumer", "", True)
        assert counted.all == {"exported": 2, "dropped": 0, "failed": 0}
        headers = {name.lower(): value for name, value in there.requests[0][0].items()}
        assert headers["api-key"] == "k" * 30


async def test_new_headers_count_from_the_next_batch() -> None:
    with collector() as there:
        async with exporting(there.url, {"api-key": "old"}) as (export, _):
            export(span())
            await until(there.spans, "the first")
            export.renew({"api-key": "new"})
            export(span())
            await until(lambda: len(there.requests) == 2, "the second")
        assert [headers.get("api-key") for headers, _ in there.requests] == ["old", "new"]


async def hands_over(export: Export, n: int) -> float:
    """The longest that one span has kept the loop."""
    longest = 0.0
    for _ in range(n):
        began = time.perf_counter()
        export(span())
        longest = max(longest, time.perf_counter() - began)
    return longest


def nobody_listens() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1/traces"


async def test_a_collector_that_is_away_costs_nobody_anything(capsys: pytest.CaptureFixture[str]) -> None:
    async with exporting(nobody_listens(), queue=100) as (export, counted):
        await hands_over(export, 1000)
        assert counted["dropped"] >= 1000 - 100 - 1
        began = time.monotonic()
        await export.stop(1.0)
        assert time.monotonic() - began < 5
        assert sum(counted.all.values()) >= 1000
        assert counted["exported"] == 0
    said = capsys.readouterr()
    assert "127.0.0.1" not in said.out + said.err


async def test_a_collector_that_hangs_delays_neither_a_span_nor_the_end() -> None:
    with collector() as there:
        there.hang = 60
        async with exporting(there.url, queue=50) as (export, counted):
            export(span())
            await until(lambda: there.asked, "the first batch under way")
            assert await hands_over(export, 500) < 1, "the loop is kept"
            assert counted["dropped"] >= 450
            began = time.monotonic()
            await export.stop(1.0)
            assert time.monotonic() - began < 3
            assert sum(counted.all.values()) == 501


async def test_one_that_comes_back_gets_what_follows() -> None:
    def refusing(there: Collector, status: int) -> None:
        there.status = status

    with collector() as there:
        refusing(there, 400)
        async with exporting(there.url) as (export, counted):
            export(span())
            await until(lambda: counted["failed"] == 1, "the refusal")
            refusing(there, 200)
            export(span())
            await until(lambda: counted["exported"] == 1, "the next one")
        assert len(there.spans()) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that signs itself, with its key: nobody trusts it who was not told to."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "collector.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


async def test_by_tls_only_to_whom_the_authority_has_signed(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment has for other programs."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with collector(certificate) as there:
        async with exporting(there.url, ca_file=certificate) as (export, counted):
            export(span())
            await until(lambda: counted["exported"] == 1, "the span")
        async with exporting(there.url) as (export, counted):
            export(span())
            await until(lambda: counted["failed"] == 1, "the refusal")
        assert len(there.spans()) == 1


async def test_a_span_that_cannot_be_made_is_counted_and_raises_nothing() -> None:
    with collector() as there:
        async with exporting(there.url) as (export, counted):
            export(span(context=CAME._replace(span="no hex")))
            assert counted["dropped"] == 1
            export(span())
            await until(lambda: counted["exported"] == 1, "the next one")


async def test_what_comes_after_the_end_is_dropped() -> None:
    with collector() as there:
        async with exporting(there.url) as (export, counted):
            await export.stop(5)
            export(span())
            assert counted.all == {"exported": 0, "dropped": 1, "failed": 0}
