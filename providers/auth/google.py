"""Access tokens for a Google service account: a signed assertion in, a token out (RFC 7523).

Source: https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from urllib.parse import urlencode

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from providers import defaults
from providers.contract import HttpRequest, HttpResponse, Refused, Token
from providers.defaults import Verdict
from providers.reading import clean_code, read_json
from schemas.vocabulary import Failure, FailureScope

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# The documented audience.  It stays the same when the token endpoint is reached by another URL.
AUDIENCE = "https://oauth2.googleapis.com/token"
LIFETIME = 3600
_TOKEN = re.compile(r"[!-~]{1,8192}")  # goes into a header

_TRANSIENT: Verdict = (Failure.TRANSIENT, FailureScope.ACCOUNT)
_CONFIG: Verdict = (Failure.BAD_CONFIG, FailureScope.ACCOUNT)


class _Grant(msgspec.Struct):
    access_token: str = ""
    expires_in: float = 0.0


class _Error(msgspec.Struct):
    error: str = ""


_GRANT = msgspec.json.Decoder(_Grant)
_ERROR = msgspec.json.Decoder(_Error)


@lru_cache(maxsize=32)
def private_key(pem: str) -> RSAPrivateKey:
    """The key in a PEM text.  Raises ValueError, which never shows the text."""
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        raise ValueError("not a private key in PEM form without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("not an RSA key")
    return key


def assertion(email: str, key_id: str, pem: str, scope: str, now: dt.datetime) -> str:
    """A JWT by which the service account asks for `scope`, good for an hour from `now`."""
    issued = int(now.timestamp())
    claims = {"iss": email, "aud": AUDIENCE, "scope": scope, "iat": issued, "exp": issued + LIFETIME}
    return jwt.encode(claims, private_key(pem), algorithm="RS256", headers={"kid": key_id})


def token_request(token_url: str, signed: str) -> HttpRequest:
    body = urlencode({"assertion": signed, "grant_type": GRANT}).encode()
    return HttpRequest(token_url, {"content-type": "application/x-www-form-urlencoded"}, body)


def parse_token(response: HttpResponse) -> Token | Refused:
    """Total.  Nothing was sent to a borrower yet, so what is not refused for certain is worth another try."""
    if response.status == 200:
        grant = read_json(_GRANT, response.body)
        if grant is not None and _TOKEN.fullmatch(grant.access_token) and 0 < grant.expires_in < 1e9:
            return Token(grant.access_token, grant.expires_in)
        return Refused(*_TRANSIENT, "token_unreadable")
    error = read_json(_ERROR, response.body)
    code = clean_code(error.error) if error is not None and error.error else f"http_{response.status}"
    if response.status == 429:
        return Refused(Failure.THROTTLED, FailureScope.ACCOUNT, code, defaults.retry_after(response))
    if 300 <= response.status < 500 and response.status != 408:
        return Refused(*_CONFIG, code)
    return Refused(*_TRANSIENT, code, defaults.retry_after(response))
