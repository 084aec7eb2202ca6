"""Alibaba Cloud voice.

Written from https://help.aliyun.com/zh/vms/developer-reference/api-dyvmsapi-2017-05-25-singlecallbytts,
https://help.aliyun.com/document_detail/178344.html (errors), https://help.aliyun.com/document_detail/55085.html and
112804.html (call states), https://help.aliyun.com/zh/vms/developer-reference/voicereport-1 (receipts) and
https://help.aliyun.com/document_detail/2593177.html (signature).
"""

import datetime as dt
import json
from typing import Any
from urllib.parse import quote

from providers.contract import (
    Accepted,
    Ambiguous,
    HttpResponse,
    Invalid,
    KeyPress,
    Message,
    Outcome,
    ProviderTemplate,
    Receipt,
)
from schemas.vocabulary import AttemptState, Channel, Failure, FailureScope
from tests.contract import aliyun
from tests.contract.aliyun import (
    ACCOUNT,
    BARE,
    KEY_ID,
    RECIPIENT,
    SECRET,
    SENDER,
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

CALL = "116012354148^102813140519"

ANSWERS: tuple[tuple[HttpResponse, Outcome], ...] = (
    (answer("OK", CallId=CALL), Accepted(CALL)),
    *aliyun.ANSWERS,
    (answer("OK", CallId=f"a{'b' * 200}"), Ambiguous("http_200")),
    (answer("OK", 502, CallId=CALL), Ambiguous("http_502")),
    *each("isv.COMPLAINT_REJECT ComplaintReject", Failure.OPTED_OUT, RECIPIENT),
    *each("isv.VOICE_CALL_PERIOD_ERROR isv.VOICE_ROBOT_NOT_PERIOD", Failure.OUTSIDE_WINDOW, SENDER),
    *each("isv.TTS_TEMPLATE_ILLEGAL isv.TEMPLATE_ILLEGAL isv.BLACK_KEY_CONTROL_LIMIT", Failure.BAD_CONTENT, TEMPLATE),
    # Not on any page, but by the vendor's pattern.
    *each("isv.TEMPLATE_SIGN_ILLEGAL isv.VOICE_TEMPLATE_ILLEGAL", Failure.BAD_CONTENT, TEMPLATE),
    *each("isv.DISPLAY_NUMBER_ILLEGAL isv.BILLID_NOT_EXIST BillidNotExist", Failure.BAD_CONFIG, SENDER),
    *each("isv.AMOUNT_NOT_ENOUG", Failure.BAD_CONFIG, ACCOUNT),
    (answer("isv.VOICE_CALL_FAIL"), Ambiguous("isv.VOICE_CALL_FAIL")),
)


def report(status: Any, **changes: Any) -> dict[str, Any]:
    base = {
        "call_id": CALL, "out_id": REFERENCE, "status_code": status, "status_msg": "执行完成", "caller": "02160000000",
        "callee": BARE, "originate_time": "2026-03-02 09:30:06", "ring_time": "2026-03-02 09:30:10",
        "start_time": "2026-03-02 09:30:15", "end_time": "2026-03-02 09:30:27", "duration": "12",
        "hangup_direction": "用户", "voice_type": "voice",
    }  # fmt: skip
    return item(base, changes)


def step(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "call_id": CALL,
        "out_id": REFERENCE,
        "status_code": status,
        "status_time": "2026-03-02 09:30:11",
        **changes,
    }


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


def about(state: AttemptState, code: str = "200002", **more: Any) -> Receipt:
    """What a report says that names whom it called."""
    given = {"attempt": REFERENCE, "ref": CALL, "occurred_at": ENDED, "address": PHONE} | more
    return Receipt(state, code, **given)


STEPS = (("200101", A.ACCEPTED), ("200201", A.SENT), ("200102", A.ANSWERED), ("200100", A.SENT))
BUSY = about(A.BUSY)
GOOD = report("200002")
UNREADABLE = Invalid("report_unreadable")

SAMPLES = (
    *(
        sample(
            [report(code)],
            about(state, code, failure=why, scope=SCOPES.get(code, FailureScope.RECIPIENT)),
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
    sample([report("200002", out_id=f"ORDER-{BARE}")], about(A.BUSY, attempt=None)),
    sample([report("200002", out_id=None)], about(A.BUSY, attempt=None)),
    sample([report("200002", call_id=ABSENT)], about(A.BUSY, ref=None)),
    sample([report(200002)], BUSY),
    # Whom it called, in any of the vendor's forms; where that cannot be read, by the reference alone.
    *(sample([report("200002", callee=number)], BUSY) for number in (f"+86{BARE}", f"86{BARE}", f"0086{BARE}")),
    sample([report("200002", callee="85291234567")], about(A.BUSY, address="+85291234567")),
    *(sample([report("200002", callee=each)], about(A.BUSY, address=None)) for each in ("057112345678", "", ABSENT)),
    # Times are China's, without saying so; a time that is none does not cost us the receipt.
    sample([report("200002", end_time="")], about(A.BUSY, occurred_at=None)),
    sample([report("200002", end_time="0001-01-01 00:00:00")], about(A.BUSY, occurred_at=None)),
    sample([report("200002", end_time="yesterday")], about(A.BUSY, occurred_at=None)),
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
    *no_arrays(GOOD),
)


def query() -> str:
    param = quote(
        json.dumps({"name": NAME, "amount": "1,234.50"}, ensure_ascii=False, separators=(",", ":")), safe="-_.~"
    )
    return f"CalledNumber={BARE}&OutId={REFERENCE}&TtsCode=TTS_10001&TtsParam={param}"


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
    request=signed("dyvmsapi.aliyuncs.com", "SingleCallByTts", query()),
    answers=ANSWERS,
    replies=aliyun.REPLIES,
    samples=SAMPLES,
)
