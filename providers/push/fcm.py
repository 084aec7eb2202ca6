"""Push by Firebase Cloud Messaging, HTTP v1.  FCM gives no receipts: what happened on the device, the app tells us.

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages (request, answer),
https://firebase.google.com/docs/cloud-messaging/concept-options (time to live, collapsing).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field, SecretStr, field_validator

from providers import defaults
from providers.auth import google
from providers.contract import (
    PUBLIC_HALF,
    Accepted,
    Adapter,
    Ambiguous,
    Context,
    HttpRequest,
    HttpResponse,
    Message,
    Outcome,
    ProviderSettings,
    Refused,
    Secret,
    Token,
    Url,
)
from providers.defaults import Verdict
from providers.reading import clean_reference, read_json
from schemas.vocabulary import Channel, Failure, FailureScope

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"

_TO: Verdict = (Failure.BAD_RECIPIENT, FailureScope.RECIPIENT)
_TEXT: Verdict = (Failure.BAD_CONTENT, FailureScope.TEMPLATE)
_BUG: Verdict = (Failure.BUG, FailureScope.ACCOUNT)
_ACCOUNT: Verdict = (Failure.BAD_CONFIG, FailureScope.ACCOUNT)
_THROTTLED: Verdict = (Failure.THROTTLED, FailureScope.ACCOUNT)
_AMBIGUOUS: Verdict = (Failure.AMBIGUOUS, FailureScope.ACCOUNT)

# https://firebase.google.com/docs/cloud-messaging/error-codes: `errorCode` of the detail of type FcmError.
_FCM_CODES: dict[str, Verdict] = {
    "UNREGISTERED": _TO,
    "SENDER_ID_MISMATCH": _TO,  # a token of another project
    "QUOTA_EXCEEDED": _THROTTLED,
    "UNAVAILABLE": (Failure.TRANSIENT, FailureScope.ACCOUNT),  # the page asks for a retry
    "INTERNAL": _AMBIGUOUS,
    "THIRD_PARTY_AUTH_ERROR": _ACCOUNT,
    "APNS_AUTH_ERROR": _ACCOUNT,  # its older name
}
# https://cloud.google.com/apis/design/errors: `status`, for answers without such a detail.
_STATUSES: dict[str, Verdict] = {
    "UNAUTHENTICATED": _ACCOUNT,
    "PERMISSION_DENIED": _ACCOUNT,
    "NOT_FOUND": _ACCOUNT,  # no such project
    "RESOURCE_EXHAUSTED": _THROTTLED,
    "UNAVAILABLE": (Failure.TRANSIENT, FailureScope.ACCOUNT),
    "INTERNAL": _AMBIGUOUS,
}
_QUOTA_WAIT = 60.0  # seconds; the quota refills every minute
_MAX_TTL = 2_419_200  # four weeks


class FcmSettings(ProviderSettings):
    """One Firebase project and the service account that sends for it; the fields are those of its key file."""

    base_url: Url = "https://fcm.googleapis.com"
    token_url: Url = google.AUDIENCE
    project_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.:-]{0,62}$")]
    client_email: Annotated[str, Field(pattern=r"^[!-~]+@[!-~]+$"), PUBLIC_HALF]
    private_key_id: Annotated[str, Field(pattern=r"^[!-~]+$"), PUBLIC_HALF]
    private_key: Secret
    # What an address is: a registration token, or a Firebase installation id.
    target: Literal["token", "fid"] = "token"

    @field_validator("private_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        # Environment variables often carry the key file's \n as two characters.
        pem = value.get_secret_value().replace("\\n", "\n")
        google.private_key(pem)
        return SecretStr(pem)

    @cached_property
    def send_url(self) -> str:
        return f"{self.base_url}/v1/projects/{self.project_id}/messages:send"


class _Violation(msgspec.Struct):
    field: str = ""


class _Detail(msgspec.Struct, rename="camel"):
    error_code: str = ""
    field_violations: list[_Violation] = []


class _Status(msgspec.Struct):
    status: str = ""
    message: str = ""
    details: list[_Detail] = []


class _Answer(msgspec.Struct):
    name: str = ""
    error: _Status | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class Fcm(Adapter):
    name = "fcm"
    channel = Channel.PUSH
    settings_type = FcmSettings
    receipts = False
    replaces = True
    needs_token = True
    alerts = frozenset({"SENDER_ID_MISMATCH"})  # the app was built for another project than ours

    def build_request(self, message: Message, settings: FcmSettings, ctx: Context) -> HttpRequest:
        if ctx.access_token is None:
            raise ValueError("fcm needs an access token")
        notification = {"body": message.text}
        if message.title is not None:
            notification["title"] = message.title
        android: dict[str, Any] = {"priority": "high"}
        apns: dict[str, str] = {"apns-priority": "10"}
        if message.ttl_seconds is not None:
            ttl = min(max(message.ttl_seconds, 0), _MAX_TTL)
            android["ttl"] = f"{ttl}s"
            apns["apns-expiration"] = str(int(ctx.now.timestamp()) + ttl)
        if message.collapse_key is not None:
            # The collapse key replaces what still waits for the device; tag and id what is on its screen already.
            android |= {"collapse_key": message.collapse_key, "notification": {"tag": message.collapse_key}}
            apns["apns-collapse-id"] = message.collapse_key
        payload = {
            settings.target: message.address,
            "notification": notification,
            "data": {"mid": message.reference},
            "android": android,
            "apns": {"headers": apns},
        }
        headers = {"authorization": f"Bearer {ctx.access_token}", "content-type": "application/json"}
        return HttpRequest(settings.send_url, headers, msgspec.json.encode({"message": payload}))

    def classify_response(self, response: HttpResponse) -> Outcome:
        answer = read_json(_ANSWER, response.body)
        if 200 <= response.status < 300:
            ref = clean_reference(answer.name) if answer is not None else None
            return Accepted(ref) if ref is not None else Ambiguous(f"http_{response.status}")
        error = answer.error if answer is not None else None
        if error is None:
            return defaults.classify(response)
        code = next((detail.error_code for detail in error.details if detail.error_code), "")
        if (code or error.status) == "INVALID_ARGUMENT":
            return defaults.classify_code({"INVALID_ARGUMENT": _argument(error, code)}, "INVALID_ARGUMENT", response)
        table, code = (_FCM_CODES, code) if code in _FCM_CODES else (_STATUSES, error.status)
        wait = _QUOTA_WAIT if table.get(code) == _THROTTLED and "retry-after" not in response.headers else None
        return defaults.classify_code(table, code, response, wait)

    def token_request(self, settings: FcmSettings, ctx: Context) -> HttpRequest:
        pem = settings.private_key.get_secret_value()
        signed = google.assertion(settings.client_email, settings.private_key_id, pem, SCOPE, ctx.now)
        return google.token_request(settings.token_url, signed)

    def parse_token(self, response: HttpResponse) -> Token | Refused:
        return google.parse_token(response)


def _argument(error: _Status, code: str) -> Verdict:
    """Which argument FCM minds: the device's token, our text, or the shape of our request."""
    fields = [violation.field for detail in error.details for violation in detail.field_violations]
    if any(field in ("message.token", "message.fid") for field in fields):
        return _TO
    about_text = any(field.startswith(("message.notification", "message.data")) for field in fields)
    if about_text or "too big" in error.message.lower():
        return _TEXT
    return _TO if code and not fields else _BUG


ADAPTER = Fcm()
