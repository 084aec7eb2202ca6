"""A request as bytes, exactly as it was built, and where they are to go."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from providers.contract import HttpRequest

_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 §5.6.2
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*", re.ASCII)
# How a message is delimited and a connection kept is no adapter's business, and a proxy's login is for the proxy alone.
_OURS: Final = frozenset(
    {"content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer", "proxy-authorization"}
)


class Origin(NamedTuple):
    """Where connections of one kind lead."""

    host: str
    port: int
    tls: bool
    authority: str  # as it stands in the Host header


class Writer:
    """Makes bytes of requests; remembers the origins, which are few."""

    def __init__(self) -> None:
        self._origins: dict[str, Origin] = {}

    def prepare(self, request: HttpRequest) -> tuple[Origin, bytes] | None:
        """The bytes to write and where to; None for what cannot be put on the wire as it is."""
        url = request.url
        if request.method != "POST" or not url.isascii() or not url.isprintable() or " " in url:
            return None
        scheme, _, rest = url.partition("://")
        end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        start, target = f"{scheme}://{rest[:end]}", rest[end:].partition("#")[0]
        origin = self._origins.get(start) or self._origin(start)
        if origin is None:
            return None
        lines = [f"POST {target if target.startswith('/') else '/' + target} HTTP/1.1"]
        own_host = False
        for name, value in request.headers.items():
            if not isinstance(value, str) or not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
                return None
            lower = name.lower()
            if lower in _OURS:
                return None
            own_host = own_host or lower == "host"
            lines.append(f"{name}: {value}")
        if not own_host:
            lines.append(f"host: {origin.authority}")
        lines.append(f"content-length: {len(request.body)}\r\n\r\n")
        return origin, "\r\n".join(lines).encode("latin-1") + request.body

    def _origin(self, start: str) -> Origin | None:
        try:
            parts = urlsplit(start)
            host, port = parts.hostname, parts.port
        except ValueError:
            return None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            return None
        tls = parts.scheme == "https"
        origin = Origin(host, port or (443 if tls else 80), tls, parts.netloc)
        self._origins[start] = origin
        return origin
