"""What Twilio's products share: the account, the answer to a creation, the signature of its webhooks.

Sources: https://www.twilio.com/docs/usage/requests-to-twilio (authorisation, answers),
https://www.twilio.com/docs/usage/webhooks/webhooks-security (signature): signed are the URL and every form parameter,
or the URL and, through `bodySHA256` in its query, any other body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec
from pydantic import Field, model_validator

from providers import defaults, forms
from providers.contract import (
    PUBLIC_HALF,
    Accepted,
    Ambiguous,
    Callback,
    HttpResponse,
    Outcome,
    ProviderSettings,
    Secret,
    Unauthenticated,
    Url,
)
from providers.defaults import Verdict
from providers.reading import clean_reference, read_json

FORM = "application/x-www-form-urlencoded"
_USUAL = f"{FORM}; charset=utf-8"


class AccountSettings(ProviderSettings):
    """One account.

    Requests are authorised by the API key, else by the first auth token.  Callbacks are signed with an auth token, or
    with a shared key where the account uses them; every one listed is good.
    """

    base_url: Url = "https://api.twilio.com"
    account_sid: Annotated[str, Field(pattern=r"^AC[0-9A-Za-z]{1,62}$")]
    auth_tokens: tuple[Secret, ...] = ()
    api_key_sid: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$"), PUBLIC_HALF] | None = None
    api_key_secret: Secret | None = None
    shared_keys: tuple[Secret, ...] = ()
    # How often and why Twilio calls back again; by its default an answer of 503 is final.  4xx too: while a provider is
    # being rolled out, a process that does not know it yet answers 404.
    callback_overrides: Annotated[str, Field(pattern=r"^[0-9a-z=&,]*$")] = "rc=5&rp=4xx,5xx,ct,rt"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.api_key_sid is None) != (self.api_key_secret is None):
            raise ValueError("api_key_sid and api_key_secret come together")
        if not self.auth_tokens and (self.api_key_sid is None or not self.shared_keys):
            raise ValueError("auth_tokens are needed, unless there is an API key to send and a shared key to verify")
        return self

    def url_of(self, resource: str) -> str:
        """Where a resource of the account is created."""
        return f"{self.base_url}/2010-04-01/Accounts/{self.account_sid}/{resource}.json"

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Shared by all requests."""
        user, secret = self.api_key_sid or self.account_sid, self.api_key_secret or self.auth_tokens[0]
        basic = base64.b64encode(f"{user}:{secret.get_secret_value()}".encode()).decode()
        return MappingProxyType({"authorization": f"Basic {basic}", "content-type": FORM})

    @cached_property
    def signing_secrets(self) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Auth tokens and shared keys, any of which may have signed a callback."""
        tokens = tuple(secret.get_secret_value().encode() for secret in self.auth_tokens)
        return tokens, tuple(secret.get_secret_value().encode() for secret in self.shared_keys)

    @cached_property
    def overrides(self) -> str:
        """The end of every callback URL."""
        return f"#{self.callback_overrides}" if self.callback_overrides else ""

    @cached_property
    def overrides_tail(self) -> bytes:
        return forms.quote(self.overrides)


class _Created(msgspec.Struct):
    sid: str = ""


class _Error(msgspec.Struct):
    code: int | None = None


_CREATED = msgspec.json.Decoder(_Created)
_ERROR = msgspec.json.Decoder(_Error)


def classify(codes: Mapping[str, Verdict], response: HttpResponse) -> Outcome:
    """What the answer to a creation means, by the product's table of codes."""
    if 200 <= response.status < 300:
        created = read_json(_CREATED, response.body)
        ref = clean_reference(created.sid) if created is not None else None
        return Accepted(ref) if ref is not None else Ambiguous(f"http_{response.status}")
    if 400 <= response.status < 500:
        error = read_json(_ERROR, response.body)
        if error is not None and error.code is not None:
            return defaults.classify_code(codes, str(error.code), response)
    return defaults.classify(response)


def form_params(callback: Callback) -> forms.Fields:
    """The decoded parameters of a form body, none for any other type.  Raises ValueError for anything but UTF-8."""
    return callback.read(_form_params)


def _form_params(callback: Callback) -> forms.Fields:
    content_type = callback.headers.get("content-type", FORM)
    if content_type != _USUAL and content_type != FORM:
        kind, _, options = content_type.lower().partition(";")
        if kind.strip() != FORM:
            return []
        _, declared, charset = options.replace(" ", "").partition("charset=")
        if declared and charset.strip("\"'") not in ("utf-8", "utf8"):
            raise ValueError("charset")
    return forms.decode(callback.body)


def signed_text(url: str, params: Iterable[tuple[str, str]]) -> bytes:
    """What Twilio signs: the URL, then name and value of each distinct parameter in order of name, then value."""
    text = url + "".join(name + value for name, value in sorted(set(params)))
    return text.encode("utf-8", "surrogatepass")


def signature(text: bytes, secret: bytes, digest: str = "sha1") -> bytes:
    return base64.b64encode(hmac.digest(secret, text, digest))


def authenticate(callback: Callback, auth_tokens: Sequence[bytes], shared_keys: Sequence[bytes] = ()) -> str:
    """The replay key: a hash of everything the signature covers, so that a replay has the same one however encoded.

    SHA-1 is checked against the auth tokens, SHA-256 (named in the settings header) against the shared keys; any
    secret of the list will do.  Raises Unauthenticated.
    """
    given = callback.headers.get("x-twilio-signature", "").encode("utf-8", "surrogatepass")
    if not given:
        raise Unauthenticated("signature_missing")
    algorithm = _algorithm(callback.headers.get("x-twilio-webhooks-signature-settings", ""))
    if algorithm not in ("HMAC_SHA1", "HMAC_SHA256"):
        raise Unauthenticated("signature_algorithm")
    secrets, digest = (auth_tokens, "sha1") if algorithm == "HMAC_SHA1" else (shared_keys, "sha256")
    params = _covered(callback)
    text = signed_text(callback.url, params)
    if _is_signed(text, secrets, digest, given) or _is_signed(
        signed_text(_other_port(callback.url), params), secrets, digest, given
    ):
        return hashlib.sha256(text).hexdigest()
    raise Unauthenticated("signature_mismatch")


def _is_signed(text: bytes, secrets: Sequence[bytes], digest: str, given: bytes) -> bool:
    return any([hmac.compare_digest(signature(text, secret, digest), given) for secret in secrets])


def _algorithm(settings: str) -> str:
    """The algorithm in `key=…,algorithm=…`; without one it is the auth token's SHA-1."""
    for part in settings.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            return value.strip().upper()
    return "HMAC_SHA1"


def _covered(callback: Callback) -> forms.Fields:
    """The parameters under the signature, once the body is known to be covered by it too."""
    try:
        params = form_params(callback)
        query = dict(parse_qsl(urlsplit(callback.url).query)) if "bodySHA256" in callback.url else {}
    except ValueError:
        raise Unauthenticated("body_unreadable") from None
    promised = query.get("bodySHA256")
    if promised is None:
        if callback.body and not params:
            raise Unauthenticated("body_unsigned")
    elif promised != hashlib.sha256(callback.body).hexdigest():  # no secret: both sides are in the request
        raise Unauthenticated("body_mismatch")
    return params


def _other_port(url: str) -> str:
    """The URL without its port, or with the scheme's own: Twilio is not consistent about it."""
    scheme, separator, rest = url.partition("://")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    host, tail = rest[:end], rest[end:]
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return f"{scheme}{separator}{name}{tail}"
    return f"{scheme}{separator}{host}:{443 if scheme == 'https' else 80}{tail}"
