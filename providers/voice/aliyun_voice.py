"""Voice by Alibaba Cloud: a call that reads an approved template aloud (SingleCallByTts), with unsigned receipts.

Sources: https://help.aliyun.com/zh/vms/developer-reference/api-dyvmsapi-2017-05-25-singlecallbytts (request, answer),
https://help.aliyun.com/document_detail/112503.html (receipts: a JSON array, 700 ms to answer it, sent again after
1, 5 and 10 minutes), https://help.aliyun.com/zh/vms/developer-reference/voicereport-1 (the call's last word),
https://help.aliyun.com/document_detail/112804.html (its intermediate states).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from functools import cached_property
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, field_validator

from providers import defaults
from providers.auth import acs3
from providers.contract import (
    Accepted,
    Adapter,
    Ambiguous,
    Callback,
    CallbackOutcome,
    Context,
    HttpRequest,
    HttpResponse,
    Invalid,
    KeyPress,
    Message,
    Outcome,
    Prompt,
    ProviderEvent,
    ProviderSettings,
    Receipt,
    Secret,
    Url,
)
from providers.reading import clean_reference, read_json
from schemas.vocabulary import AttemptState, Channel, Failure, FailureScope

# https://help.aliyun.com/document_detail/178344.html and, for the names without `isv.` and the API gateway's own,
# https://help.aliyun.com/zh/vms/developer-reference/api-dyvmsapi-2017-05-25-errorcodes.  `Code` decides, not the HTTP
# status: the same code comes with 200 or 400.  A name without its own entry counts by its part before the first dot;
# by Alibaba's convention `isv` is the caller's fault and `isp` the provider's.
_TEMPLATE: defaults.Verdict = (Failure.BAD_CONTENT, FailureScope.TEMPLATE)
_CODES = defaults.verdicts(
    {
        (Failure.BAD_RECIPIENT, FailureScope.RECIPIENT): "isv.MOBILE_NUMBER_ILLEGAL",
        (Failure.OPTED_OUT, FailureScope.RECIPIENT): "isv.COMPLAINT_REJECT ComplaintReject",
        # Once a minute, five times an hour, twenty a day to one number.
        (Failure.THROTTLED, FailureScope.RECIPIENT): "isv.BUSINESS_LIMIT_CONTROL",
        (Failure.THROTTLED, FailureScope.ACCOUNT): "Throttling",
        (Failure.OUTSIDE_WINDOW, FailureScope.SENDER): "isv.VOICE_CALL_PERIOD_ERROR isv.VOICE_ROBOT_NOT_PERIOD",
        _TEMPLATE: """
            isv.TTS_TEMPLATE_ILLEGAL isv.TEMPLATE_ILLEGAL isv.TEMPLATE_PARAMS_ILLEGAL isv.TEMPLATE_MISSING_PARAMETERS
            isv.BLACK_KEY_CONTROL_LIMIT isv.PARAM_LENGTH_LIMIT isv.PARAM_NOT_SUPPORT_URL isv.INVALID_JSON_PARAM""",
        # The number shown to the borrower is malformed or not ours.
        (Failure.BAD_CONFIG, FailureScope.SENDER): "isv.DISPLAY_NUMBER_ILLEGAL isv.BILLID_NOT_EXIST BillidNotExist",
        # AMOUNT_NOT_ENOUG is how the second page spells it.
        (Failure.BAD_CONFIG, FailureScope.ACCOUNT): """
            isv.OUT_OF_SERVICE isv.AMOUNT_NOT_ENOUGH isv.AMOUNT_NOT_ENOUG isv.ACCOUNT_NOT_EXISTS isv.ACCOUNT_ABNORMAL
            isv.PRODUCT_UN_SUBSCRIPT isv.PRODUCT_UNSUBSCRIBE isv.DENY_IP_RANGE isp.RAM_PERMISSION_DENY
            SignatureDoesNotMatch SignatureNonceUsed IncompleteSignature InvalidAccessKeyId InvalidSecurityToken
            InvalidTimeStamp Forbidden NoPermission""",
        (Failure.TRANSIENT, FailureScope.ACCOUNT): "ServiceUnavailable",
        # VOICE_CALL_FAIL: the call was started, and nobody says how far it got.
        (Failure.AMBIGUOUS, FailureScope.ACCOUNT): "isv.VOICE_CALL_FAIL isp InternalError",
        (Failure.BUG, FailureScope.ACCOUNT): "isv",
    }
)

# https://help.aliyun.com/document_detail/55085.html, and 112804.html for the intermediate ones.  Nobody tells a person
# from a voicemail here, so an answered call is just that.
_STATUS: dict[str, tuple[AttemptState, Failure | None]] = {
    "200101": (AttemptState.ACCEPTED, None),  # dialling
    "200201": (AttemptState.SENT, None),  # ringing
    "200102": (AttemptState.ANSWERED, None),  # picked up
    "200100": (AttemptState.SENT, None),  # over; how it went comes in the call's last word
    "200000": (AttemptState.ANSWERED, None),  # listened to the end
    "200001": (AttemptState.ANSWERED, None),  # hung up early
    "200002": (AttemptState.BUSY, None),
    "200003": (AttemptState.NO_ANSWER, None),
    "200004": (AttemptState.UNDELIVERED, Failure.BAD_RECIPIENT),  # no such number
    # Unreachable, pressed away or stopped by a spam filter, all in one: taken as a person's no.
    "200005": (AttemptState.DECLINED, None),
    "200006": (AttemptState.UNDELIVERED, Failure.BAD_CONFIG),  # our sound file cannot be played
    "200007": (AttemptState.NO_ANSWER, Failure.UNREACHABLE),  # out of area
    "200010": (AttemptState.NO_ANSWER, Failure.UNREACHABLE),  # switched off
    "200011": (AttemptState.UNDELIVERED, Failure.UNREACHABLE),  # suspended, often for a while only
    "200012": (AttemptState.UNDELIVERED, Failure.UNREACHABLE),  # call restricted
    "200105": (AttemptState.UNDELIVERED, Failure.UNREACHABLE),  # called number restricted
    "200117": (AttemptState.UNDELIVERED, Failure.BAD_CONFIG),  # the number shown may not be used
    "200118": (AttemptState.UNDELIVERED, Failure.OUTSIDE_WINDOW),
    "200119": (AttemptState.UNDELIVERED, Failure.THROTTLED),  # too many calls of this number, or to it
    "200121": (AttemptState.UNDELIVERED, Failure.THROTTLED),  # too many calls at once
    "400": (AttemptState.UNDELIVERED, Failure.TRANSIENT),  # network element overloaded
    "476": (AttemptState.UNDELIVERED, Failure.BAD_CONFIG),  # the number shown was taken back
    "482": (AttemptState.UNDELIVERED, Failure.BAD_RECIPIENT),  # called number not usable
    "500": (AttemptState.UNDELIVERED, Failure.TRANSIENT),  # the carrier's fault, not located
    "999999": (AttemptState.UNDELIVERED, Failure.TRANSIENT),  # the system's fault, not located
}
# Whom else a failure concerns; the others concern one recipient.  200119 does not say which of the two it is.
_SCOPES: dict[str, FailureScope] = {
    "200006": FailureScope.TEMPLATE,
    "200117": FailureScope.SENDER,
    "200121": FailureScope.ACCOUNT,
    "400": FailureScope.ACCOUNT,
    "476": FailureScope.SENDER,
    "500": FailureScope.ACCOUNT,
    "999999": FailureScope.ACCOUNT,
}
# Alibaba adds names for what is wrong with a template faster than it lists them.
_ABOUT_A_TEMPLATE = re.compile(r"isv\.([A-Z_]+_)?TEMPLATE_([A-Z_]+_)?ILLEGAL")
_KEYS_PRESSED = "300000"

_ACTION, _VERSION = "SingleCallByTts", "2017-05-25"
_CHINA_AHEAD = dt.timedelta(hours=8)  # of UTC; no daylight saving time since 1991
_REFERENCE_LENGTH = 13


class AliyunVoiceSettings(ProviderSettings):
    """One access key.  `called_show_number` is needed in dedicated mode only; what is None is left to the vendor."""

    base_url: Url = "https://dyvmsapi.aliyuncs.com"
    access_key_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z.]{1,128}$")]
    access_key_secret: Secret
    security_token: Secret | None = None  # of temporary credentials (STS)
    called_show_number: Annotated[str, Field(pattern=r"^[0-9]{3,20}$")] | None = None
    play_times: Annotated[int, Field(ge=1, le=3)] | None = None
    volume: Annotated[int, Field(ge=0, le=100)] | None = None
    speed: Annotated[int, Field(ge=-500, le=500)] | None = None

    @field_validator("base_url")
    @classmethod
    def _has_no_path(cls, value: str) -> str:
        if urlsplit(value).path:
            raise ValueError("must have no path: the signature is over /")
        return value

    @cached_property
    def request_parts(self) -> tuple[dict[str, str], dict[str, str]]:
        """What does not depend on the message: the headers to sign and the query's parameters."""
        headers = {
            "host": urlsplit(self.base_url).netloc,
            "x-acs-action": _ACTION,
            "x-acs-version": _VERSION,
            "x-acs-content-sha256": acs3.EMPTY_BODY,
        }
        if self.security_token is not None:
            headers["x-acs-accesskey-id"] = self.access_key_id
            headers["x-acs-security-token"] = self.security_token.get_secret_value()
        given = {
            "CalledShowNumber": self.called_show_number,
            "PlayTimes": self.play_times,
            "Volume": self.volume,
            "Speed": self.speed,
        }
        return headers, {name: str(value) for name, value in given.items() if value is not None}


class _Answer(msgspec.Struct, rename="pascal"):
    code: str = ""
    call_id: str | None = None


class _Report(msgspec.Struct):
    status_code: str | int
    call_id: str | None = None
    out_id: str | None = None
    end_time: str | None = None
    status_time: str | None = None
    dtmf: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_REPORT = msgspec.json.Decoder(_Report)


class AliyunVoice(Adapter):
    name = "aliyun_voice"
    channel = Channel.VOICE
    settings_type = AliyunVoiceSettings
    needs_template = True

    def build_request(self, message: Message, settings: AliyunVoiceSettings, ctx: Context) -> HttpRequest:
        template = message.template
        if template is None:
            raise ValueError("aliyun_voice needs a provider template")
        constant, given = settings.request_parts
        params = given | {
            "CalledNumber": called_number(message.address),
            "OutId": message.reference,
            "TtsCode": template.code,
        }
        if template.params:
            params["TtsParam"] = msgspec.json.encode(template.params).decode()
        headers = constant | {
            "x-acs-date": f"{ctx.now.isoformat()[:19]}Z",
            "x-acs-signature-nonce": ctx.nonce,
        }
        query = acs3.canonical_query(params)
        secret = settings.access_key_secret.get_secret_value()
        headers["authorization"] = acs3.authorization("POST", "/", query, headers, settings.access_key_id, secret)
        return HttpRequest(f"{settings.base_url}/?{query}", headers)

    def classify_response(self, response: HttpResponse) -> Outcome:
        answer = read_json(_ANSWER, response.body)
        if answer is None or not answer.code:
            return defaults.classify(response)
        if answer.code == "OK":
            ref = clean_reference(answer.call_id) if 200 <= response.status < 300 else None
            return Accepted(ref) if ref is not None else Ambiguous(f"http_{response.status}")
        milliseconds = defaults.number(response.headers.get("x-acs-retry-after", ""))
        wait = milliseconds / 1000 if milliseconds is not None else None
        family = answer.code.partition(".")[0]
        verdict = _CODES.get(answer.code) or _CODES.get(family)
        if verdict == _CODES["isv"] and _ABOUT_A_TEMPLATE.fullmatch(answer.code):
            verdict = _TEMPLATE
        return defaults.classify_code({answer.code: verdict} if verdict else {}, answer.code, response, wait)

    def verify_callback(self, callback: Callback, settings: AliyunVoiceSettings, now: dt.datetime) -> str:
        return hashlib.sha256(callback.body).hexdigest()

    def parse_callback(self, callback: Callback) -> list[ProviderEvent]:
        items = read_json(_ITEMS, callback.body)
        return [Invalid("not_an_array")] if items is None else [_event(read_json(_REPORT, item)) for item in items]

    def reply(
        self, outcome: CallbackOutcome, settings: AliyunVoiceSettings, prompt: Prompt | None = None
    ) -> HttpResponse:
        return _REPLIES[outcome]


def called_number(address: str) -> str:
    """An E.164 number as the vendor wants it: bare in China, landlines with their 0; else country code and number."""
    digits = address.removeprefix("+")
    if not digits.startswith("86"):
        return digits
    national = digits[2:]
    return national if len(national) == 11 and national.startswith("1") else f"0{national}"


def _event(report: _Report | None) -> ProviderEvent:
    if report is None:
        return Invalid("report_unreadable")
    ref = clean_reference(report.call_id)
    # Other users of the same account may put anything into `out_id`.
    attempt = report.out_id if report.out_id is not None and _is_reference(report.out_id) else None
    if ref is None and attempt is None:
        return Invalid("report_unreadable")
    code = str(report.status_code)
    at = _utc(report.end_time or report.status_time)
    if code == _KEYS_PRESSED:
        digits = report.dtmf or ""
        pressed = 0 < len(digits) <= 32 and set(digits) <= set("0123456789*#ABCD")
        return KeyPress(digits, attempt, ref, at) if pressed else Invalid("dtmf")
    if code not in _STATUS:
        return Invalid("status_code")
    state, failure = _STATUS[code]
    return Receipt(state, code, attempt, ref, failure, at, _SCOPES.get(code, FailureScope.RECIPIENT))


def _is_reference(text: str) -> bool:
    return len(text) == _REFERENCE_LENGTH and text.isascii() and text.isalnum()


def _utc(local: str | None) -> dt.datetime | None:
    """A time of day in China, which the vendor gives without a zone, in UTC."""
    try:
        moment = dt.datetime.fromisoformat(local or "")
        return None if moment.tzinfo is not None else (moment - _CHINA_AHEAD).replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None


def _reply(status: int, body: bytes) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json;charset=UTF-8"}, body)


_REPLIES = {
    CallbackOutcome.STORED: _reply(200, b'{"code":0,"msg":"OK"}'),
    CallbackOutcome.FAILED: _reply(503, b'{"code":1,"msg":"try again"}'),
}

ADAPTER = AliyunVoice()
