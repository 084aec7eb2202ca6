"""google-auth and firebase-admin as judges of the assertion, the token grant and the message."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import firebase_admin
import pytest
from cryptography.hazmat.primitives import serialization
from firebase_admin import exceptions as firebase_exceptions
from firebase_admin import messaging
from google.auth import jwt as google_jwt
from google.auth import transport
from google.auth.credentials import AnonymousCredentials
from google.oauth2 import _client as google_client
from google.oauth2 import service_account
from msgspec.structs import replace

from providers.auth import google
from providers.contract import Accepted, Context
from tests.contract.case import CONTEXT, Case, load_case
from tests.contract.cases import fcm
from tests.contract.conftest import Loopback

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


@pytest.fixture
def case() -> Case:
    return load_case("fcm")


def now_context() -> Context:
    return replace(CONTEXT, now=dt.datetime.now(dt.UTC))


def our_assertion(case: Case, context: Context) -> str:
    return parse_qs(case.adapter.token_request(case.configure(), context).body.decode())["assertion"][0]


def google_credentials(case: Case) -> service_account.Credentials:
    info = {**case.settings, "type": "service_account", "token_uri": google.AUDIENCE}
    return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])


def test_google_verifies_our_assertion(case: Case) -> None:
    public = fcm.KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    token = our_assertion(case, now_context())
    claims = google_jwt.decode(token, certs={fcm.KEY_ID: public.decode()}, audience=google.AUDIENCE)
    assert (claims["iss"], claims["scope"]) == (fcm.EMAIL, SCOPE)
    head, body, signature = token.split(".")
    forged = f"{head}.{body}.{signature[:-6]}AAAAAA"
    with pytest.raises(ValueError, match="signature"):
        google_jwt.decode(forged, certs={fcm.KEY_ID: public.decode()}, audience=google.AUDIENCE)


def test_our_assertion_is_googles(case: Case) -> None:
    theirs = google_credentials(case)._make_authorization_grant_assertion().decode()
    header, claims, _, _ = google_jwt._unverified_decode(theirs)
    at = dt.datetime.fromtimestamp(claims["iat"], dt.UTC)
    our_header, our_claims, _, _ = google_jwt._unverified_decode(our_assertion(case, replace(CONTEXT, now=at)))
    assert (our_header, our_claims) == (header, claims)


def test_our_grant_request_is_googles(case: Case) -> None:
    """Their client sends the assertion we made; the transport keeps what it was asked to send."""
    kept: dict[str, Any] = {}

    class Answer(transport.Response):
        status, headers = 200, {}
        data = json.dumps(fcm.GRANT).encode()

    def request(**call: Any) -> Answer:
        kept.update(call)
        return Answer()

    ours = case.adapter.token_request(case.configure(), CONTEXT)
    assertion = parse_qs(ours.body.decode())["assertion"][0]
    token, expiry, _ = google_client.jwt_grant(request, google.AUDIENCE, assertion)
    assert (kept["method"], kept["url"], kept["body"]) == (ours.method, ours.url, ours.body)
    assert kept["headers"]["Content-Type"] == ours.headers["content-type"]
    granted = case.token_answers[0][1]
    assert token == getattr(granted, "value", None), "both read the same token from the answer"
    assert expiry is not None


@pytest.fixture
def app(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[firebase_admin.App]:
    class Credential(firebase_admin.credentials.Base):
        def get_credential(self) -> AnonymousCredentials:
            return AnonymousCredentials()

    made = firebase_admin.initialize_app(Credential(), {"projectId": "example-bank"}, name="contract")
    service = messaging._get_messaging_service(made)
    service._fcm_url = f"{loopback.base}/v1/projects/example-bank/messages:send"
    yield made
    firebase_admin.delete_app(made)


def firebase_message(case: Case, target: str) -> messaging.Message:
    ours = case.message
    seconds = int(CONTEXT.now.timestamp()) + (ours.ttl_seconds or 0)
    return messaging.Message(
        **{target: ours.address},
        notification=messaging.Notification(title=ours.title, body=ours.text),
        data={"mid": ours.reference},
        android=messaging.AndroidConfig(
            priority="high",
            ttl=dt.timedelta(seconds=ours.ttl_seconds or 0),
            collapse_key=ours.collapse_key,
            notification=messaging.AndroidNotification(tag=ours.collapse_key),
        ),
        apns=messaging.APNSConfig(
            headers={
                "apns-priority": "10",
                "apns-expiration": str(seconds),
                "apns-collapse-id": ours.collapse_key or "",
            }
        ),
    )


@pytest.mark.parametrize("target", ["token", "fid"])
# firebase-admin 7.7 deprecates Message.token in favour of `fid`; the apps out there still register tokens.
@pytest.mark.filterwarnings("ignore:Message.token is deprecated:DeprecationWarning")
def test_our_message_is_firebases(case: Case, loopback: Loopback, app: firebase_admin.App, target: str) -> None:
    loopback.answer = (200, case.answers[0][0].body)
    name = messaging.send(firebase_message(case, target), app=app)
    (theirs,) = loopback.caught
    configured = case.configure(base_url=loopback.base, target=target)
    ours = case.adapter.build_request(case.message, configured, CONTEXT)
    assert (ours.method, ours.url) == (theirs.method, loopback.base + theirs.target)
    wire = json.loads(theirs.body)
    assert wire.pop("validate_only", False) is False
    assert json.loads(ours.body) == wire
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    assert case.answers[0][1] == Accepted(name), "both read the same id from the answer"


def test_every_code_firebase_knows_is_in_the_case(case: Case) -> None:
    bodies = b" ".join(response.body for response, _ in case.answers).decode()
    assert all(f'"errorCode": "{code}"' in bodies for code in messaging._MessagingService.FCM_ERROR_TYPES)


# What the official library raises for an answer, beside what we make of it.  At 401 it refreshes its token instead.
RAISED = {
    "UNREGISTERED": (messaging.UnregisteredError, "bad_recipient"),
    "SENDER_ID_MISMATCH": (messaging.SenderIdMismatchError, "bad_recipient"),
    "QUOTA_EXCEEDED": (messaging.QuotaExceededError, "throttled"),
}


@pytest.mark.parametrize("code", RAISED)
@pytest.mark.filterwarnings("ignore:Message.token is deprecated:DeprecationWarning")
def test_errors_are_read_as_firebase_reads_them(
    case: Case, loopback: Loopback, app: firebase_admin.App, code: str
) -> None:
    kind, failure = RAISED[code]
    response, outcome = next(pair for pair in case.answers if getattr(pair[1], "code", "") == code)
    loopback.answer = (response.status, response.body)
    with pytest.raises(firebase_exceptions.FirebaseError) as raised:
        messaging.send(firebase_message(case, "token"), app=app)
    assert type(raised.value) is kind
    assert getattr(outcome, "failure", None) == failure
    assert case.adapter.classify_response(response) == outcome
