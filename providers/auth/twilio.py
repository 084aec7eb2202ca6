"""Twilio's webhook signature.  Source: https://www.twilio.com/docs/usage/webhooks/webhooks-security

Signed are the URL and every form parameter, or the URL and, through `bodySHA256` in its query, any other body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl, urlsplit

from providers import forms
from providers.contract import Callback, Unauthenticated

FORM = "application/x-www-form-urlencoded"
_USUAL = f"{FORM}; charset=utf-8"


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
