"""Spans to a collector, by OTLP over HTTP: the only module that knows OpenTelemetry, which is an extra.

It never keeps anybody waiting: a span is put into a bounded queue, from which a thread of the SDK sends.  What finds
the queue full is dropped and counted, what the collector does not take too; that and a line in the log is all one hears
of a collector that is away.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry

from gateway.observability.counts import Counts
from gateway.observability.logs import get_logger
from gateway.observability.metrics import NAMESPACE
from gateway.tracing.context import Context
from gateway.tracing.spans import Kind, Span

log = get_logger(__name__)

QUEUE: Final = 2048  # spans, waiting and under way
_BATCH: Final = 256
_TIMEOUT_SECONDS: Final = 5.0
_DELAY_SECONDS: Final = 1.0
_SAY_EVERY_SECONDS: Final = 60.0
_SCOPE: Final = InstrumentationScope("gateway.tracing")
_KINDS: Final = {kind: SpanKind[kind.name] for kind in Kind}
_ERROR: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)


class Export:
    """Where spans go.  Call it with each from the event loop's thread; `stop` it in the end."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        ca_file: Path | None,
        service: str,
        version: str,
        registry: CollectorRegistry,
        queue: int = QUEUE,
        delay_seconds: float = _DELAY_SECONDS,
    ) -> None:
        # What the SDK has to say is counted and said here; its words may quote a URL.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
        self._counts = Counts(
            registry,
            f"{NAMESPACE}_spans",
            "Spans, by what became of them: exported, dropped (the queue was full), failed (the collector took none).",
            ("outcome",),
            (("exported",), ("dropped",), ("failed",)),
        )
        self._resource = Resource.create({SERVICE_NAME: service, SERVICE_VERSION: version})
        self._exporter = _Exporter(lambda given: _otlp(endpoint, given, ca_file), headers, self._counts)
        self._room = queue
        self._handed = 0
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=queue,
            schedule_delay_millis=delay_seconds * 1000,
            max_export_batch_size=min(_BATCH, queue),
        )
        self._stopped = False

    def __call__(self, span: Span) -> None:
        """Queues it, or drops it when there is no room."""
        if self._stopped or self._handed - self._exporter.done >= self._room:
            self._counts[("dropped",)] += 1
            return
        try:
            self._processor.on_end(self._readable(span))
        except Exception as error:  # whatever it is, it is no reason to hold up a reminder
            self._counts[("dropped",)] += 1
            log.error("span_lost", exc_info=error)
        else:
            self._handed += 1

    def renew(self, headers: Mapping[str, str]) -> None:
        """The next batch goes with these headers."""
        self._exporter.renew(headers)

    async def stop(self, seconds: float) -> None:
        """Sends what is queued, as far as it goes in these seconds; the rest is counted as dropped."""
        self._stopped = True
        # Not the loop's own threads: at its end those are waited for, however long a collector hangs.
        loop, flushed = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(flushed.set)

        threading.Thread(target=flush, name="spans-flush", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(flushed.wait(), seconds * 0.8)
        if left := self._handed - self._exporter.done:
            self._counts[("dropped",)] += left
            log.warning("spans_left_behind", n=left)

    def _readable(self, span: Span) -> ReadableSpan:
        """Made after the fact, for its ids have stood on a row since before: the SDK's tracer would make others."""
        return ReadableSpan(
            name=span.name.value,
            context=_context(span.context, remote=False),
            parent=None if span.parent is None else _context(span.parent, remote=True),
            resource=self._resource,
            attributes={field.value: value for field, value in span.attributes.items()},
            events=[Event(name, timestamp=at) for name, at in span.steps],
            kind=_KINDS[span.kind],
            status=_ERROR if span.failed else _UNSET,
            start_time=span.began,
            end_time=span.ended,
            instrumentation_scope=_SCOPE,
        )


class _Exporter(SpanExporter):
    """The SDK's exporter, counted.  `done` are the spans that have left the queue, one way or the other."""

    def __init__(
        self, make: Callable[[Mapping[str, str]], SpanExporter], headers: Mapping[str, str], counts: Counts
    ) -> None:
        self.done = 0
        self._make = make
        self._inner = make(headers)
        self._counts = counts
        self._said_at: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            good = result is SpanExportResult.SUCCESS
            self._counts["exported" if good else "failed",] += len(spans)
            self.done += len(spans)
            if not good:
                self._say(len(spans))
        return result

    def renew(self, headers: Mapping[str, str]) -> None:
        was, self._inner = self._inner, self._make(headers)
        with suppress(Exception):
            was.shutdown()

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True

    def _say(self, n: int) -> None:
        """Once a minute: it is nobody's emergency."""
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= _SAY_EVERY_SECONDS:
            self._said_at = now
            log.warning("spans_not_exported", n=n)


def _otlp(endpoint: str, headers: Mapping[str, str], ca_file: Path | None) -> SpanExporter:
    session = requests.Session()
    session.trust_env = False  # else a variable for other programs would take the place of `ca_file`, or add a login
    certificate = None if ca_file is None else str(ca_file)
    return OTLPSpanExporter(endpoint, certificate, headers=dict(headers), timeout=_TIMEOUT_SECONDS, session=session)


def _context(context: Context, *, remote: bool) -> SpanContext:
    return SpanContext(int(context.trace, 16), int(context.span, 16), remote, TraceFlags(context.flags))
