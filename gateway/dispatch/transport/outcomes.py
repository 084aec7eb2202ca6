"""What may become of a request on the wire, and how long it is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from providers.contract import HttpResponse


class Wire(StrEnum):
    """What went wrong on the wire; values are attempt codes."""

    REFUSED = "connect_refused"
    DNS = "dns_failure"
    TLS = "tls_failure"
    CONNECT_TIMEOUT = "connect_timeout"
    PROXY_UNREACHABLE = "proxy_unreachable"
    PROXY_LOGIN = "proxy_login_refused"
    PROXY_REFUSED = "proxy_refused"  # whatever else it says, or that is no answer
    READ_TIMEOUT = "read_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    DISCONNECTED = "disconnected"
    GARBLED = "garbled_answer"
    TOO_LARGE = "answer_too_large"
    CANCELLED = "cancelled"
    NO_TOKEN = "no_token"  # noqa: S105  a code
    BAD_REQUEST = "unsendable_request"
    CANNOT_REACH = "cannot_reach"  # this provider, this address
    NOT_ALLOWLISTED = "not_allowlisted"  # mode allowlist
    NOT_LOOPBACK = "not_loopback"  # mode simulate


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proof that no byte of the request left."""

    wire: Wire


@dataclass(frozen=True, slots=True)
class MaybeSent:
    """Bytes may have left and no readable answer came."""

    wire: Wire


Answer = HttpResponse | NotSent | MaybeSent


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds.  `connect` bounds the wait for a connection, `read` every silence of the provider, `total` both."""

    connect: float
    read: float
    total: float
