"""A collector of the tests' own: OTLP over HTTP as the wire has it, read with the protocol's own messages."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire


@dataclass(frozen=True)
class Seen:
    """One span as it came."""

    name: str
    kind: str
    trace: str
    span: str
    parent: str
    seconds: float
    attributes: dict[str, Any]
    steps: tuple[str, ...]
    failed: bool
    service: str


@dataclass
class Collector:
    """Answers `status`; hangs for `hang` seconds before that."""

    url: str
    status: int = 200
    hang: float = 0.0
    asked: int = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def spans(self, trace: str | None = None) -> list[Seen]:
        """Every span so far, of one trace if asked."""
        return [each for _, body in list(self.requests) for each in _read(body) if trace in (None, each.trace)]

    def everything(self) -> bytes:
        """All that has come, to look for words in."""
        return b"\n".join(str(headers).encode() + body for headers, body in list(self.requests))


def _read(body: bytes) -> Iterator[Seen]:
    message = ExportTraceServiceRequest.FromString(body)
    for resource in message.resource_spans:
        of = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    name=span.name,
                    kind=Wire.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    trace=span.trace_id.hex(),
                    span=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    attributes={each.key: _value(each.value) for each in span.attributes},
                    steps=tuple(each.name for each in span.events),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    service=of["service.name"],
                )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def collector(certificate: Path | None = None) -> Iterator[Collector]:
    """A running one; by TLS with a certificate, in one file with its key."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            here.asked += 1
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if here.hang:
                here.released.wait(here.hang)
            if here.status == 200:
                assert self.path == "/v1/traces"
                here.requests.append((dict(self.headers.items()), body))
            answer = ExportTraceServiceResponse().SerializeToString()
            try:
                self.send_response(here.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                self.close_connection = True  # nobody waits for it any more

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificate is None else "https"
    here = Collector(f"{scheme}://127.0.0.1:{server.server_address[1]}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
