"""Alibaba Cloud SMS.

Written from https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-sendsms,
https://help.aliyun.com/document_detail/101346.html (errors),
https://help.aliyun.com/en/sms/developer-reference/delivery-receipt-error-codes (codes of receipts),
https://help.aliyun.com/document_detail/101867.html (receipts),
https://help.aliyun.com/zh/sms/developer-reference/smsreport-http-intl (receipts of international accounts),
https://help.aliyun.com/zh/sms/developer-reference/smsup-http (replies) and
https://help.aliyun.com/document_detail/2593177.html (signature).
"""

import datetime as dt
import json
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from providers.contract import (
    Accepted,
    Ambiguous,
    HttpResponse,
    Inbound,
    Invalid,
    Message,
    Outcome,
    ProviderTemplate,
    Receipt,
    Refused,
)
from schemas.vocabulary import AttemptState, Channel, Failure, FailureScope
from tests.contract import aliyun
from tests.contract.aliyun import (
    ACCOUNT,
    BARE,
    KEY_ID,
    RECIPIENT,
    SECRET,
    STS,
    TEMPLATE,
    answer,
    callback,
    each,
    item,
    no_arrays,
    sample,
    signed,
)
from tests.contract.case import ABSENT, NAME, PHONE, REFERENCE, TEXT, Case, Sample

BIZ = "900619746936498440^0"
SIGN = "示例银行"
WORDS = "我已经还了 100%+"
A, U, F = AttemptState, AttemptState.UNDELIVERED, Failure

ANSWERS: tuple[tuple[HttpResponse, Outcome], ...] = (
    (answer("OK", BizId=BIZ), Accepted(BIZ)),
    *aliyun.ANSWERS,
    (answer("OK", BizId=""), Ambiguous("http_200")),
    (answer("OK", BizId=f"a{'b' * 200}"), Ambiguous("http_200")),
    (answer("OK", BizId=7), Ambiguous("http_200")),
    (answer("OK", CallId=BIZ), Ambiguous("http_200")),
    (answer("OK", 502, BizId=BIZ), Ambiguous("http_502")),
    *each("isv.DOMESTIC_NUMBER_NOT_SUPPORTED", F.BAD_RECIPIENT, RECIPIENT),
    *each("isv.CUSTOMER_REFUSED", F.OPTED_OUT, RECIPIENT),
    *each("isv.BLACK_KEY_CONTROL_LIMIT", F.BAD_CONTENT, RECIPIENT),
    *each("isv.DAY_LIMIT_CONTROL isv.MONTH_LIMIT_CONTROL", F.THROTTLED, ACCOUNT),
    *each("isv.SMS_TEMPLATE_ILLEGAL isv.SMS_CONTENT_ILLEGAL isv.UNSUPPORTED_CONTENT", F.BAD_CONTENT, TEMPLATE),
    *each("isv.SMS_CONTENT_MISMATCH_TEMPLATE_TYPE", F.BAD_CONTENT, TEMPLATE),
    *each("isv.SMS_SIGNATURE_ILLEGAL isv.SMS_SIGN_ILLEGAL isv.SIGN_STATE_ILLEGAL", F.BAD_CONTENT, TEMPLATE),
    *each("isv.SMS_SIGNATURE_SCENE_ILLEGAL isv.SIGN_NAME_ILLEGAL isv.SIGN_SOURCE_ILLEGAL", F.BAD_CONTENT, TEMPLATE),
    *each("isv.SMS_SIGN_EMOJI_ILLEGAL isv.EXTEND_CODE_ERROR isv.ONE_CODE_MULTIPLE_SIGN", F.BAD_CONTENT, TEMPLATE),
    *each("isv.CODE_EXCEED_LIMIT isv.CODE_ERROR isv.SMS_TEST_SIGN_TEMPLATE_LIMIT", F.BAD_CONTENT, TEMPLATE),
    *each("isv.SMS_TEST_TEMPLATE_PARAMS_ILLEGAL isv.SMS_TEST_NUMBER_LIMIT", F.BAD_CONTENT, TEMPLATE),
    # Not on any page, but by the vendor's pattern.
    *each("isv.TEMPLATE_ILLEGAL isv.SMS_TEMPLATE_STATE_ILLEGAL", F.BAD_CONTENT, TEMPLATE),
    *each("isv.SECURITY_FROZEN_ACCOUNT", F.BAD_CONFIG, ACCOUNT),
    (answer("InvalidAction.NotFound", 404), Refused(F.BUG, ACCOUNT, "InvalidAction.NotFound")),
)


def report(code: Any, success: Any = False, **changes: Any) -> dict[str, Any]:
    base = {
        "phone_number": BARE, "send_time": "2026-03-02 09:30:06", "report_time": "2026-03-02 09:30:11",
        "success": success, "err_code": code, "err_msg": "用户接收成功", "sms_size": "1", "biz_id": BIZ,
        "out_id": REFERENCE,
    }  # fmt: skip
    return item(base, changes)


def written(**changes: Any) -> dict[str, Any]:
    base = {
        "phone_number": BARE, "send_time": "2026-03-02 09:30:11", "content": WORDS, "sign_name": SIGN,
        "dest_code": "1069000012341234", "sequence_id": 1234567890,
    }  # fmt: skip
    return item(base, changes)


def abroad(status: Any, code: Any = "success", **changes: Any) -> dict[str, Any]:
    base = {
        "To": "85291234567", "SendDate": "Mon, 02 Mar 2026 09:30:06 +0800",
        "ReceiveDate": "Mon, 02 Mar 2026 09:30:11 +0800", "Status": status, "ErrorCode": code,
        "ErrorDescription": "success", "TaskId": "67890", "SmsSize": "2", "MessageId": "123450000123",
    }  # fmt: skip
    return item(base, changes)


AT = dt.datetime(2026, 3, 2, 1, 30, 11, tzinfo=dt.UTC)
DELIVERED = Receipt(A.DELIVERED, "DELIVERED", REFERENCE, BIZ, None, AT, RECIPIENT, PHONE)
GOOD = report("DELIVERED", True)
UNREADABLE, NOBODY = Invalid("item_unreadable"), Invalid("phone_number")
WROTE = Inbound("1234567890", PHONE, "1069000012341234", WORDS, AT)


def failed(code: str, failure: Failure | None = None, scope: FailureScope = RECIPIENT, state: A = U) -> Sample:
    return sample([report(code)], Receipt(state, code, REFERENCE, BIZ, failure, AT, scope, PHONE))


def about(address: str, **ids: Any) -> Receipt:
    """The receipt of a message that arrived, found by other ids or without a time."""
    return replace(DELIVERED, address=address, **ids)


SAMPLES = (
    sample([GOOD], DELIVERED),
    failed("EXPIRED", state=A.TTL_EXPIRED),
    # The carrier never said.
    failed("REQUEST_SUCCESS", state=A.SENT),
    failed("UNKNOWN", state=A.SENT),
    *(failed(code, F.BAD_RECIPIENT) for code in ("MK:0001", "SP_NOT_BY_INTER_SMS", "isv.MOBILE_NUMBER_ILLEGAL")),
    *(failed(code, F.UNREACHABLE) for code in ("MOBILE_NOT_ON_SERVICE", "MOBILE_ACCOUNT_ABNORMAL", "INVALID_NUMBER")),
    *(failed(code, F.UNREACHABLE) for code in ("MOBLLE_TERMINAL_ERROR", "MOBILE_TERMINAL_ERROR")),
    *(failed(code, F.OPTED_OUT) for code in ("MOBILE_IN_BLACK", "USER_REJECT", "MBBLACK", "DBBLACK")),
    failed("isv.BLACK_KEY_CONTROL_LIMIT", F.BAD_CONTENT),
    failed("MOBILE_SEND_LIMIT", F.THROTTLED),
    *(failed(code, F.BAD_CONTENT, TEMPLATE) for code in ("CONTENT_KEYWORD", "CONTENT_ERROR", "NO_ROUTE")),
    *(failed(code, F.BAD_CONTENT, TEMPLATE) for code in ("SIGNATURE_BLACKLIST", "isv.UNSUPPORTED_CONTENT")),
    failed("PARAMS_ILLEGAL", F.BAD_CONTENT),
    failed("PORT_NOT_REGISTERED", F.BAD_CONFIG),
    failed("IS_CLOSE", F.TRANSIENT, ACCOUNT),
    # The set is open: what is not listed did not arrive, and nobody says why.
    *(failed(code) for code in ("UNDELIV", "REJECTD", "SP_UNKNOWN_ERROR", "DB:0141")),
    *(failed(code) for code in ("isp.SYSTEM_ERROR", "isv.NEVER_HEARD_OF", "InternalError")),
    sample([report(f"号码{BARE}")], Receipt(U, "unreadable", REFERENCE, BIZ, None, AT, RECIPIENT, PHONE)),
    sample([report(None)], Receipt(U, "unreadable", REFERENCE, BIZ, None, AT, RECIPIENT, PHONE)),
    # A success is one whatever the carrier's code for it.
    sample([report("0", True)], Receipt(A.DELIVERED, "0", REFERENCE, BIZ, None, AT, RECIPIENT, PHONE)),
    sample([report("EXPIRED", True)], Receipt(A.DELIVERED, "EXPIRED", REFERENCE, BIZ, None, AT, RECIPIENT, PHONE)),
    sample([]),
    sample([GOOD, GOOD], DELIVERED, DELIVERED),
    # One request to several numbers: they share the message id, and each has its own receipt.
    sample(
        [report("DELIVERED", True, out_id=ABSENT), report("DELIVERED", True, out_id="", phone_number="13900009999")],
        about(PHONE, attempt=None),
        about("+8613900009999", attempt=None),
    ),
    # Of somebody else who uses the account: what is no reference of ours is none, whatever its length.
    *(
        sample([report("DELIVERED", True, out_id=theirs)], about(PHONE, attempt=None))
        for theirs in (f"ORDER-{BARE}", "ORDER-1234567", "０c5k3xr8v2m4t", "0c5k3xr8v2m4")
    ),
    sample([report("DELIVERED", True, biz_id=ABSENT)], about(PHONE, ref=None)),
    # Numbers in every form there is.
    *(
        sample([report("DELIVERED", True, phone_number=number)], about(address))
        for number, address in (
            (f"86{BARE}", PHONE),
            (f"0086{BARE}", PHONE),
            (f"+86{BARE}", PHONE),
            (f"+{BARE}", PHONE),
            ("19900001234", "+8619900001234"),
            ("85291234567", "+85291234567"),
            ("0085291234567", "+85291234567"),
            ("+6591234567", "+6591234567"),
            ("12125550100", "+12125550100"),
        )
    ),
    *(
        sample([report("DELIVERED", True, phone_number=number)], NOBODY)
        for number in (
            "",
            "1390000****",
            "057112345678",
            "139 0000 1234",
            "١٣٩٠٠٠٠١٢٣٤",
            f"{BARE}\n",
            "++6591234567",
            "9" * 16,
        )
    ),
    # Times are China's, without saying so; a time that is none does not cost us the receipt.
    *(
        sample([report("DELIVERED", True, report_time=time)], about(PHONE, occurred_at=None))
        for time in ("", None, "yesterday", "0001-01-01 00:00:00", "20260302093011", "2026-03-02 09:30:11+08:00")
    ),
    # Replies, alone and mixed with receipts.
    sample([written()], WROTE),
    sample([written(sequence_id="1234567890", sign_name=ABSENT)], WROTE),
    sample([written(send_time=None, content="", dest_code=ABSENT)], Inbound("1234567890", PHONE, "", "")),
    sample([GOOD, written(), GOOD], DELIVERED, WROTE, DELIVERED),
    sample([written(phone_number="0000")], NOBODY),
    sample([written(sequence_id="")], Invalid("sequence_id")),
    sample([written(sequence_id="a b")], Invalid("sequence_id")),
    # The report of international accounts.
    sample(
        [abroad("1"), abroad(2, "REJECTD"), abroad("6", "LATE"), abroad("2", "MOBILE_IN_BLACK", TaskId=REFERENCE)],
        Receipt(A.DELIVERED, "success", None, "123450000123", None, AT, RECIPIENT, "+85291234567"),
        Receipt(U, "REJECTD", None, "123450000123", None, AT, RECIPIENT, "+85291234567"),
        Receipt(A.TTL_EXPIRED, "LATE", None, "123450000123", None, AT, RECIPIENT, "+85291234567"),
        Receipt(U, "MOBILE_IN_BLACK", REFERENCE, "123450000123", F.OPTED_OUT, AT, RECIPIENT, "+85291234567"),
    ),
    sample([abroad("3")], Invalid("status")),
    sample([abroad("1", To="")], NOBODY),
    sample(
        [abroad("1", ReceiveDate="2026-03-02 09:30:11", ErrorCode=ABSENT)],
        Receipt(A.DELIVERED, "unreadable", None, "123450000123", None, None, RECIPIENT, "+85291234567"),
    ),
    # One bad element never spoils its neighbours.
    *(
        sample([GOOD, bad, written()], DELIVERED, UNREADABLE, WROTE)
        for bad in (
            None,
            7,
            "x",
            [],
            {},
            [GOOD],
            {"phone_number": BARE},
            report("DELIVERED", "true"),
            report("DELIVERED", ABSENT),
            report("DELIVERED", True, phone_number=ABSENT),
            report("DELIVERED", True, phone_number=13900001234),
            report(["DELIVERED"], True),
            report("DELIVERED", True, biz_id=7),
            report("DELIVERED", True, report_time=5),
            written(content=None),
            written(sequence_id=None),
            written(sequence_id=ABSENT),
            abroad(None),
            abroad("1", MessageId=ABSENT),
        )
    ),
    *(
        sample([GOOD, bad, GOOD], DELIVERED, Invalid("message_id"), DELIVERED)
        for bad in (
            report("DELIVERED", True, biz_id=ABSENT, out_id=ABSENT),
            report("DELIVERED", True, biz_id="a\0b", out_id="ORDER"),
        )
    ),
    Sample(callback(b'[%s,{"phone_number":"\xff\xfe"}]' % json.dumps(GOOD).encode()), (DELIVERED, UNREADABLE)),
    *no_arrays(GOOD),
)


def query() -> str:
    param = quote(
        json.dumps({"name": NAME, "amount": "1,234.50"}, ensure_ascii=False, separators=(",", ":")), safe="-_.~"
    )
    return (
        f"OutId={REFERENCE}&PhoneNumbers={BARE}&SignName=%E7%A4%BA%E4%BE%8B%E9%93%B6%E8%A1%8C"
        f"&TemplateCode=SMS_154950909&TemplateParam={param}"
    )


CASE = Case(
    name="aliyun_sms",
    settings={"access_key_id": KEY_ID, "access_key_secret": SECRET},
    bad_settings=(
        {"base_url": "https://dysmsapi.aliyuncs.com/api"},
        {"access_key_id": f"{KEY_ID}\n"},
        {"access_key_secret": ABSENT},
        {"access_key_secret": ""},
        {"access_key_secret": [SECRET]},
        {"security_token": ""},
        {"sign_name": SIGN},
        {"secret": SECRET},
    ),
    secrets=(SECRET, STS),
    personal=(PHONE, BARE, NAME, TEXT, WORDS, "1,234.50", quote(NAME)),
    message=Message(
        REFERENCE,
        Channel.SMS,
        PHONE,
        TEXT,
        "zh-CN",
        template=ProviderTemplate("SMS_154950909", SIGN, {"name": NAME, "amount": "1,234.50"}),
    ),
    request=signed("dysmsapi.aliyuncs.com", "SendSms", query()),
    answers=ANSWERS,
    replies=aliyun.REPLIES,
    samples=SAMPLES,
)
