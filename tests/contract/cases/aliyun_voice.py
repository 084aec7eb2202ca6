"""Alibaba Cloud voice.

Written from https://help.aliyun.com/zh/vms/developer-reference/api-dyvmsapi-2017-05-25-singlecallbytts,
https://help.aliyun.com/document_detail/178344.html (errors), https://help.aliyun.com/document_detail/55085.html and
112804.html (call states), https://help.aliyun.com/zh/vms/developer-reference/voicereport-1 (receipts) and
https://help.aliyun.com/document_detail/2593177.html (signature).
"""

import datetime as dt
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

from providers.contract import (
    Accepted,
    Ambiguous,
    Callback,
    CallbackOutcome,
    HttpRequest,
    HttpResponse,
    Invalid,
    KeyPress,
    Message,
    Outcome,
    ProviderEvent,
    ProviderTemplate,
    Receipt,
    Refused,
)
from schemas.vocabulary import AttemptState, Channel, Failure, FailureScope
from tests.contract.case import ABSENT, NAME, NONCE, PHONE, REFERENCE, TEXT, Case, Sample

KEY_ID, SECRET, STS = "LTAIcanaryKeyId0123456789", "canary-access-key-secret", "canary-sts-token"
CALL = "116012354148^102813140519"
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


ANSWERS: tuple[tuple[HttpResponse, Outcome], ...] = (
    (answer("OK", CallId=CALL), Accepted(CALL)),
    (answer("OK"), Ambiguous("http_200")),
    (answer("OK", CallId=f"a{'b' * 200}"), Ambiguous("http_200")),
    (answer("OK", 502, CallId=CALL), Ambiguous("http_502")),
    *each("isv.MOBILE_NUMBER_ILLEGAL", Failure.BAD_RECIPIENT, RECIPIENT),
    *each("isv.COMPLAINT_REJECT ComplaintReject", Failure.OPTED_OUT, RECIPIENT),
    *each("isv.BUSINESS_LIMIT_CONTROL", Failure.THROTTLED, RECIPIENT),
    *each("isv.VOICE_CALL_PERIOD_ERROR isv.VOICE_ROBOT_NOT_PERIOD", Failure.OUTSIDE_WINDOW, SENDER),
    *each("isv.TTS_TEMPLATE_ILLEGAL isv.TEMPLATE_ILLEGAL isv.TEMPLATE_PARAMS_ILLEGAL", Failure.BAD_CONTENT, TEMPLATE),
    # Not on any page, but by the vendor's pattern.
    *each("isv.TEMPLATE_SIGN_ILLEGAL isv.VOICE_TEMPLATE_ILLEGAL", Failure.BAD_CONTENT, TEMPLATE),
    *each("isv.BLACK_KEY_CONTROL_LIMIT isv.TEMPLATE_MISSING_PARAMETERS", Failure.BAD_CONTENT, TEMPLATE),
    *each("isv.PARAM_LENGTH_LIMIT isv.PARAM_NOT_SUPPORT_URL isv.INVALID_JSON_PARAM", Failure.BAD_CONTENT, TEMPLATE),
    *each("isv.DISPLAY_NUMBER_ILLEGAL isv.BILLID_NOT_EXIST BillidNotExist", Failure.BAD_CONFIG, SENDER),
    *each("isv.OUT_OF_SERVICE isv.AMOUNT_NOT_ENOUGH isv.ACCOUNT_NOT_EXISTS", Failure.BAD_CONFIG, ACCOUNT),
    *each("isv.ACCOUNT_ABNORMAL isv.PRODUCT_UN_SUBSCRIPT isv.PRODUCT_UNSUBSCRIBE", Failure.BAD_CONFIG, ACCOUNT),
    *each("isv.AMOUNT_NOT_ENOUG isp.RAM_PERMISSION_DENY isv.DENY_IP_RANGE", Failure.BAD_CONFIG, ACCOUNT),
    *each("SignatureDoesNotMatch SignatureNonceUsed InvalidTimeStamp.Expired", Failure.BAD_CONFIG, ACCOUNT),
    *each("IncompleteSignature NoPermission InvalidSecurityToken.Expired", Failure.BAD_CONFIG, ACCOUNT),
    *each("InvalidAccessKeyId.NotFound InvalidAccessKeyId.Inactive Forbidden.RAM", Failure.BAD_CONFIG, ACCOUNT),
    *each("isv.INVALID_PARAMETERS isv.MOBILE_COUNT_OVER_LIMIT isv.NEVER_HEARD_OF", Failure.BUG, ACCOUNT),
    (answer("isp.SYSTEM_ERROR"), Ambiguous("isp.SYSTEM_ERROR")),
    (answer("isp.GATEWAY_ERROR", 500), Ambiguous("isp.GATEWAY_ERROR")),
    (answer("isp.UNKNOWN", 400), Ambiguous("isp.UNKNOWN")),
    (answer("isv.VOICE_CALL_FAIL"), Ambiguous("isv.VOICE_CALL_FAIL")),
    (answer("InternalError", 500), Ambiguous("InternalError")),
    (answer("ServiceUnavailable", 503), Refused(Failure.TRANSIENT, ACCOUNT, "ServiceUnavailable")),
    (answer("Throttling", 400), Refused(Failure.THROTTLED, ACCOUNT, "Throttling")),
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


def report(status: Any, **changes: Any) -> dict[str, Any]:
    base = {
        "call_id": CALL, "out_id": REFERENCE, "status_code": status, "status_msg": "执行完成", "caller": "02160000000",
        "callee": BARE, "originate_time": "2026-03-02 09:30:06", "ring_time": "2026-03-02 09:30:10",
        "start_time": "2026-03-02 09:30:15", "end_time": "2026-03-02 09:30:27", "duration": "12",
        "hangup_direction": "用户", "voice_type": "voice",
    }  # fmt: skip
    return {name: value for name, value in (base | changes).items() if value is not ABSENT}


def step(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "call_id": CALL,
        "out_id": REFERENCE,
        "status_code": status,
        "status_time": "2026-03-02 09:30:11",
        **changes,
    }


def callback(body: bytes) -> Callback:
    return Callback("https://gw.example.com/callbacks/p/kP3", {"content-type": "application/json;charset=utf-8"}, body)


def sample(items: list[Any], *events: ProviderEvent) -> Sample:
    return Sample(callback(json.dumps(items, ensure_ascii=False).encode()), events)


ENDED = dt.datetime(2026, 3, 2, 1, 30, 27, tzinfo=dt.UTC)
STEPPED = dt.datetime(2026, 3, 2, 1, 30, 11, tzinfo=dt.UTC)
A, U, F = AttemptState, AttemptState.UNDELIVERED, Failure
LAST_WORDS: tuple[tuple[str, AttemptState, Failure | None], ...] = (
    ("200000", A.ANSWERED, None), ("200001", A.ANSWERED, None), ("200002", A.BUSY, None), ("200003", A.NO_ANSWER, None),
    ("200004", U, F.BAD_RECIPIENT), ("200005", A.DECLINED, None), ("200006", U, F.BAD_CONFIG),
    ("200007", A.NO_ANSWER, F.UNREACHABLE), ("200010", A.NO_ANSWER, F.UNREACHABLE), ("200011", U, F.UNREACHABLE),
    ("200012", U, F.UNREACHABLE), ("200105", U, F.UNREACHABLE), ("200117", U, F.BAD_CONFIG),
    ("200118", U, F.OUTSIDE_WINDOW), ("200119", U, F.THROTTLED), ("200121", U, F.THROTTLED), ("400", U, F.TRANSIENT),
    ("476", U, F.BAD_CONFIG), ("482", U, F.BAD_RECIPIENT), ("500", U, F.TRANSIENT), ("999999", U, F.TRANSIENT),
)  # fmt: skip
SCOPES = {
    "200006": FailureScope.TEMPLATE, "200117": FailureScope.SENDER, "200121": FailureScope.ACCOUNT,
    "400": FailureScope.ACCOUNT, "476": FailureScope.SENDER, "500": FailureScope.ACCOUNT,
    "999999": FailureScope.ACCOUNT,
}  # fmt: skip
STEPS = (("200101", A.ACCEPTED), ("200201", A.SENT), ("200102", A.ANSWERED), ("200100", A.SENT))
BUSY = Receipt(A.BUSY, "200002", REFERENCE, CALL, None, ENDED)
GOOD = report("200002")
UNREADABLE = Invalid("report_unreadable")

SAMPLES = (
    *(
        sample(
            [report(code)],
            Receipt(state, code, REFERENCE, CALL, why, ENDED, SCOPES.get(code, FailureScope.RECIPIENT)),
        )
        for code, state, why in LAST_WORDS
    ),
    *(sample([step(code)], Receipt(state, code, REFERENCE, CALL, None, STEPPED)) for code, state in STEPS),
    sample([step("300000", dtmf="12#")], KeyPress("12#", REFERENCE, CALL, STEPPED)),
    sample([step("300000", dtmf=f"my number is {PHONE}")], Invalid("dtmf")),
    sample([step("300000")], Invalid("dtmf")),
    sample([report("200130")], Invalid("status_code")),
    sample([]),
    sample([GOOD, GOOD], BUSY, BUSY),
    # Found by the vendor's call id when `out_id` is not ours, and by ours when the call id is missing.
    sample([report("200002", out_id=f"ORDER-{BARE}")], Receipt(A.BUSY, "200002", None, CALL, None, ENDED)),
    sample([report("200002", out_id=None)], Receipt(A.BUSY, "200002", None, CALL, None, ENDED)),
    sample([report("200002", call_id=ABSENT)], Receipt(A.BUSY, "200002", REFERENCE, None, None, ENDED)),
    sample([report(200002)], BUSY),
    # Times are China's, without saying so; a time that is none does not cost us the receipt.
    sample([report("200002", end_time="")], Receipt(A.BUSY, "200002", REFERENCE, CALL)),
    sample([report("200002", end_time="0001-01-01 00:00:00")], Receipt(A.BUSY, "200002", REFERENCE, CALL)),
    sample([report("200002", end_time="yesterday")], Receipt(A.BUSY, "200002", REFERENCE, CALL)),
    # One bad element never spoils its neighbours.
    *(
        sample([GOOD, bad, GOOD], BUSY, UNREADABLE, BUSY)
        for bad in (
            None,
            7,
            "x",
            [],
            {},
            [GOOD],
            {"status_code": "200002"},
            report(None),
            report(["200002"]),
            report("200002", call_id=7),
            report("200002", call_id="a\0b", out_id=""),
            report("200002", end_time=5),
        )
    ),
    Sample(callback(b'[%s,{"call_id":"\xff\xfe"}]' % json.dumps(GOOD).encode()), (BUSY, UNREADABLE)),
    *(
        Sample(callback(body), (Invalid("not_an_array"),))
        for body in (b"", b"{}", b"null", b"[", b"[1,]", b"\xff\xfe", json.dumps(GOOD).encode(), b"[" * 100_000)
    ),
)


def signed_request() -> HttpRequest:
    """The V3 signature by its documentation, every byte written out."""
    param = quote(
        json.dumps({"name": NAME, "amount": "1,234.50"}, ensure_ascii=False, separators=(",", ":")), safe="-_.~"
    )
    query = f"CalledNumber={BARE}&OutId={REFERENCE}&TtsCode=TTS_10001&TtsParam={param}"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    canonical = (
        f"POST\n/\n{query}\n"
        "host:dyvmsapi.aliyuncs.com\n"
        "x-acs-action:SingleCallByTts\n"
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
        "host": "dyvmsapi.aliyuncs.com",
        "x-acs-action": "SingleCallByTts",
        "x-acs-version": "2017-05-25",
        "x-acs-content-sha256": empty,
        "x-acs-date": "2026-03-02T01:30:05Z",
        "x-acs-signature-nonce": NONCE,
        "authorization": f"ACS3-HMAC-SHA256 Credential={KEY_ID},SignedHeaders={names},Signature={mac}",
    }
    return HttpRequest(f"https://dyvmsapi.aliyuncs.com/?{query}", headers, b"")


CASE = Case(
    name="aliyun_voice",
    settings={"access_key_id": KEY_ID, "access_key_secret": SECRET},
    bad_settings=(
        {"base_url": "https://dyvmsapi.aliyuncs.com/api"},
        {"access_key_id": f"{KEY_ID}\n"},
        {"access_key_secret": ABSENT},
        {"access_key_secret": ""},
        {"access_key_secret": [SECRET]},
        {"security_token": ""},
        {"play_times": 4},
        {"volume": 101},
        {"speed": -501},
        {"called_show_number": "+8602160000000"},
        {"secret": SECRET},
    ),
    secrets=(SECRET, STS),
    personal=(PHONE, BARE, NAME, TEXT, "1,234.50", quote(NAME)),
    message=Message(
        REFERENCE,
        Channel.VOICE,
        PHONE,
        TEXT,
        "zh-CN",
        template=ProviderTemplate("TTS_10001", None, {"name": NAME, "amount": "1,234.50"}),
    ),
    request=signed_request(),
    answers=ANSWERS,
    replies={
        CallbackOutcome.STORED: (200, b'{"code":0,"msg":"OK"}'),
        CallbackOutcome.FAILED: (503, b'{"code":1,"msg":"try again"}'),
    },
    samples=SAMPLES,
)
