"""What Twilio's Messages and Calls APIs share: Basic authentication, error bodies, and signed webhooks.

Sources: https://www.twilio.com/docs/usage/webhooks/webhooks-security,
https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urldefrag, urlencode, urlsplit

from aiohttp import ClientTimeout

from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.names import Vendor
from gateway.dev.simulator.wire import Answer, Incoming, Refusal, Reply, Route, json_reply

API_VERSION = "2010-04-01"
Packed = tuple[Mapping[str, str], bytes]  # headers and body
_CONNECTING = frozenset({"connect_error", "connect_timeout"})
_READING = frozenset({"timeout", "broken"})


def sign(url: str, params: Iterable[tuple[str, str]], token: str) -> str:
    """The X-Twilio-Signature of a form post: each name sorted, its distinct values sorted, the name before each."""
    text = url + "".join(name + value for name, value in sorted(set(params)))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


def overrides(fragment: str) -> tuple[int, frozenset[str], ClientTimeout]:
    """Retry count, retry policies and timeouts of a callback URL's fragment, within the documented bounds."""
    given = dict(parse_qsl(fragment))

    def number(name: str, low: int, high: int, default: int) -> int:
        value = given.get(name, "")
        return min(max(int(value), low), high) if value.isascii() and value.isdigit() else default

    timeout = ClientTimeout(
        total=number("tt", 100, 15000, 15000) / 1000,
        sock_connect=number("ct", 100, 10000, 5000) / 1000,
        sock_read=number("rt", 100, 15000, 15000) / 1000,
    )
    return number("rc", 0, 5, 1), frozenset(given.get("rp", "ct").split(",")), timeout


def _again(policies: frozenset[str], answer: Answer) -> bool:
    if isinstance(answer, int):
        wanted = {4: "4xx", 5: "5xx"}.get(answer // 100)
        return wanted is not None and bool(policies & {wanted, "all"})
    name = "ct" if answer in _CONNECTING else "rt"
    return answer in _CONNECTING | _READING and bool(policies & {name, "all"})


def split(url: str) -> SplitResult:
    """The parts of a URL; of something that is none, empty parts."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def callable_url(url: str) -> bool:
    """Whether it is an absolute URL that a vendor could call."""
    parts = split(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


class Account:
    """One account with one auth token, or two while it rotates.

    `retry_scale`: real seconds for one second of the retry schedule."""

    def __init__(self, credentials: Credentials, retry_scale: float) -> None:
        self.sid = credentials.twilio_account_sid
        self._scale = retry_scale
        self.promote(credentials.twilio_auth_token)

    def promote(self, token: str, secondary: str | None = None) -> None:
        """Requests are admitted with either token; webhooks are signed with `token`, the primary one."""
        self._token = token
        tokens = [token] if secondary is None else [token, secondary]
        self._authorizations = [b"Basic " + base64.b64encode(f"{self.sid}:{each}".encode()) for each in tokens]

    def path(self, resource: str) -> str:
        return f"/{API_VERSION}/Accounts/{self.sid}/{resource}"

    def admits(self, incoming: Incoming, path: str) -> bool:
        """Whether the request carries this account's sid and one of its tokens, and is for this path."""
        given = incoming.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        return any([hmac.compare_digest(given, each) for each in self._authorizations]) and incoming.path == path

    def refused(self, refusal: Refusal, vendor: Vendor) -> Reply:
        """The documented error body."""
        fault = refusal.fault(vendor)
        code = refusal.code or ""
        body = {
            "code": int(code),
            "message": fault.message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": fault.status,
        }
        return json_reply(fault.status, body, refusal.retry_after)

    def route(self, vendor: Vendor, target: str, pack: Callable[[str, list[Any]], Packed]) -> Route:
        """Where a webhook goes: `target` without its fragment, which says how often and when it is tried again."""
        url, fragment = urldefrag(target)
        return self._route(vendor, url, fragment, "POST", lambda items: pack(url, items))

    def webhook(self, vendor: Vendor, target: str, method: str, form: Mapping[str, str]) -> Route:
        """One request with this form and no other.  By GET the form travels in the query, and is signed there."""
        url, fragment = urldefrag(target)
        token = secrets.token_hex(16)
        if method == "GET":
            url += ("&" if urlsplit(url).query else "?") + urlencode(form)
            packed = self.pack(url, {}, token)
        else:
            packed = self.pack(url, form, token)
        return self._route(vendor, url, fragment, method, lambda _items: packed)

    def pack(self, url: str, form: Mapping[str, str], idempotency: str) -> Packed:
        """Headers and body of a signed post; the idempotency token is that of the first try."""
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "User-Agent": "TwilioProxy/1.1",
            "I-Twilio-Idempotency-Token": idempotency,
            "X-Twilio-Signature": sign(url, form.items(), self._token),
        }
        return headers, urlencode(form).encode()

    def _route(
        self, vendor: Vendor, url: str, fragment: str, method: str, pack: Callable[[list[Any]], Packed]
    ) -> Route:
        retries, policies, timeout = overrides(fragment)
        return Route(
            vendor=vendor,
            url=url,
            pack=pack,
            delays=tuple(self._scale * 2.0**n for n in range(retries)),
            timeout=timeout,
            again=lambda answer: _again(policies, answer),
            method=method,
        )
