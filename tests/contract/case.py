"""What a provider's case file declares, and the values all of them share."""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from msgspec.structs import replace

from providers.catalog import discover
from providers.contract import (
    Adapter,
    Callback,
    CallbackOutcome,
    Context,
    HttpRequest,
    HttpResponse,
    Message,
    Outcome,
    ProviderEvent,
    ProviderSettings,
    Refused,
    Token,
)

NOW = dt.datetime(2026, 3, 2, 1, 30, 5, 678901, tzinfo=dt.UTC)
REFERENCE = "0c5k3xr8v2m4t"
PHONE = "+8613900001234"
NAME = "张三丰"
TEXT = f"【示例银行】{NAME}您好，本期应还1,234.50元 & 3月8日到期 100%+"
CALLBACK_URL = f"https://gw.example.com/callbacks/p/kP3-path_token-9f/{REFERENCE}"
ACCESS_TOKEN = "ya29.canary-access-token"
NONCE = "3156853299f313e23d1673dc12e1703d"
CONTEXT = Context(now=NOW, nonce=NONCE, access_token=ACCESS_TOKEN, callback_url=CALLBACK_URL)


@dataclass(frozen=True)
class Sample:
    """A callback as the vendor sends it, and what it says."""

    callback: Callback
    events: tuple[ProviderEvent, ...]


@dataclass(frozen=True)
class Signing:
    """How the vendor signs callbacks.  `sign` is written from the documentation and shares no code with the adapter."""

    sign: Callable[[Callback, str], Callback]
    # Settings with which a callback signed by the secret beside them must pass: every place of every rotation.
    accepted: tuple[tuple[dict[str, Any], str], ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    """`settings` are as configuration gives them; `secrets` and `personal` must show up in nothing that is printed."""

    name: str
    settings: dict[str, Any]
    bad_settings: tuple[dict[str, Any], ...]  # each replaces fields of `settings` and must be refused
    secrets: tuple[str, ...]
    personal: tuple[str, ...]
    message: Message
    request: HttpRequest
    answers: tuple[tuple[HttpResponse, Outcome], ...]  # one per documented code, and successes
    replies: dict[CallbackOutcome, tuple[int, bytes]]
    samples: tuple[Sample, ...] = ()
    signing: Signing | None = None
    check_token_request: Callable[[HttpRequest], None] | None = None
    token_answers: tuple[tuple[HttpResponse, Token | Refused], ...] = ()

    @property
    def adapter(self) -> Adapter:
        return ADAPTERS[self.name]

    def configure(self, **changes: Any) -> ProviderSettings:
        given = {**self.settings, **changes}
        return self.adapter.settings_type.model_validate({k: v for k, v in given.items() if v is not ABSENT})


ABSENT: Any = object()
ADAPTERS = discover()


def load_case(name: str) -> Case:
    """The adapter's case.  There is no adapter without one: a missing file fails the suite."""
    return cast("Case", importlib.import_module(f"tests.contract.cases.{name}").CASE)


def with_headers(callback: Callback, **headers: str | None) -> Callback:
    """The callback with headers replaced, or dropped when None; underscores stand for hyphens."""
    changed = dict(callback.headers) | {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(callback, headers={name: value for name, value in changed.items() if value is not None})
