"""The values that pass between the desk, which is the same for every vendor, and the vendors' own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec
from aiohttp import ClientTimeout
from multidict import CIMultiDictProxy

from gateway.dev.simulator.codes import FAULTS
from gateway.dev.simulator.dial import Dial
from gateway.dev.simulator.fault import Fault
from gateway.dev.simulator.names import Kind, Vendor
from gateway.dev.simulator.script import ReceiptPlan


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it came: path and query undecoded."""

    method: str
    path: str
    query: str
    headers: CIMultiDictProxy[str]
    body: bytes
    now: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """A request that passed the vendor's own checks."""

    recipient: str
    reference: str | None = None
    text_or_template: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.ACCEPTED
    replaces: str | None = None  # a later message with the same value takes its place on the screen
    nonce: str | None = None
    call: Dial | None = None  # what follows is a call that tells its own life
    form: Mapping[str, str] = field(default_factory=dict, repr=False)  # what the vendor needs to answer and report


@dataclass(frozen=True, slots=True)
class Refusal:
    """A vendor's no.  Without a code it is a bare HTTP error, as a proxy in front of the vendor would give."""

    code: str | None
    status: int | None = None
    message: str | None = None
    retry_after: float | None = None
    nonce: str | None = None

    def fault(self, vendor: Vendor) -> Fault:
        known = FAULTS[vendor].get(self.code or "", Fault(self.status or 500, "Error"))
        return Fault(self.status or known.status, self.message or known.message, known.canonical)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


def json_reply(status: int, value: Any, retry_after: float | None = None) -> Reply:
    """An answer in JSON; `retry_after` in seconds becomes the header of RFC 9110."""
    headers = {"Content-Type": "application/json;charset=utf-8"}
    if retry_after is not None:
        headers["Retry-After"] = f"{retry_after:g}"
    return Reply(status, headers, msgspec.json.encode(value))


Answer = int | str  # an HTTP status, or why there is none


@dataclass(frozen=True, slots=True)
class Route:
    """How and where receipts go.  Receipts of one route may share a call, up to `batch`.

    `delays`: seconds before each retry.  `again` says whether an answer calls for one, `judge` turns an HTTP answer
    into an Answer.
    """

    vendor: Vendor
    url: str = field(repr=False)
    pack: Callable[[list[Any]], tuple[Mapping[str, str], bytes]]
    delays: tuple[float, ...]
    timeout: ClientTimeout
    again: Callable[[Answer], bool]
    judge: Callable[[int, bytes], Answer] = lambda status, _body: status
    batch: int = 1
    window: float = 0.0
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Post:
    """One receipt: `item` builds its content at the moment it is due."""

    route: Route
    id: str
    reference: str | None
    status: str
    item: Callable[[datetime], Any]


class Wire(Protocol):
    """One vendor's side of the wire."""

    vendor: Vendor

    def read(self, incoming: Incoming) -> Order | Refusal:
        """Authenticates, then checks the fields as the vendor does."""

    def message_id(self, seed: bytes) -> str:
        """The vendor's id for a message, from 16 unique bytes."""

    def accepted(self, order: Order, message_id: str, now: datetime) -> Reply:
        """The vendor's yes."""

    def refused(self, refusal: Refusal) -> Reply:
        """The vendor's no."""

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        """The receipts of one message in the order of its life."""


def bare(refusal: Refusal) -> Reply:
    """What a proxy answers when the vendor behind it did not: HTML, and Retry-After when asked for."""
    status = refusal.status or 500
    headers = {"Content-Type": "text/html"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = f"{refusal.retry_after:g}"
    return Reply(status, headers, f"<html><body><h1>{status}</h1></body></html>".encode())
