"""Google's token endpoint for service accounts (RFC 7523): a signed assertion in, an access token out.

Source: https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime
from urllib.parse import parse_qsl

import jwt

from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.names import Kind, Vendor
from gateway.dev.simulator.script import ReceiptPlan
from gateway.dev.simulator.wire import Incoming, Order, Post, Refusal, Reply, json_reply

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME = 3600
_LEEWAY = 10  # seconds between the two clocks
# The documented audience.  Google's own library always writes it, whatever endpoint it asks; others write the endpoint.
AUDIENCE = "https://oauth2.googleapis.com/token"
_AUTH = "https://www.googleapis.com/auth/"
SCOPES = frozenset({_AUTH + "firebase.messaging", _AUTH + "cloud-platform", _AUTH + "firebase"})


class TokenOffice:
    """Grants access tokens and recognises them later, also after a restart: a token carries its own proof."""

    vendor = Vendor.OAUTH

    def __init__(self, credentials: Credentials) -> None:
        self._email = credentials.google_client_email
        self._public = credentials.google_public_key()
        self._key = credentials.google_token_key.encode()
        self.token_uri = AUDIENCE  # its own once the simulator listens
        self.granted: list[str] = []

    def read(self, incoming: Incoming) -> Order | Refusal:
        try:
            form = dict(parse_qsl(incoming.body.decode(), keep_blank_values=True, errors="strict"))
        except ValueError:
            return Refusal("invalid_request")
        if form.get("grant_type") != GRANT:
            return Refusal("unsupported_grant_type")
        try:
            claims = jwt.decode(
                form.get("assertion", ""),
                self._public,
                algorithms=["RS256"],
                audience=[AUDIENCE, self.token_uri],
                issuer=self._email,
                # The times are looked at below, by the simulator's own.
                options={"require": ["iss", "aud", "iat", "exp", "scope"], "verify_iat": False, "verify_exp": False},
            )
            issued, expires = float(claims["iat"]), float(claims["exp"])
        except (jwt.PyJWTError, TypeError, ValueError):
            return Refusal("invalid_grant")
        now = incoming.now.timestamp()
        if issued > now + _LEEWAY or expires <= now - _LEEWAY:
            return Refusal("invalid_grant")
        if expires - issued > LIFETIME:
            return Refusal("invalid_grant", message="Token must be a short-lived token (60 minutes)")
        if not SCOPES & set(str(claims["scope"]).split()):
            return Refusal("invalid_scope")
        return Order(recipient=self._email, kind=Kind.TOKEN)

    def message_id(self, seed: bytes) -> str:
        return seed.hex()

    def accepted(self, order: Order, message_id: str, now: datetime) -> Reply:
        token = self._token(f"{int(now.timestamp()) + LIFETIME}.{secrets.token_urlsafe(24)}")
        self.granted.append(token)
        body = {"access_token": token, "expires_in": LIFETIME - 1, "token_type": "Bearer"}
        return json_reply(200, body)

    def refused(self, refusal: Refusal) -> Reply:
        fault = refusal.fault(self.vendor)
        return json_reply(
            fault.status, {"error": refusal.code, "error_description": fault.message}, refusal.retry_after
        )

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        return []

    def _token(self, content: str) -> str:
        proof = hmac.digest(self._key, content.encode("utf-8", "surrogateescape"), "sha256").hex()
        return f"ya29.{content}.{proof}"

    def knows(self, authorization: str, now: datetime) -> bool:
        """Whether the header carries a token granted here that has not run out."""
        content = authorization.removeprefix("Bearer ya29.").rpartition(".")[0]
        expected = f"Bearer {self._token(content)}"
        same = hmac.compare_digest(
            expected.encode("utf-8", "surrogateescape"), authorization.encode("utf-8", "surrogateescape")
        )
        return same and int(content.partition(".")[0]) > now.timestamp()
