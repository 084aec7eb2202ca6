"""Twilio Voice.

Written from https://www.twilio.com/docs/voice/api/call-resource, https://www.twilio.com/docs/voice/twiml/gather,
https://www.twilio.com/docs/voice/answering-machine-detection, https://www.twilio.com/docs/api/errors and
https://www.twilio.com/docs/usage/webhooks/webhooks-security.
"""

import base64
import datetime as dt
import json
from typing import Any
from urllib.parse import quote_plus

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
    Prompt,
    Receipt,
    Refused,
)
from schemas.vocabulary import AttemptState, Channel, Failure, FailureScope
from tests.contract.case import ABSENT, CALLBACK_URL, NAME, PHONE, REFERENCE, Case, Sample, Signing
from tests.contract.cases.twilio_sms import (
    ACCOUNT,
    API_SECRET,
    OLD_SHARED,
    OLD_TOKEN,
    SENDER,
    SHARED,
    TOKEN,
    error,
    form,
    sign,
)

SID = "CA0123456789abcdef0123456789abcdef"
ASKED = f"您好，这里是示例银行，请问您是{NAME}本人吗？<1>是 & <2>不是"
DISCREET = "您的账户有一条服务提醒。"
QUESTION = Prompt(ASKED, "zh-CN", "12", f"{CALLBACK_URL}?step=identity")
AT = dt.datetime(2026, 3, 2, 1, 30, 7, tzinfo=dt.UTC)
STAMP = "Mon, 02 Mar 2026 01:30:07 +0000"


def created(**changes: Any) -> HttpResponse:
    body: dict[str, Any] = {
        "account_sid": ACCOUNT, "annotation": None, "answered_by": None, "api_version": "2010-04-01",
        "caller_name": None, "date_created": None, "direction": "outbound-api", "duration": None, "end_time": None,
        "from": SENDER, "parent_call_sid": None, "phone_number_sid": None, "price": None, "price_unit": "USD",
        "sid": SID, "start_time": None, "status": "queued", "subresource_uris": {}, "to": PHONE, "to_formatted": PHONE,
        "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{SID}.json",
    }  # fmt: skip
    return HttpResponse(201, {"content-type": "application/json"}, json.dumps(body | changes).encode())


def refused(code: int, failure: Failure, scope: FailureScope, status: int = 400) -> tuple[HttpResponse, Refused]:
    return error(status, code), Refused(failure, scope, str(code))


RECIPIENT, SENDING, WHOLE = FailureScope.RECIPIENT, FailureScope.SENDER, FailureScope.ACCOUNT
ANSWERS: tuple[tuple[HttpResponse, Outcome], ...] = (
    (created(), Accepted(SID)),
    (created(sid=None), Ambiguous("http_201")),
    (created(sid="CA\0"), Ambiguous("http_201")),
    (HttpResponse(200, {}, b"{}"), Ambiguous("http_200")),
    refused(20003, Failure.BAD_CONFIG, WHOLE, 401),
    refused(20005, Failure.BAD_CONFIG, WHOLE, 403),
    refused(20404, Failure.BAD_CONFIG, WHOLE, 404),
    *(refused(code, Failure.BAD_CONFIG, WHOLE) for code in (21203, 21205, 21219, 21609)),
    refused(20429, Failure.THROTTLED, WHOLE, 429),
    (error(429, 20429, **{"retry-after": "17"}), Refused(Failure.THROTTLED, WHOLE, "20429", 17.0)),
    *(
        refused(code, Failure.BAD_RECIPIENT, RECIPIENT)
        for code in (21202, 21211, 21214, 21215, 21216, 21217, 13223, 13224, 13225, 13227)
    ),
    *(refused(code, Failure.BAD_CONFIG, SENDING) for code in (21210, 21212, 21213)),
    *(refused(code, Failure.BUG, WHOLE) for code in (21201, 12100, 12200)),
    refused(29999, Failure.BUG, WHOLE),
    (error(500, 20500), Ambiguous("http_500")),
    (error(503, 20503), Ambiguous("http_503")),
)


def call(status: str, url: str = CALLBACK_URL, **extra: str) -> Callback:
    fields = {
        "AccountSid": ACCOUNT, "ApiVersion": "2010-04-01", "CallSid": SID, "CallStatus": status, "From": SENDER,
        "To": PHONE, "Called": PHONE, "Caller": SENDER, "Direction": "outbound-api", **extra,
    }  # fmt: skip
    return form(fields.items(), url)


def told(status: str, number: int = 0, **extra: str) -> Callback:
    source = {"CallbackSource": "call-progress-events", "SequenceNumber": str(number), "Timestamp": STAMP}
    return call(status, **source, **extra)


def receipt(
    status: str,
    state: AttemptState,
    code: str | None = None,
    failure: Failure | None = None,
    scope: FailureScope = RECIPIENT,
    **extra: str,
) -> Sample:
    return Sample(told(status, **extra), (Receipt(state, code or status, REFERENCE, SID, failure, AT, scope),))


def pressed(digits: str | None, step: str = "identity") -> Callback:
    extra = {} if digits is None else {"Digits": digits, "msg": "Gather End", "FinishedOnKey": ""}
    return call("in-progress", f"{CALLBACK_URL}?step={step}", **extra)


HUMAN, MACHINE = AttemptState.ANSWERED_HUMAN, AttemptState.ANSWERED_MACHINE
UNDELIVERED, NO_ANSWER = AttemptState.UNDELIVERED, AttemptState.NO_ANSWER
SAMPLES = (
    receipt("completed", AttemptState.ANSWERED, CallDuration="31", Duration="1", SipResponseCode="200"),
    receipt("queued", AttemptState.ACCEPTED),
    receipt("initiated", AttemptState.ACCEPTED),
    receipt("ringing", AttemptState.SENT),
    receipt("in-progress", AttemptState.ANSWERED),
    receipt("in-progress", HUMAN, "human", AnsweredBy="human"),
    receipt("completed", HUMAN, "human", AnsweredBy="human"),
    *(
        receipt("completed", MACHINE, by, AnsweredBy=by)
        for by in ("machine_start", "machine_end_beep", "machine_end_silence", "machine_end_other", "fax")
    ),
    receipt("completed", AttemptState.ANSWERED, "unknown", AnsweredBy="unknown"),
    receipt("busy", AttemptState.BUSY, SipResponseCode="486"),
    receipt("busy", AttemptState.DECLINED, "sip_603", SipResponseCode="603"),
    receipt("no-answer", NO_ANSWER, SipResponseCode="487"),
    receipt("canceled", UNDELIVERED),
    receipt("failed", UNDELIVERED),
    receipt("failed", UNDELIVERED, "sip_503", SipResponseCode="503"),
    receipt("failed", AttemptState.DECLINED, "sip_603", SipResponseCode="603"),
    *(
        receipt("failed", UNDELIVERED, f"sip_{code}", Failure.BAD_RECIPIENT, SipResponseCode=code)
        for code in ("404", "410", "484", "604")
    ),
    *(
        receipt("failed", NO_ANSWER, f"sip_{code}", Failure.UNREACHABLE, SipResponseCode=code)
        for code in ("408", "480")
    ),
    receipt("failed", UNDELIVERED, "13224", Failure.BAD_RECIPIENT, ErrorCode="13224", SipResponseCode="404"),
    receipt("failed", UNDELIVERED, "13227", Failure.BAD_RECIPIENT, ErrorCode="13227"),
    receipt("failed", UNDELIVERED, "21210", Failure.BAD_CONFIG, SENDING, ErrorCode="21210"),
    receipt("failed", UNDELIVERED, "39999", ErrorCode="39999"),
    # A code that is not one never travels on: it could be anything.
    receipt("failed", UNDELIVERED, "unreadable", ErrorCode=f"call {PHONE}"),
    receipt("completed", AttemptState.ANSWERED, "unreadable", AnsweredBy=f"call {PHONE}"),
    Sample(
        call("completed", Timestamp="yesterday", Future="new parameter"),
        (Receipt(AttemptState.ANSWERED, "completed", REFERENCE, SID),),
    ),
    # A key proves that a person listens; silence proves nothing.
    Sample(
        pressed("1"),
        (KeyPress("1", REFERENCE, SID, None, "identity"), Receipt(HUMAN, "key", REFERENCE, SID)),
    ),
    Sample(
        pressed("9", "menu"),
        (KeyPress("9", REFERENCE, SID, None, "menu"), Receipt(HUMAN, "key", REFERENCE, SID)),
    ),
    Sample(pressed(""), (KeyPress("", REFERENCE, SID, None, "identity"),)),
    Sample(pressed(None, "menu_again"), (KeyPress("", REFERENCE, SID, None, "menu_again"),)),
    Sample(pressed("1; drop"), (Invalid("digits"),)),
    Sample(told("teleported"), (Invalid("call_status"),)),
    Sample(form([("CallStatus", "completed")]), (Invalid("call_sid"),)),
    Sample(form([("CallStatus", "completed"), ("CallSid", "CA\0")]), (Invalid("call_sid"),)),
)
TWIML = (
    '<Response><Gather input="dtmf" numDigits="1" timeout="6" '
    f'action="{CALLBACK_URL}?step=identity#rc=5&amp;rp=4xx,5xx,ct,rt" method="POST" actionOnEmptyResult="true">'
    f'<Say language="zh-CN">您好，这里是示例银行，请问您是{NAME}本人吗？&lt;1&gt;是 &amp; &lt;2&gt;不是</Say>'
    "</Gather></Response>"
)

CASE = Case(
    name="twilio_voice",
    settings={
        "account_sid": ACCOUNT,
        "auth_tokens": [TOKEN, OLD_TOKEN],
        "shared_keys": [SHARED, OLD_SHARED],
        "sender": SENDER,
    },
    bad_settings=(
        {"base_url": "api.twilio.com"},
        {"account_sid": TOKEN},
        {"auth_tokens": [], "shared_keys": []},
        {"auth_tokens": []},
        {"api_key_secret": API_SECRET},
        {"sender": ABSENT},
        {"sender": "4155550000"},
        {"ring_seconds": 600},
        {"longest_call_seconds": 0},
        {"machine_detection": "enable"},
        {"messaging_service_sid": "MG1"},
        {"callback_overrides": "#rc=5"},
    ),
    secrets=(
        TOKEN,
        OLD_TOKEN,
        SHARED,
        OLD_SHARED,
        base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode(),
    ),
    personal=(PHONE, PHONE.removeprefix("+86"), NAME, ASKED, quote_plus(PHONE), quote_plus(NAME)),
    message=Message(REFERENCE, Channel.VOICE, PHONE, DISCREET, "zh-CN", prompt=QUESTION),
    request=HttpRequest(
        f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Calls.json",
        {
            "authorization": "Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode(),
            "content-type": "application/x-www-form-urlencoded",
        },
        (
            f"To=%2B8613900001234&From=%2B14155550000&TimeLimit=240&Timeout=30&Twiml={quote_plus(TWIML)}"
            "&StatusCallback=https%3A%2F%2Fgw.example.com%2Fcallbacks%2Fp%2FkP3-path_token-9f%2F0c5k3xr8v2m4t"
            "%23rc%3D5%26rp%3D4xx%2C5xx%2Cct%2Crt"
            "&StatusCallbackEvent=ringing&StatusCallbackEvent=answered&StatusCallbackEvent=completed"
        ).encode(),
    ),
    answers=ANSWERS,
    replies={CallbackOutcome.STORED: (200, b"<Response/>"), CallbackOutcome.FAILED: (503, b"")},
    samples=SAMPLES,
    signing=Signing(sign, accepted=(({}, TOKEN), ({}, OLD_TOKEN), ({}, SHARED), ({}, OLD_SHARED))),
)
