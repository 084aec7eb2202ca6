"""Voice by Alibaba Cloud: a call that reads an approved template aloud (SingleCallByTts), with unsigned receipts.

Sources: https://help.aliyun.com/zh/vms/developer-reference/api-dyvmsapi-2017-05-25-singlecallbytts (request, answer),
https://help.aliyun.com/document_detail/112503.html (receipts: a JSON array, 700 ms to answer it, sent again after
1, 5 and 10 minutes), https://help.aliyun.com/zh/vms/developer-reference/voicereport-1 (the call's last word),
https://help.aliyun.com/document_detail/112804.html (its intermediate states).
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import Annotated, ClassVar

import msgspec
from pydantic import Field

from providers.auth import aliyun
from providers.contract import (
    Adapter,
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
    Receipt,
    Url,
)
from providers.reading import clean_reference, read_json
from schemas.vocabulary import AttemptState, Channel, Failure, FailureScope

# https://help.aliyun.com/document_detail/178344.html and, for the names without `isv.` and the API gateway's own,
# https://help.aliyun.com/zh/vms/developer-reference/api-dyvmsapi-2017-05-25-errorcodes.  `aliyun.verdicts`
# adds what all products have in common.
_CODES = aliyun.verdicts(
    {
        (Failure.OPTED_OUT, FailureScope.RECIPIENT): "isv.COMPLAINT_REJECT ComplaintReject",
        (Failure.OUTSIDE_WINDOW, FailureScope.SENDER): "isv.VOICE_CALL_PERIOD_ERROR isv.VOICE_ROBOT_NOT_PERIOD",
        aliyun.TEMPLATE: "isv.TTS_TEMPLATE_ILLEGAL isv.TEMPLATE_ILLEGAL isv.BLACK_KEY_CONTROL_LIMIT",
        # The number shown to the borrower is malformed or not ours.
        (Failure.BAD_CONFIG, FailureScope.SENDER): "isv.DISPLAY_NUMBER_ILLEGAL isv.BILLID_NOT_EXIST BillidNotExist",
        (Failure.BAD_CONFIG, FailureScope.ACCOUNT): "isv.AMOUNT_NOT_ENOUG",  # as the second page spells it
        # The call was started, and nobody says how far it got.
        (Failure.AMBIGUOUS, FailureScope.ACCOUNT): "isv.VOICE_CALL_FAIL",
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
_KEYS_PRESSED = "300000"


class AliyunVoiceSettings(aliyun.AliyunSettings):
    """`called_show_number` is needed in dedicated mode only; what is None is left to the vendor."""

    action: ClassVar[str] = "SingleCallByTts"
    version: ClassVar[str] = "2017-05-25"

    base_url: Url = "https://dyvmsapi.aliyuncs.com"
    called_show_number: Annotated[str, Field(pattern=r"^[0-9]{3,20}$")] | None = None
    play_times: Annotated[int, Field(ge=1, le=3)] | None = None
    volume: Annotated[int, Field(ge=0, le=100)] | None = None
    speed: Annotated[int, Field(ge=-500, le=500)] | None = None

    @cached_property
    def constant_params(self) -> dict[str, str]:
        """The query's parameters that do not depend on the message."""
        given = {
            "CalledShowNumber": self.called_show_number,
            "PlayTimes": self.play_times,
            "Volume": self.volume,
            "Speed": self.speed,
        }
        return {name: str(value) for name, value in given.items() if value is not None}


class _Answer(aliyun.Answer):
    ref: str | None = msgspec.field(name="CallId", default=None)


class _Report(msgspec.Struct):
    status_code: str | int
    call_id: str | None = None
    out_id: str | None = None
    callee: str | None = None
    end_time: str | None = None
    status_time: str | None = None
    dtmf: str | None = None


_ANSWER: msgspec.json.Decoder[aliyun.Answer] = msgspec.json.Decoder(_Answer)
_REPORT = msgspec.json.Decoder(_Report)


class AliyunVoice(Adapter):
    name = "aliyun_voice"
    channel = Channel.VOICE
    settings_type = AliyunVoiceSettings
    needs_template = True

    def build_request(self, message: Message, settings: AliyunVoiceSettings, ctx: Context) -> HttpRequest:
        """Raises ValueError without a template, and for a number that the vendor could misread."""
        template = message.template
        if template is None:
            raise ValueError("aliyun_voice needs a provider template")
        params = settings.constant_params | {
            "CalledNumber": aliyun.phone_number(message.address),
            "OutId": message.reference,
            "TtsCode": template.code,
        }
        return aliyun.request(settings, params | aliyun.parameters(template, "TtsParam"), ctx)

    def classify_response(self, response: HttpResponse) -> Outcome:
        return aliyun.classify(response, _ANSWER, _CODES)

    def verify_callback(self, callback: Callback, settings: AliyunVoiceSettings, now: dt.datetime) -> str:
        return aliyun.replay_key(callback)

    def parse_callback(self, callback: Callback) -> list[ProviderEvent]:
        items = aliyun.items(callback)
        return [Invalid("not_an_array")] if items is None else [_event(read_json(_REPORT, item)) for item in items]

    def reply(
        self, outcome: CallbackOutcome, settings: AliyunVoiceSettings, prompt: Prompt | None = None
    ) -> HttpResponse:
        return aliyun.reply(outcome)


def _event(report: _Report | None) -> ProviderEvent:
    if report is None:
        return Invalid("report_unreadable")
    ref, attempt = clean_reference(report.call_id), aliyun.our_attempt(report.out_id)
    if ref is None and attempt is None:
        return Invalid("report_unreadable")
    code = str(report.status_code)
    at = aliyun.utc(report.end_time or report.status_time)
    if code == _KEYS_PRESSED:
        digits = report.dtmf or ""
        pressed = 0 < len(digits) <= 32 and set(digits) <= set("0123456789*#ABCD")
        return KeyPress(digits, attempt, ref, at) if pressed else Invalid("dtmf")
    if code not in _STATUS:
        return Invalid("status_code")
    state, failure = _STATUS[code]
    scope, called = _SCOPES.get(code, FailureScope.RECIPIENT), aliyun.e164(report.callee or "")
    return Receipt(state, code, attempt, ref, failure, at, scope, called)


ADAPTER = AliyunVoice()
