"""SMS by Alibaba Cloud: an approved template under an approved signature (SendSms), with unsigned receipts and replies.

Sources: https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-sendsms (request, answer),
https://help.aliyun.com/document_detail/101867.html (receipts, SmsReport: a JSON array, sent again after 1, 5 and 10
minutes, the same one perhaps twice), https://help.aliyun.com/zh/sms/developer-reference/smsup-http (replies, SmsUp),
https://help.aliyun.com/zh/sms/developer-reference/smsreport-http-intl (receipts of international accounts).

The console takes one URL for receipts and one for replies; they may be the same.  A receipt is identified by its
message id and its number together.
"""

from __future__ import annotations

import datetime as dt
from typing import ClassVar

import msgspec

from providers import defaults
from providers.auth import aliyun
from providers.contract import (
    Adapter,
    Callback,
    CallbackOutcome,
    Context,
    HttpRequest,
    HttpResponse,
    Inbound,
    Invalid,
    Message,
    Outcome,
    Prompt,
    ProviderEvent,
    Receipt,
    Url,
)
from providers.reading import clean_code, clean_reference, read_json
from schemas.vocabulary import AttemptState, Channel, Failure, FailureScope

_REFUSED_BY_THE_PERSON: defaults.Verdict = (Failure.OPTED_OUT, FailureScope.RECIPIENT)

# https://help.aliyun.com/document_detail/101346.html, without the codes of other actions (applying for signatures,
# templates and short links).  `aliyun.verdicts` adds what all products have in common.
_CODES = aliyun.verdicts(
    {
        (Failure.BAD_RECIPIENT, FailureScope.RECIPIENT): "isv.DOMESTIC_NUMBER_NOT_SUPPORTED",
        _REFUSED_BY_THE_PERSON: "isv.CUSTOMER_REFUSED",
        # A variable of this message holds what the filter does not let through.
        (Failure.BAD_CONTENT, FailureScope.RECIPIENT): "isv.BLACK_KEY_CONTROL_LIMIT",
        # Limits that the account has set itself in the console.
        (Failure.THROTTLED, FailureScope.ACCOUNT): "isv.DAY_LIMIT_CONTROL isv.MONTH_LIMIT_CONTROL",
        # A signature, and its extension code, belong to a template by our configuration: a bad one stops no other.
        # The last row is of signatures and templates that are for tests only.
        aliyun.TEMPLATE: """
            isv.SMS_TEMPLATE_ILLEGAL isv.SMS_CONTENT_ILLEGAL isv.UNSUPPORTED_CONTENT
            isv.SMS_CONTENT_MISMATCH_TEMPLATE_TYPE
            isv.SMS_SIGNATURE_ILLEGAL isv.SMS_SIGN_ILLEGAL isv.SIGN_STATE_ILLEGAL isv.SMS_SIGNATURE_SCENE_ILLEGAL
            isv.SIGN_NAME_ILLEGAL isv.SIGN_SOURCE_ILLEGAL isv.SMS_SIGN_EMOJI_ILLEGAL
            isv.EXTEND_CODE_ERROR isv.ONE_CODE_MULTIPLE_SIGN isv.CODE_EXCEED_LIMIT isv.CODE_ERROR
            isv.SMS_TEST_SIGN_TEMPLATE_LIMIT isv.SMS_TEST_TEMPLATE_PARAMS_ILLEGAL isv.SMS_TEST_NUMBER_LIMIT""",
        (Failure.BAD_CONFIG, FailureScope.ACCOUNT): "isv.SECURITY_FROZEN_ACCOUNT",
    }
)
# A template for abroad and a number at home: one recipient is refused, and the mapping of templates is wrong.
_ALERTS = frozenset({"isv.DOMESTIC_NUMBER_NOT_SUPPORTED"})

# https://help.aliyun.com/en/sms/developer-reference/delivery-receipt-error-codes: the codes that come in receipts only.
# The set is open: carriers' own codes pass through, and of those here are the ones that say who is to blame.
_RECEIPT_CODES = defaults.verdicts(
    {
        (Failure.BAD_RECIPIENT, FailureScope.RECIPIENT): "SP_NOT_BY_INTER_SMS MK:0001",
        # Off, out of area, suspended, in arrears, no such number, a full memory: which of them, nobody says.
        (Failure.UNREACHABLE, FailureScope.RECIPIENT): """
            MOBILE_NOT_ON_SERVICE MOBILE_ACCOUNT_ABNORMAL INVALID_NUMBER MOBLLE_TERMINAL_ERROR MOBILE_TERMINAL_ERROR""",
        _REFUSED_BY_THE_PERSON: "MOBILE_IN_BLACK USER_REJECT MBBLACK DBBLACK",
        (Failure.THROTTLED, FailureScope.RECIPIENT): "MOBILE_SEND_LIMIT",
        aliyun.TEMPLATE: "CONTENT_KEYWORD CONTENT_ERROR NO_ROUTE SIGNATURE_BLACKLIST",
        # Signature, text or number: as it does not say which, it says nothing about the next message.
        (Failure.BAD_CONTENT, FailureScope.RECIPIENT): "PARAMS_ILLEGAL",
        # The signature is not on file with this borrower's carrier: those of the other carriers are not concerned.
        (Failure.BAD_CONFIG, FailureScope.RECIPIENT): "PORT_NOT_REGISTERED",
        (Failure.TRANSIENT, FailureScope.ACCOUNT): "IS_CLOSE",  # the channel to the carrier was shut
    }
)
_NO_REASON: tuple[Failure | None, FailureScope] = (None, FailureScope.RECIPIENT)
# What is reported as no success and is no failure either: the time ran out, or the carrier never said.
_STATES = {
    "EXPIRED": AttemptState.TTL_EXPIRED,
    "REQUEST_SUCCESS": AttemptState.SENT,
    "UNKNOWN": AttemptState.SENT,
}
# `Status` of the international report.
_STATUS = {"1": AttemptState.DELIVERED, "2": AttemptState.UNDELIVERED, "6": AttemptState.TTL_EXPIRED}


class AliyunSmsSettings(aliyun.AliyunSettings):
    """The signature is not among them: it belongs to each mapped template (`sign`)."""

    action: ClassVar[str] = "SendSms"
    version: ClassVar[str] = "2017-05-25"

    base_url: Url = "https://dysmsapi.aliyuncs.com"


class _Answer(aliyun.Answer):
    ref: str | None = msgspec.field(name="BizId", default=None)


class _Report(msgspec.Struct):
    phone_number: str
    success: bool
    err_code: str | None = None
    report_time: str | None = None
    biz_id: str | None = None
    out_id: str | None = None


class _InternationalReport(msgspec.Struct, rename="pascal"):
    to: str
    status: str | int
    message_id: str
    error_code: str | None = None
    receive_date: str | None = None
    task_id: str | None = None


class _Reply(msgspec.Struct):
    phone_number: str
    content: str
    sequence_id: str | int
    dest_code: str = ""
    send_time: str | None = None


_ANSWER: msgspec.json.Decoder[aliyun.Answer] = msgspec.json.Decoder(_Answer)
_REPORT = msgspec.json.Decoder(_Report)
_INTERNATIONAL = msgspec.json.Decoder(_InternationalReport)
_REPLY = msgspec.json.Decoder(_Reply)


class AliyunSms(Adapter):
    name = "aliyun_sms"
    channel = Channel.SMS
    settings_type = AliyunSmsSettings
    needs_template = True
    needs_sign = True
    alerts = _ALERTS

    def build_request(self, message: Message, settings: AliyunSmsSettings, ctx: Context) -> HttpRequest:
        """Raises ValueError without a template or its signature, and for a number that the vendor could misread."""
        template = message.template
        if template is None or not template.sign:
            raise ValueError("aliyun_sms needs a provider template and its signature")
        params = {
            "PhoneNumbers": aliyun.phone_number(message.address),
            "SignName": template.sign,
            "TemplateCode": template.code,
            "OutId": message.reference,
        }
        return aliyun.request(settings, params | aliyun.parameters(template, "TemplateParam"), ctx)

    def classify_response(self, response: HttpResponse) -> Outcome:
        return aliyun.classify(response, _ANSWER, _CODES)

    def verify_callback(self, callback: Callback, settings: AliyunSmsSettings, now: dt.datetime) -> str:
        return aliyun.replay_key(callback)

    def parse_callback(self, callback: Callback) -> list[ProviderEvent]:
        items = aliyun.items(callback)
        return [Invalid("not_an_array")] if items is None else [_event(item) for item in items]

    def reply(
        self, outcome: CallbackOutcome, settings: AliyunSmsSettings, prompt: Prompt | None = None
    ) -> HttpResponse:
        return aliyun.reply(outcome)


def _event(item: msgspec.Raw) -> ProviderEvent:
    if (report := read_json(_REPORT, item)) is not None:
        state = AttemptState.DELIVERED if report.success else AttemptState.UNDELIVERED
        at, attempt = aliyun.utc(report.report_time), aliyun.our_attempt(report.out_id)
        return _receipt(state, report.err_code, report.phone_number, report.biz_id, attempt, at)
    if (reply := read_json(_REPLY, item)) is not None:
        return _inbound(reply)
    if (foreign := read_json(_INTERNATIONAL, item)) is not None:
        known, at = _STATUS.get(str(foreign.status)), defaults.date(foreign.receive_date or "")
        if known is None:
            return Invalid("status")
        attempt = aliyun.our_attempt(foreign.task_id)
        return _receipt(known, foreign.error_code, foreign.to, foreign.message_id, attempt, at)
    return Invalid("item_unreadable")


def _receipt(
    state: AttemptState,
    code: str | None,
    number: str,
    message_id: str | None,
    attempt: str | None,
    at: dt.datetime | None,
) -> ProviderEvent:
    """A receipt without its number is none: anybody could have sent it, and it would fit any borrower."""
    ref, address, code = clean_reference(message_id), aliyun.e164(number), clean_code(code)
    if ref is None and attempt is None:
        return Invalid("message_id")
    if address is None:
        return Invalid("phone_number")
    failure, scope = _NO_REASON
    if state is AttemptState.UNDELIVERED:
        state = _STATES.get(code, state)
    if state is AttemptState.UNDELIVERED:
        table = _CODES if code.startswith("isv.") else _RECEIPT_CODES
        failure, scope = table.get(code) or _NO_REASON
    return Receipt(state, code, attempt, ref, failure, at, scope, address)


def _inbound(reply: _Reply) -> ProviderEvent:
    ref, sender = clean_reference(str(reply.sequence_id)), aliyun.e164(reply.phone_number)
    if ref is None:
        return Invalid("sequence_id")
    if sender is None:
        return Invalid("phone_number")
    return Inbound(ref, sender, reply.dest_code, reply.content, aliyun.utc(reply.send_time))


ADAPTER = AliyunSms()
