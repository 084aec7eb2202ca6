"""Fixtures of the contract suite: `case` for each discovered adapter, and a loopback server to catch real requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.contract.case import ADAPTERS, Case, load_case


@pytest.fixture(params=sorted(ADAPTERS))
def case(request: pytest.FixtureRequest) -> Case:
    return load_case(request.param)


@dataclass
class Caught:
    """A request as it arrived.  Header names are lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Loopback:
    """Answers every request with `answer`, `headers` added, and keeps it in `caught`."""

    base: str
    host: str
    answer: tuple[int, bytes] = (200, b"{}")
    headers: dict[str, str] = field(default_factory=dict)
    caught: list[Caught] = field(default_factory=list)


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.caught.append(Caught(self.command, self.path, headers, body))
            status, answer = seen.answer
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            for name, value in seen.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        host = f"127.0.0.1:{server.server_port}"
        seen = Loopback(f"http://{host}", host)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield seen
        server.shutdown()
        thread.join()
