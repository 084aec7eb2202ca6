"""What a provider adapter is: five pure functions over values, and what it declares about itself.

An adapter translates.  It never sleeps, retries, logs, reads a clock or opens a socket; the gateway does all of that
and guarantees that `verify_callback` ran before `parse_callback`, on the raw bytes, with a configured public URL.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from schemas.vocabulary import AttemptState, Channel, Engagement, Failure, FailureScope


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request ready for the wire.  `url` is already encoded and must not be normalised again; sends are POST only."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer as bytes.  Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ProviderTemplate:
    """How the provider knows a template of ours: its code, the registered signature, and its own parameter names."""

    code: str
    sign: str | None = None
    params: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt's message.  `reference` is the attempt id as 13 base32 characters."""

    reference: str
    channel: Channel
    address: str = field(repr=False)
    text: str = field(repr=False)
    locale: str
    title: str | None = field(default=None, repr=False)
    template: ProviderTemplate | None = None
    ttl_seconds: int | None = None
    collapse_key: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What an adapter may not find out by itself.  `now` is UTC, `nonce` unique per request."""

    now: dt.datetime
    nonce: str
    access_token: str | None = field(default=None, repr=False)
    callback_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the message; `ref` is its id for it."""

    ref: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider certainly did not take it.  `retry_after` in seconds.  `code` is the provider's own, for people."""

    failure: Failure
    scope: FailureScope
    code: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """It may have been taken; only a receipt or a lookup can tell."""

    code: str


Outcome = Accepted | Refused | Ambiguous


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and how long it lives, in seconds."""

    value: str = field(repr=False)
    expires_in: float


@dataclass(frozen=True, slots=True)
class Callback:
    """A provider's HTTP call to us.  `url` is the configured public URL plus path and query, never the Host header's.

    `attempt` is the reference from the path, when the callback URL carried one.  Header names are lower case.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    attempt: str | None = None
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The provider's word on one attempt, found by our `attempt` reference, else by its own `ref`."""

    state: AttemptState
    code: str
    attempt: str | None = None
    ref: str | None = None
    failure: Failure | None = None
    occurred_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """The borrower wrote back.  Addresses as E.164."""

    ref: str
    sender: str = field(repr=False)
    recipient: str = field(repr=False)
    text: str = field(repr=False)
    occurred_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyPress:
    """The listener pressed keys during a call."""

    digits: str
    attempt: str | None = None
    ref: str | None = None
    occurred_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Engaged:
    """The borrower opened or clicked."""

    kind: Engagement
    attempt: str | None = None
    ref: str | None = None
    occurred_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Invalid:
    """One item of a callback that could not be read; its neighbours are not spoiled.  `code` holds none of it."""

    code: str


ProviderEvent = Receipt | Inbound | KeyPress | Engaged | Invalid


class CallbackOutcome(StrEnum):
    """How the gateway fared with a callback."""

    STORED = "stored"  # stored now or before; harmless duplicates included
    FAILED = "failed"  # our storage failed: send it again


class Unauthenticated(Exception):
    """The callback is not from the provider.  The message is a stable code and never holds a secret or content."""


def _absolute_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not value.isascii() or not value.isprintable() or any(mark in value for mark in " @?#"):
        raise ValueError("must be an absolute http or https URL without credentials, query, fragment or spaces")
    return value.rstrip("/")


# A vendor's endpoint; a slash at its end is dropped.
Url = Annotated[str, AfterValidator(_absolute_url)]
Secret = Annotated[SecretStr, Field(min_length=1)]


class ProviderSettings(BaseModel):
    """Settings every adapter has.  Secrets are `Secret`; tuples of secrets are (current, previous) for rotation.

    Frozen and hashable, so that an adapter may cache what depends on them alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: Url


class Adapter:
    """Base of every adapter.  Subclasses override what their provider can do; the defaults say that it cannot.

    Adding a provider is one module under `providers/<channel>/` that ends in `ADAPTER = TheAdapter()`.
    """

    name: ClassVar[str]
    channel: ClassVar[Channel]
    settings_type: ClassVar[type[ProviderSettings]] = ProviderSettings

    # The provider tells what became of a message; False means the hand-over is the last we hear.
    receipts: ClassVar[bool] = True
    # Callbacks carry a signature over their content; otherwise the path token is all there is.
    signs_callbacks: ClassVar[bool] = False
    # A repeat replaces the first on the screen, so `on_unknown: resend` is allowed.
    replaces: ClassVar[bool] = False
    # Can ask for a key press before it speaks; otherwise its text must be safe for whoever picks up.
    interactive: ClassVar[bool] = False
    # The text is the provider's own approved template: `Message.template` is required.
    needs_template: ClassVar[bool] = False
    # An access token is needed before sending: `token_request` and `parse_token` are implemented.
    needs_token: ClassVar[bool] = False

    def build_request(self, message: Message, settings: Any, ctx: Context) -> HttpRequest:
        """The exact request for one message."""
        raise NotImplementedError

    def classify_response(self, response: HttpResponse) -> Outcome:
        """What the answer means.  Total: every status and every body is one of the three outcomes."""
        raise NotImplementedError

    def token_request(self, settings: Any, ctx: Context) -> HttpRequest:
        """The request for a fresh access token."""
        raise NotImplementedError

    def parse_token(self, response: HttpResponse) -> Token | Refused:
        """The token, or why there is none."""
        raise NotImplementedError

    def verify_callback(self, callback: Callback, settings: Any, now: dt.datetime) -> str | None:
        """The replay key of an authentic callback, or None where the provider gives nothing to build one from.

        Raises Unauthenticated.  The path token was checked by the gateway before this is called.
        """
        raise Unauthenticated("no_callbacks")

    def parse_callback(self, callback: Callback) -> list[ProviderEvent]:
        """Every event in a verified callback; an unreadable item becomes Invalid.  Never raises."""
        return [Invalid("no_callbacks")]

    def reply(self, outcome: CallbackOutcome, dialogue: str | None = None) -> HttpResponse:
        """The acknowledgement in the provider's own words, or the next step of a voice dialogue."""
        return HttpResponse(204 if outcome is CallbackOutcome.STORED else 503)
