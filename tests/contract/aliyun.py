"""What the cases of Alibaba Cloud's products share, written from its documentation.

https://help.aliyun.com/document_detail/2593177.html (requests and their signature).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from providers.contract import (
    Ambiguous,
    Callback,
    CallbackOutcome,
    HttpRequest,
    HttpResponse,
    Invalid,
    Outcome,
    ProviderEvent,
    Refused,
)
from schemas.vocabulary import Failure, FailureScope
from tests.contract.case import ABSENT, NONCE, Sample

KEY_ID, SECRET, STS = "LTAIcanaryKeyId0123456789", "canary-access-key-secret", "canary-sts-token"
BARE = "13900001234"
RECIPIENT, SENDER, TEMPLATE, ACCOUNT = (
    FailureScope.RECIPIENT, FailureScope.SENDER, FailureScope.TEMPLATE, FailureScope.ACCOUNT,
)  # fmt: skip


def answer(code: str, http: int = 200, headers: dict[str, str] | None = None, **more: Any) -> HttpResponse:
    body = {"Code": code, "Message": f"号码{BARE}", "RequestId": "D9CB3933-9FE3-4870-BA8E-2BEE91B69D23", **more}
    return HttpResponse(http, headers or {}, json.dumps(body, ensure_ascii=False).encode())


def each(codes: str, failure: Failure, scope: FailureScope) -> list[tuple[HttpResponse, Outcome]]:
    """The same code means the same with 200 and with 400."""
    return [(answer(code, http), Refused(failure, scope, code)) for code in codes.split() for http in (200, 400)]


# What the pages of every product have.
ANSWERS: tuple[tuple[HttpResponse, Outcome], ...] = (
    (answer("OK"), Ambiguous("http_200")),
    *each("isv.MOBILE_NUMBER_ILLEGAL", Failure.BAD_RECIPIENT, RECIPIENT),
    *each("isv.BUSINESS_LIMIT_CONTROL", Failure.THROTTLED, RECIPIENT),
    *each("isv.TEMPLATE_MISSING_PARAMETERS isv.TEMPLATE_PARAMS_ILLEGAL", Failure.BAD_CONTENT, TEMPLATE),
    *each("isv.PARAM_LENGTH_LIMIT isv.PARAM_NOT_SUPPORT_URL isv.INVALID_JSON_PARAM", Failure.BAD_CONTENT, TEMPLATE),
    *each("isv.OUT_OF_SERVICE isv.AMOUNT_NOT_ENOUGH isv.ACCOUNT_NOT_EXISTS", Failure.BAD_CONFIG, ACCOUNT),
    *each("isv.ACCOUNT_ABNORMAL isv.PRODUCT_UN_SUBSCRIPT isv.PRODUCT_UNSUBSCRIBE", Failure.BAD_CONFIG, ACCOUNT),
    *each("isp.RAM_PERMISSION_DENY isv.DENY_IP_RANGE", Failure.BAD_CONFIG, ACCOUNT),
    *each("SignatureDoesNotMatch SignatureNonceUsed InvalidTimeStamp.Expired", Failure.BAD_CONFIG, ACCOUNT),
    *each("IncompleteSignature NoPermission InvalidSecurityToken.Expired", Failure.BAD_CONFIG, ACCOUNT),
    *each("InvalidAccessKeyId.NotFound InvalidAccessKeyId.Inactive Forbidden.RAM", Failure.BAD_CONFIG, ACCOUNT),
    *each("isv.INVALID_PARAMETERS isv.MOBILE_COUNT_OVER_LIMIT isv.NEVER_HEARD_OF", Failure.BUG, ACCOUNT),
    (answer("isp.SYSTEM_ERROR"), Ambiguous("isp.SYSTEM_ERROR")),
    (answer("isp.GATEWAY_ERROR", 500), Ambiguous("isp.GATEWAY_ERROR")),
    (answer("isp.UNKNOWN", 400), Ambiguous("isp.UNKNOWN")),
    (answer("InternalError", 500), Ambiguous("InternalError")),
    (answer("ServiceUnavailable", 503), Refused(Failure.TRANSIENT, ACCOUNT, "ServiceUnavailable")),
    (answer("Throttling", 400), Refused(Failure.THROTTLED, ACCOUNT, "Throttling")),
    # Milliseconds there, seconds in the header of HTTP.
    (
        answer("Throttling.User", 400, {"x-acs-retry-after": "1500"}),
        Refused(Failure.THROTTLED, ACCOUNT, "Throttling.User", 1.5),
    ),
    (
        answer("Throttling.Api", 429, {"x-acs-retry-after": "soon", "retry-after": "2"}),
        Refused(Failure.THROTTLED, ACCOUNT, "Throttling.Api", 2.0),
    ),
    # Neither named nor of a known family: the HTTP status decides.
    (answer("SomethingNew", 200), Ambiguous("SomethingNew")),
    (answer("SomethingNew", 400), Refused(Failure.BUG, ACCOUNT, "SomethingNew")),
    (answer(f"号码{BARE}", 400), Refused(Failure.BUG, ACCOUNT, "unreadable")),
    (answer(BARE, 400), Refused(Failure.BUG, ACCOUNT, "unreadable")),
)

REPLIES = {
    CallbackOutcome.STORED: (200, b'{"code":0,"msg":"OK"}'),
    CallbackOutcome.FAILED: (503, b'{"code":1,"msg":"try again"}'),
}


def item(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (base | changes).items() if value is not ABSENT}


def callback(body: bytes) -> Callback:
    return Callback("https://gw.example.com/callbacks/p/kP3", {"content-type": "application/json;charset=utf-8"}, body)


def sample(items: list[Any], *events: ProviderEvent) -> Sample:
    return Sample(callback(json.dumps(items, ensure_ascii=False).encode()), events)


def no_arrays(lonely: dict[str, Any]) -> tuple[Sample, ...]:
    """Bodies that are no array, one of them a good item by itself, and an array longer than any that is sent."""
    endless = json.dumps([lonely] * 2001).encode()
    bodies = (b"", b"{}", b"null", b"[", b"[1,]", b"\xff\xfe", json.dumps(lonely).encode(), b"[" * 100_000, endless)
    return tuple(Sample(callback(body), (Invalid("not_an_array"),)) for body in bodies)


def signed(host: str, action: str, query: str) -> HttpRequest:
    """The V3 signature by its documentation, every byte written out."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    canonical = (
        f"POST\n/\n{query}\n"
        f"host:{host}\n"
        f"x-acs-action:{action}\n"
        f"x-acs-content-sha256:{empty}\n"
        "x-acs-date:2026-03-02T01:30:05Z\n"
        f"x-acs-signature-nonce:{NONCE}\n"
        "x-acs-version:2017-05-25\n"
        "\n"
        "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version\n"
        f"{empty}"
    )
    text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    mac = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
    names = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-version": "2017-05-25",
        "x-acs-content-sha256": empty,
        "x-acs-date": "2026-03-02T01:30:05Z",
        "x-acs-signature-nonce": NONCE,
        "authorization": f"ACS3-HMAC-SHA256 Credential={KEY_ID},SignedHeaders={names},Signature={mac}",
    }
    return HttpRequest(f"https://{host}/?{query}", headers, b"")
