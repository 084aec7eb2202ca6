"""Twilio SMS.

Written from https://www.twilio.com/docs/messaging/api/message-resource, https://www.twilio.com/docs/api/errors,
https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks and
https://www.twilio.com/docs/usage/webhooks/webhooks-security.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

from providers.contract import (
    Accepted,
    Ambiguous,
    Callback,
    CallbackOutcome,
    Engaged,
    HttpRequest,
    HttpResponse,
    Inbound,
    Invalid,
    Message,
    Outcome,
    ProviderEvent,
    Receipt,
    Refused,
)
from schemas.vocabulary import AttemptState, Channel, Engagement, Failure, FailureScope
from tests.contract.case import ABSENT, CALLBACK_URL, NAME, PHONE, REFERENCE, TEXT, Case, Sample, Signing, with_headers

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
SID = "SM0123456789abcdef0123456789abcdef"
TOKEN, OLD_TOKEN = "canary-auth-token-current", "canary-auth-token-previous"
SHARED, OLD_SHARED = "canary-shared-key-current", "canary-shared-key-previous"
API_SECRET = "canary-api-key-secret"
SENDER = "+14155550000"
SHA256 = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"


def error(status: int, code: int, **headers: str) -> HttpResponse:
    more = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": f"about {PHONE}", "more_info": more, "status": status}
    return HttpResponse(status, headers, json.dumps(body).encode())


def created(**changes: Any) -> HttpResponse:
    body: dict[str, Any] = {
        "account_sid": ACCOUNT, "api_version": "2010-04-01", "body": TEXT, "date_created": None, "date_sent": None,
        "direction": "outbound-api", "error_code": None, "error_message": None, "from": SENDER, "num_media": "0",
        "num_segments": "1", "price": None, "price_unit": "USD", "sid": SID, "status": "queued",
        "subresource_uris": {}, "to": PHONE, "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}.json",
    }  # fmt: skip
    return HttpResponse(201, {"content-type": "application/json"}, json.dumps(body | changes).encode())


def refused(code: int, failure: Failure, scope: FailureScope, status: int = 400) -> tuple[HttpResponse, Refused]:
    return error(status, code), Refused(failure, scope, str(code))


RECIPIENT, SENDING, TEMPLATE, WHOLE = (
    FailureScope.RECIPIENT, FailureScope.SENDER, FailureScope.TEMPLATE, FailureScope.ACCOUNT,
)  # fmt: skip

ANSWERS: tuple[tuple[HttpResponse, Outcome], ...] = (
    (created(), Accepted(SID)),
    (created(status="accepted", **{"from": None}), Accepted(SID)),
    (created(sid=None), Ambiguous("http_201")),
    (created(sid="SM\0"), Ambiguous("http_201")),
    (HttpResponse(200, {}, b"{}"), Ambiguous("http_200")),
    refused(20003, Failure.BAD_CONFIG, WHOLE, 401),
    refused(20005, Failure.BAD_CONFIG, WHOLE, 403),
    refused(20404, Failure.BAD_CONFIG, WHOLE, 404),
    refused(20429, Failure.THROTTLED, WHOLE, 429),
    (error(429, 20429, **{"retry-after": "17"}), Refused(Failure.THROTTLED, WHOLE, "20429", 17.0)),
    # A date counts from the answer's own; a wait of months is a mistake.
    (
        error(429, 20429, **{"retry-after": "Mon, 02 Mar 2026 01:30:05 GMT", "date": "Mon, 02 Mar 2026 01:30:00 GMT"}),
        Refused(Failure.THROTTLED, WHOLE, "20429", 5.0),
    ),
    (
        error(429, 20429, **{"retry-after": "Mon, 02 Mar 2026 01:30:05 GMT", "date": "Tue, 03 Mar 2026 01:30:00 GMT"}),
        Refused(Failure.THROTTLED, WHOLE, "20429", 0.0),
    ),
    (error(429, 20429, **{"retry-after": "Mon, 02 Mar 2026 01:30:05 GMT"}), Refused(Failure.THROTTLED, WHOLE, "20429")),
    (error(429, 20429, **{"retry-after": "soon", "date": "now"}), Refused(Failure.THROTTLED, WHOLE, "20429")),
    (error(429, 20429, **{"retry-after": "1772415005"}), Refused(Failure.THROTTLED, WHOLE, "20429")),
    *(refused(code, Failure.BAD_RECIPIENT, RECIPIENT) for code in (21211, 21217, 21408, 21612, 21614, 21635)),
    *(refused(code, Failure.BAD_CONFIG, SENDING) for code in (21212, 21601, 21606)),
    *(refused(code, Failure.BAD_CONFIG, WHOLE) for code in (21608, 21609)),
    *(refused(code, Failure.BUG, WHOLE) for code in (21602, 21603, 21604)),
    refused(21610, Failure.OPTED_OUT, RECIPIENT),
    refused(21611, Failure.THROTTLED, SENDING, 429),
    refused(21617, Failure.BAD_CONTENT, TEMPLATE),
    # Not in the table: the status decides, the code is kept for people.
    refused(29999, Failure.BUG, WHOLE),
    refused(29999, Failure.BAD_CONFIG, WHOLE, 403),
    (error(500, 20500), Ambiguous("http_500")),
    (error(503, 20503), Ambiguous("http_503")),
    (error(500, 21610), Ambiguous("http_500")),
)


def vendor_signature(text: str, secret: str, algorithm: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), algorithm).digest()).decode()


def sign(callback: Callback, secret: str) -> Callback:
    """Signs form fields into the header, or leaves them to `bodySHA256` in the query when the body is JSON."""
    sha256 = "sha256" if secret in (SHARED, OLD_SHARED) else None
    params = (
        parse_qsl(callback.body.decode(), keep_blank_values=True) if "form" in callback.headers["content-type"] else []
    )
    text = callback.url + "".join(f"{name}{value}" for name, value in sorted(set(params)))
    signed = with_headers(callback, x_twilio_signature=vendor_signature(text, secret, sha256 or "sha1"))
    return with_headers(signed, x_twilio_webhooks_signature_settings=SHA256 if sha256 else None)


def form(pairs: Iterable[tuple[str, str]], url: str = CALLBACK_URL, attempt: str | None = REFERENCE) -> Callback:
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "user-agent": "TwilioProxy/1.1"}
    return sign(Callback(url, headers, urlencode(list(pairs)).encode(), attempt), TOKEN)


def status(name: str, **extra: str) -> Callback:
    fields = {
        "AccountSid": ACCOUNT, "ApiVersion": "2010-04-01", "From": SENDER, "MessageSid": SID, "MessageStatus": name,
        "SmsSid": SID, "SmsStatus": name, "To": PHONE, **extra,
    }  # fmt: skip
    return form(fields.items())


def receipt(
    name: str,
    state: AttemptState,
    code: str | None = None,
    failure: Failure | None = None,
    scope: FailureScope = FailureScope.RECIPIENT,
) -> Sample:
    callback = status(name, **({"ErrorCode": code, "ErrorMessage": f"about {PHONE}"} if code else {}))
    return Sample(callback, (Receipt(state, code or name, REFERENCE, SID, failure, None, scope),))


def json_callback(body: bytes) -> Callback:
    url = f"{CALLBACK_URL}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    return sign(Callback(url, {"content-type": "application/json"}, body, REFERENCE), TOKEN)


UNDELIVERED = AttemptState.UNDELIVERED
DELIVERED: ProviderEvent = Receipt(AttemptState.DELIVERED, "delivered", REFERENCE, SID)
SAMPLES = (
    receipt("delivered", AttemptState.DELIVERED),
    receipt("accepted", AttemptState.ACCEPTED),
    receipt("scheduled", AttemptState.ACCEPTED),
    receipt("queued", AttemptState.ACCEPTED),
    receipt("sending", AttemptState.ACCEPTED),
    receipt("sent", AttemptState.SENT),
    receipt("canceled", UNDELIVERED),
    receipt("partially_delivered", UNDELIVERED),
    receipt("failed", UNDELIVERED, "30001", Failure.THROTTLED, FailureScope.SENDER),
    receipt("failed", UNDELIVERED, "30002", Failure.BAD_CONFIG, FailureScope.ACCOUNT),
    receipt("undelivered", UNDELIVERED, "30003", Failure.UNREACHABLE),
    receipt("undelivered", UNDELIVERED, "30004", Failure.BAD_RECIPIENT),
    receipt("undelivered", UNDELIVERED, "30005", Failure.BAD_RECIPIENT),
    receipt("undelivered", UNDELIVERED, "30006", Failure.BAD_RECIPIENT),
    receipt("undelivered", UNDELIVERED, "30007", Failure.BAD_CONTENT, FailureScope.SENDER),
    receipt("undelivered", UNDELIVERED, "30008", Failure.UNREACHABLE),
    receipt("failed", UNDELIVERED, "30010", Failure.BAD_CONFIG, RECIPIENT),
    receipt("failed", AttemptState.TTL_EXPIRED, "30036"),
    receipt("failed", UNDELIVERED, "21610", Failure.OPTED_OUT),
    receipt("undelivered", UNDELIVERED, "39999"),
    # Twilio may name a code on the way as well; it is not a failure then.
    receipt("sent", AttemptState.SENT, "30003"),
    Sample(
        status("read"),
        (
            Receipt(AttemptState.DELIVERED, "read", REFERENCE, SID),
            Engaged(Engagement.OPENED, REFERENCE, SID),
        ),
    ),
    Sample(status("delivered", RawDlrDoneDate="2603020930", Future="new parameter"), (DELIVERED,)),
    Sample(
        form([("MessageSid", SID), ("SmsStatus", "delivered"), ("Tag", "b"), ("Tag", "a"), ("Tag", "a")]), (DELIVERED,)
    ),
    # A code that is not one never travels on: it could be anything.
    Sample(status("undelivered", ErrorCode=f"call {PHONE}"), (Receipt(UNDELIVERED, "unreadable", REFERENCE, SID),)),
    Sample(
        form(
            {"MessageSid": SID, "SmsStatus": "received", "From": PHONE, "To": SENDER, "Body": "退订 STOP"}.items(),
            "https://gw.example.com/callbacks/p/kP3-path_token-9f",
            None,
        ),
        (Inbound(SID, PHONE, SENDER, "退订 STOP"),),
    ),
    Sample(status("teleported"), (Invalid("message_status"),)),
    Sample(form([("MessageStatus", "delivered")]), (Invalid("message_sid"),)),
    Sample(form([("MessageStatus", "delivered"), ("MessageSid", "SM\0")]), (Invalid("message_sid"),)),
    Sample(json_callback(b'{"MessageSid":"%s","MessageStatus":"delivered"}' % SID.encode()), (DELIVERED,)),
    Sample(json_callback(b'{"MessageSid":1}'), (Invalid("message_sid"),)),
    Sample(json_callback(b"{"), (Invalid("message_sid"),)),
)

CASE = Case(
    name="twilio_sms",
    settings={
        "account_sid": ACCOUNT,
        "auth_tokens": [TOKEN, OLD_TOKEN],
        "shared_keys": [SHARED, OLD_SHARED],
        "sender": SENDER,
    },
    bad_settings=(
        {"base_url": "api.twilio.com"},
        {"base_url": f"https://user:{TOKEN}@api.twilio.com"},
        {"base_url": "https://api.twilio.com/?x=1"},
        {"base_url": "https://api.twilio.com:port"},
        {"account_sid": TOKEN},
        {"account_sid": ABSENT},
        {"auth_tokens": TOKEN},
        {"auth_tokens": [TOKEN, ""]},
        {"auth_tokens": [], "shared_keys": []},
        {"auth_tokens": []},
        {"api_key_secret": API_SECRET},
        {"api_key_sid": "SK1"},
        {"sender": ABSENT},
        {"messaging_service_sid": "MG1"},
        {"callback_overrides": "#rc=5"},
        {"auth_token": TOKEN},
    ),
    secrets=(
        TOKEN,
        OLD_TOKEN,
        SHARED,
        OLD_SHARED,
        API_SECRET,
        base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode(),
    ),
    personal=(PHONE, PHONE.removeprefix("+86"), NAME, TEXT, "1,234.50", quote_plus(PHONE), quote_plus(NAME)),
    message=Message(REFERENCE, Channel.SMS, PHONE, TEXT, "zh-CN", ttl_seconds=5400),
    request=HttpRequest(
        f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages.json",
        {
            "authorization": "Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode(),
            "content-type": "application/x-www-form-urlencoded",
        },
        (
            b"To=%2B8613900001234&From=%2B14155550000&Body=%E3%80%90%E7%A4%BA%E4%BE%8B%E9%93%B6%E8%A1%8C%E3%80%91"
            b"%E5%BC%A0%E4%B8%89%E4%B8%B0%E6%82%A8%E5%A5%BD%EF%BC%8C%E6%9C%AC%E6%9C%9F%E5%BA%94%E8%BF%981%2C234.50%E5%85%83"
            b"+%26+3%E6%9C%888%E6%97%A5%E5%88%B0%E6%9C%9F+100%25%2B"
            b"&StatusCallback=https%3A%2F%2Fgw.example.com%2Fcallbacks%2Fp%2FkP3-path_token-9f%2F0c5k3xr8v2m4t"
            b"%23rc%3D5%26rp%3D4xx%2C5xx%2Cct%2Crt&ValidityPeriod=5400"
        ),
    ),
    answers=ANSWERS,
    replies={CallbackOutcome.STORED: (204, b""), CallbackOutcome.FAILED: (503, b"")},
    samples=SAMPLES,
    signing=Signing(
        sign,
        accepted=(
            ({}, TOKEN),
            ({}, OLD_TOKEN),
            ({"auth_tokens": [OLD_TOKEN, TOKEN]}, TOKEN),
            ({}, SHARED),
            ({}, OLD_SHARED),
            ({"auth_tokens": [], "api_key_sid": "SK1", "api_key_secret": API_SECRET}, SHARED),
        ),
    ),
)
