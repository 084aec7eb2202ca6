"""Aliyun's V3 request signature, checked from its documentation.

Source: https://help.aliyun.com/document_detail/2593177.html (request syntax and signature method V3).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import deque
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from multidict import CIMultiDictProxy

from gateway.dev.simulator.wire import Incoming

ALGORITHM = "ACS3-HMAC-SHA256"
CLOCK = timedelta(minutes=15)
_AUTHORIZATION = re.compile(
    ALGORITHM
    + r" Credential=(?P<key>[0-9A-Za-z.]+),SignedHeaders=(?P<names>[a-z0-9;-]+),Signature=(?P<mac>[0-9a-f]{64})"
)
_REQUIRED = frozenset({"host", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"})
_ESCAPE = re.compile(r"%(?![0-9A-F]{2})")


def canonical_query(query: str) -> str | None:
    """The query sorted and encoded by RFC 3986; None when it cannot be decoded, or escapes other than by %XX."""
    if _ESCAPE.search(query):
        return None
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        return None
    return "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(pairs))


def signature(
    method: str, path: str, query: str, headers: CIMultiDictProxy[str], names: list[str], digest: str, secret: str
) -> str:
    """The signature over a canonical query, the named headers and the hex SHA-256 of the body."""
    lines = "".join(f"{name}:{','.join(sorted(v.strip() for v in headers.getall(name)))}\n" for name in names)
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{';'.join(names)}\n{digest}"
    hashed = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return hmac.digest(secret.encode(), f"{ALGORITHM}\n{hashed}".encode(), "sha256").hex()


def check(incoming: Incoming, key_id: str, secret: str) -> str | None:
    """None for an authentic, fresh request; otherwise Aliyun's error code.  The nonce is not judged here."""
    headers = incoming.headers
    match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    query = canonical_query(incoming.query)
    if match is None or query is None:
        return "IncompleteSignature"
    if match["key"] != key_id:
        return "InvalidAccessKeyId.NotFound"
    names = match["names"].split(";")
    # Every public header that is present must be signed, and so must the type of a body.
    public = {name.lower() for name in headers if name.lower().startswith("x-acs-")}
    demanded = _REQUIRED | public | ({"content-type"} if incoming.body else set())
    if names != sorted(set(names)) or not demanded <= set(names) or any(name not in headers for name in names):
        return "IncompleteSignature"
    digest = hashlib.sha256(incoming.body).hexdigest()
    expected = signature(incoming.method, incoming.path, query, headers, names, digest, secret)
    if headers["x-acs-content-sha256"] != digest or not hmac.compare_digest(expected, match["mac"]):
        return "SignatureDoesNotMatch"
    try:
        date = datetime.strptime(headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "InvalidTimeStamp.Format"
    return None if abs(incoming.now - date) <= CLOCK else "InvalidTimeStamp.Expired"


class Nonces:
    """Nonces seen while a request carrying them could still be fresh."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._order: deque[tuple[datetime, str]] = deque()

    def fresh(self, nonce: str, now: datetime) -> bool:
        """Remembers the nonce; False when it was there before."""
        while self._order and self._order[0][0] < now - 2 * CLOCK:
            self._seen.discard(self._order.popleft()[1])
        if nonce in self._seen:
            return False
        self._seen.add(nonce)
        self._order.append((now, nonce))
        return True
