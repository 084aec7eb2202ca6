"""Firebase Cloud Messaging.

Written from https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages,
https://firebase.google.com/docs/cloud-messaging/error-codes and
https://developers.google.com/identity/protocols/oauth2/service-account#httprest.
"""

import base64
import json
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from providers.contract import (
    Accepted,
    Ambiguous,
    CallbackOutcome,
    HttpRequest,
    HttpResponse,
    Message,
    Outcome,
    Refused,
    Token,
)
from schemas.vocabulary import Channel, Failure, FailureScope
from tests.contract.case import ABSENT, ACCESS_TOKEN, NAME, NOW, REFERENCE, TEXT, Case

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM_FORM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
PEM = KEY.private_bytes(*PEM_FORM).decode()
EC_PEM = ec.generate_private_key(ec.SECP256R1()).private_bytes(*PEM_FORM).decode()
EMAIL = "gateway@example-bank.iam.gserviceaccount.com"
KEY_ID = "0123456789abcdef0123456789abcdef01234567"
DEVICE = "canaryDEVICEtoken:APA91bE-_x"
TITLE = "还款提醒 canary-title"
COLLAPSE = "0c5k3xr8v2m4s"
REF = "projects/example-bank/messages/0:1500415314455276%31bd1c9631bd1c96"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def answer(http: int, name: str, *details: dict[str, Any], message: str = "", **headers: str) -> HttpResponse:
    error = {"code": http, "message": message or f"about {DEVICE}", "status": name, "details": list(details)}
    return HttpResponse(
        http, {k.replace("_", "-"): v for k, v in headers.items()}, json.dumps({"error": error}).encode()
    )


def fcm(code: str) -> dict[str, Any]:
    return {"@type": FCM_ERROR, "errorCode": code}


def violation(field: str) -> dict[str, Any]:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": f"about {DEVICE}"}]}


def refused(failure: Failure, scope: FailureScope, code: str, wait: float | None = None) -> Refused:
    return Refused(failure, scope, code, wait)


RECIPIENT, TEMPLATE, ACCOUNT = FailureScope.RECIPIENT, FailureScope.TEMPLATE, FailureScope.ACCOUNT
ARGUMENT = "INVALID_ARGUMENT"
ANSWERS: tuple[tuple[HttpResponse, Outcome], ...] = (
    (HttpResponse(200, {}, json.dumps({"name": REF}).encode()), Accepted(REF)),
    (HttpResponse(200, {}, b'{"name":""}'), Ambiguous("http_200")),
    (HttpResponse(200, {}, b'{"name":"a b"}'), Ambiguous("http_200")),
    (answer(404, "NOT_FOUND", fcm("UNREGISTERED")), refused(Failure.BAD_RECIPIENT, RECIPIENT, "UNREGISTERED")),
    (
        answer(403, "PERMISSION_DENIED", fcm("SENDER_ID_MISMATCH")),
        refused(Failure.BAD_RECIPIENT, RECIPIENT, "SENDER_ID_MISMATCH"),
    ),
    (
        answer(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED")),
        refused(Failure.THROTTLED, ACCOUNT, "QUOTA_EXCEEDED", 60.0),
    ),
    (
        answer(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), retry_after="5"),
        refused(Failure.THROTTLED, ACCOUNT, "QUOTA_EXCEEDED", 5.0),
    ),
    (
        answer(503, "UNAVAILABLE", fcm("UNAVAILABLE"), retry_after="30"),
        refused(Failure.TRANSIENT, ACCOUNT, "UNAVAILABLE", 30.0),
    ),
    (answer(503, "UNAVAILABLE"), refused(Failure.TRANSIENT, ACCOUNT, "UNAVAILABLE")),
    (answer(500, "INTERNAL", fcm("INTERNAL")), Ambiguous("INTERNAL")),
    (answer(500, "INTERNAL"), Ambiguous("INTERNAL")),
    (
        answer(401, "UNAUTHENTICATED", fcm("THIRD_PARTY_AUTH_ERROR")),
        refused(Failure.BAD_CONFIG, ACCOUNT, "THIRD_PARTY_AUTH_ERROR"),
    ),
    (answer(401, "UNAUTHENTICATED", fcm("APNS_AUTH_ERROR")), refused(Failure.BAD_CONFIG, ACCOUNT, "APNS_AUTH_ERROR")),
    (answer(401, "UNAUTHENTICATED"), refused(Failure.BAD_CONFIG, ACCOUNT, "UNAUTHENTICATED")),
    (answer(403, "PERMISSION_DENIED"), refused(Failure.BAD_CONFIG, ACCOUNT, "PERMISSION_DENIED")),
    (answer(404, "NOT_FOUND"), refused(Failure.BAD_CONFIG, ACCOUNT, "NOT_FOUND")),
    (answer(429, "RESOURCE_EXHAUSTED"), refused(Failure.THROTTLED, ACCOUNT, "RESOURCE_EXHAUSTED", 60.0)),
    # One code for a bad token, a bad text and a bad request: the details tell.
    (answer(400, ARGUMENT, fcm(ARGUMENT)), refused(Failure.BAD_RECIPIENT, RECIPIENT, ARGUMENT)),
    (
        answer(400, ARGUMENT, fcm(ARGUMENT), violation("message.token")),
        refused(Failure.BAD_RECIPIENT, RECIPIENT, ARGUMENT),
    ),
    (answer(400, ARGUMENT, violation("message.fid")), refused(Failure.BAD_RECIPIENT, RECIPIENT, ARGUMENT)),
    (answer(400, ARGUMENT, violation("message.data[0].value")), refused(Failure.BAD_CONTENT, TEMPLATE, ARGUMENT)),
    (
        answer(400, ARGUMENT, fcm(ARGUMENT), message="Android message is too big"),
        refused(Failure.BAD_CONTENT, TEMPLATE, ARGUMENT),
    ),
    (answer(400, ARGUMENT, fcm(ARGUMENT), violation("message.android.ttl")), refused(Failure.BUG, ACCOUNT, ARGUMENT)),
    (answer(400, ARGUMENT), refused(Failure.BUG, ACCOUNT, ARGUMENT)),
    # The code in the details comes first, and unknown names fall back to the status.
    (answer(400, "NOT_FOUND", fcm("UNREGISTERED")), refused(Failure.BAD_RECIPIENT, RECIPIENT, "UNREGISTERED")),
    (answer(400, "FAILED_PRECONDITION"), refused(Failure.BUG, ACCOUNT, "FAILED_PRECONDITION")),
    (answer(504, "DEADLINE_EXCEEDED"), Ambiguous("DEADLINE_EXCEEDED")),
    (answer(500, "INTERNAL", fcm("UNSPECIFIED_ERROR")), Ambiguous("INTERNAL")),
    (answer(503, ""), Ambiguous("unreadable")),
)

GRANT = {"access_token": "ya29.canary-granted", "expires_in": 3599, "token_type": "Bearer"}
TOKEN_ANSWERS: tuple[tuple[HttpResponse, Token | Refused], ...] = (
    (HttpResponse(200, {}, json.dumps(GRANT).encode()), Token("ya29.canary-granted", 3599.0)),
    *(
        (HttpResponse(200, {}, body), refused(Failure.TRANSIENT, ACCOUNT, "token_unreadable"))
        for body in (b"", b"{}", b'{"access_token":"x\\ny","expires_in":9}', b'{"access_token":"x","expires_in":-1}')
    ),
    (
        HttpResponse(400, {}, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}'),
        refused(Failure.BAD_CONFIG, ACCOUNT, "invalid_grant"),
    ),
    (
        HttpResponse(401, {}, b'{"error":"unauthorized_client"}'),
        refused(Failure.BAD_CONFIG, ACCOUNT, "unauthorized_client"),
    ),
    (HttpResponse(404, {}, b"<html>"), refused(Failure.BAD_CONFIG, ACCOUNT, "http_404")),
    (HttpResponse(429, {"retry-after": "3"}, b""), refused(Failure.THROTTLED, ACCOUNT, "http_429", 3.0)),
    (HttpResponse(500, {}, b'{"error":"internal_failure"}'), refused(Failure.TRANSIENT, ACCOUNT, "internal_failure")),
    (HttpResponse(503, {"retry-after": "2"}, b""), refused(Failure.TRANSIENT, ACCOUNT, "http_503", 2.0)),
)


def part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def check_token_request(request: HttpRequest) -> None:
    """RFC 7515 and 7523 by hand: three base64url parts, signed with PKCS #1 v1.5 over SHA-256."""
    assert request.url == "https://oauth2.googleapis.com/token"
    assert request.method == "POST"
    assert request.headers == {"content-type": "application/x-www-form-urlencoded"}
    form = parse_qs(request.body.decode(), strict_parsing=True)
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert set(form) == {"grant_type", "assertion"}
    head, claims, signature = form["assertion"][0].split(".")
    KEY.public_key().verify(part(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(part(head)) == {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
    issued = int(NOW.timestamp())
    assert json.loads(part(claims)) == {
        "iss": EMAIL,
        "aud": "https://oauth2.googleapis.com/token",
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "iat": issued,
        "exp": issued + 3600,
    }


PAYLOAD = {
    "message": {
        "token": DEVICE,
        "notification": {"body": TEXT, "title": TITLE},
        "data": {"mid": REFERENCE},
        "android": {
            "priority": "high",
            "ttl": "5400s",
            "collapse_key": COLLAPSE,
            "notification": {"tag": COLLAPSE},
        },
        "apns": {
            "headers": {
                "apns-priority": "10",
                "apns-expiration": str(int(NOW.timestamp()) + 5400),
                "apns-collapse-id": COLLAPSE,
            }
        },
    }
}

CASE = Case(
    name="fcm",
    settings={"project_id": "example-bank", "client_email": EMAIL, "private_key_id": KEY_ID, "private_key": PEM},
    bad_settings=(
        {"project_id": ABSENT},
        {"project_id": "../other"},
        {"client_email": "no address"},
        {"private_key": ABSENT},
        {"private_key": PEM[:-80]},
        {"private_key": EC_PEM},
        {
            "private_key": KEY.public_key()
            .public_bytes(PEM_FORM[0], serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        },
        {"private_key": 5},
        {"token_url": "ftp://oauth2.googleapis.com/token"},
        {"target": "topic"},
        {"credentials": PEM},
    ),
    secrets=(
        PEM,
        PEM.splitlines()[1],
        PEM.splitlines()[5],
        EC_PEM.splitlines()[1],
        ACCESS_TOKEN,
        "ya29.canary-granted",
    ),
    personal=(DEVICE, TEXT, NAME, TITLE, "1,234.50"),
    message=Message(REFERENCE, Channel.PUSH, DEVICE, TEXT, "zh-CN", TITLE, ttl_seconds=5400, collapse_key=COLLAPSE),
    request=HttpRequest(
        "https://fcm.googleapis.com/v1/projects/example-bank/messages:send",
        {"authorization": f"Bearer {ACCESS_TOKEN}", "content-type": "application/json"},
        json.dumps(PAYLOAD, ensure_ascii=False, separators=(",", ":")).encode(),
    ),
    answers=ANSWERS,
    replies={CallbackOutcome.STORED: (204, b""), CallbackOutcome.FAILED: (503, b"")},
    check_token_request=check_token_request,
    token_answers=TOKEN_ANSWERS,
)
