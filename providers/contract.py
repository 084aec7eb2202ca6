"""What a provider adapter is: five pure functions over values, and what it declares about itself.

An adapter translates.  It never sleeps, retries, logs, reads a clock or opens a socket; the gateway does all of that
and guarantees that `verify_callback` ran before `parse_callback`, on the raw bytes, with a configured public URL.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import force_setattr
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from schemas.vocabulary import AttemptState, Channel, Engagement, Failure, FailureScope

T = TypeVar("T")


class Value(Struct, frozen=True):
    """An immutable value.  Its repr tells what `shown` names and nothing else: the rest may be secret or personal."""

    shown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.shown]


class HttpRequest(Value, frozen=True):
    """A request ready for the wire.  `url` is already encoded and must not be normalised again; sends are POST only."""

    shown = ("method",)

    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    method: str = "POST"


class HttpResponse(Value, frozen=True):
    """An answer as bytes.  Header names are lower case."""

    shown = ("status",)

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


class ProviderTemplate(Value, frozen=True):
    """How the provider knows a template of ours: its code, the registered signature, and its own parameter names."""

    shown = ("code", "sign")

    code: str
    sign: str | None = None
    params: Mapping[str, str] = {}


class Prompt(Value, frozen=True):
    """What a call says next.  With `keys` it waits for one of them, or for silence, and tells `url` which it was.

    Without any it hangs up when it has said it.
    """

    shown = ("locale", "keys", "wait_seconds")

    text: str
    locale: str
    keys: str = ""
    url: str = ""
    wait_seconds: int = 6


class Message(Value, frozen=True):
    """One attempt's message.  `reference` is the attempt id as 13 base32 characters.

    `prompt` opens the dialogue of an interactive adapter; `text` is then what is said to whoever does not press a key.
    """

    shown = ("reference", "channel", "locale", "template", "ttl_seconds", "collapse_key")

    reference: str
    channel: Channel
    address: str
    text: str
    locale: str
    title: str | None = None
    template: ProviderTemplate | None = None
    ttl_seconds: int | None = None
    collapse_key: str | None = None
    prompt: Prompt | None = None


class Context(Value, frozen=True):
    """What an adapter may not find out by itself.  `now` is UTC, `nonce` unique per request."""

    shown = ("now", "nonce")

    now: dt.datetime
    nonce: str
    access_token: str | None = None
    callback_url: str | None = None


class Accepted(Struct, frozen=True):
    """The provider took the message; `ref` is its id for it."""

    ref: str


class Refused(Struct, frozen=True):
    """The provider certainly did not take it.  `retry_after` in seconds.  `code` is the provider's own, for people."""

    failure: Failure
    scope: FailureScope
    code: str
    retry_after: float | None = None


class Ambiguous(Struct, frozen=True):
    """It may have been taken; only a receipt or a lookup can tell."""

    code: str


Outcome = Accepted | Refused | Ambiguous


class Token(Value, frozen=True):
    """An access token and how long it lives, in seconds."""

    shown = ("expires_in",)

    value: str
    expires_in: float


class Callback(Value, frozen=True):
    """A provider's HTTP call to us.  `url` is the configured public URL plus path and query, never the Host header's.

    `attempt` is the reference from the path, when the callback URL carried one.  Header names are lower case.
    """

    shown = ("attempt", "method")

    url: str
    headers: Mapping[str, str]
    body: bytes
    attempt: str | None = None
    method: str = "POST"
    # What was read, and of what: a copy with other headers or another body has been read by nobody.
    _read: tuple[Any, Mapping[str, str], bytes] | None = None

    def read(self, how: Callable[[Callback], T]) -> T:
        """What `how` makes of this callback, worked out once: verifying and parsing usually read the same.

        An adapter passes one and the same function each time.
        """
        known = self._read
        if known is None or known[1] is not self.headers or known[2] is not self.body:
            known = (how(self), self.headers, self.body)
            force_setattr(self, "_read", known)
        found: T = known[0]
        return found


class Receipt(Value, frozen=True):
    """The provider's word on one attempt, found by our `attempt` reference, else by its own `ref`.

    `scope` is how much more than this recipient the failure speaks of: what is wider, the circuits hear of.  `address`
    is whom it speaks of, as E.164, where the provider signs nothing: a receipt for somebody else moves nothing.
    """

    shown = ("state", "code", "attempt", "ref", "failure", "occurred_at", "scope")

    state: AttemptState
    code: str
    attempt: str | None = None
    ref: str | None = None
    failure: Failure | None = None
    occurred_at: dt.datetime | None = None
    scope: FailureScope = FailureScope.RECIPIENT
    address: str | None = None


class Inbound(Value, frozen=True):
    """The borrower wrote back.  Addresses as E.164."""

    shown = ("ref", "occurred_at")

    ref: str
    sender: str
    recipient: str
    text: str
    occurred_at: dt.datetime | None = None


class KeyPress(Struct, frozen=True):
    """The listener pressed keys during a call, or none when asked to: `digits` is empty.

    `step` is the one that the prompt's URL named.
    """

    digits: str
    attempt: str | None = None
    ref: str | None = None
    occurred_at: dt.datetime | None = None
    step: str | None = None


class Engaged(Struct, frozen=True):
    """The borrower opened or clicked."""

    kind: Engagement
    attempt: str | None = None
    ref: str | None = None
    occurred_at: dt.datetime | None = None


class Invalid(Struct, frozen=True):
    """One item of a callback that could not be read; its neighbours are not spoiled.  `code` holds none of it."""

    code: str


ProviderEvent = Receipt | Inbound | KeyPress | Engaged | Invalid


class CallbackOutcome(StrEnum):
    """How the gateway fared with a callback."""

    STORED = "stored"  # stored now or before; harmless duplicates included
    FAILED = "failed"  # our storage failed: send it again


class CannotReach(ValueError):
    """This provider cannot reach this address, whoever asks: the next contact may.  The message holds no address."""


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


class _PublicHalf:
    """See PUBLIC_HALF."""


# In the `Annotated` of a setting that is no secret and changes when one does: the id of an access key, the name of a
# service account.  Like the secret it may be read by reference, and it is taken anew while the gateway runs.
PUBLIC_HALF: Final = _PublicHalf()


class ProviderSettings(BaseModel):
    """Settings every adapter has.  Secrets are `Secret`; tuples of secrets are (current, previous) for rotation.

    Frozen, so that a `cached_property` may hold what depends on them alone: a rotation makes new settings, and what the
    old ones held goes with them.
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
    # Asks for a key press before it speaks, and answers one with a `Prompt`; otherwise its text must be safe for
    # whoever picks up.
    interactive: ClassVar[bool] = False
    # The text is the provider's own approved template: `Message.template` is required.
    needs_template: ClassVar[bool] = False
    # And each of those templates is sent under a registered signature: its `sign` is required too.
    needs_sign: ClassVar[bool] = False
    # An access token is needed before sending: `token_request` and `parse_token` are implemented.
    needs_token: ClassVar[bool] = False
    # Codes that refuse one recipient and mean that something is wrong with us: a person should look.
    alerts: ClassVar[frozenset[str]] = frozenset()

    def build_request(self, message: Message, settings: Any, ctx: Context) -> HttpRequest:
        """The exact request for one message.  May raise CannotReach."""
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

    def reply(self, outcome: CallbackOutcome, settings: Any, prompt: Prompt | None = None) -> HttpResponse:
        """The acknowledgement in the provider's own words, or the next step of a voice dialogue."""
        return HttpResponse(204 if outcome is CallbackOutcome.STORED else 503)
