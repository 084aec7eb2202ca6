"""Aliyun SMS: the official client is satisfied, reports and replies are pushed as documented."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alibabacloud_dysmsapi20170525 import models as dysms
from alibabacloud_dysmsapi20170525.client import Client as DysmsClient
from alibabacloud_tea_openapi import exceptions as tea
from alibabacloud_tea_openapi.models import Config
from darabonba.runtime import RuntimeOptions
from simulator_bench import QUICK, Bench, FarEnd, Start
from simulator_clients import aliyun_call, aliyun_text

from gateway.dev.simulator import Action, Outcome, ReceiptPlan, Rule, Script, Vendor
from gateway.dev.simulator.count import count

BORROWER = "13900001234"


def send(bench: Bench, secret: str | None = None, **fields: Any) -> Any:
    secrets = bench.simulator.credentials
    config = Config(
        access_key_id=secrets.aliyun_access_key_id,
        access_key_secret=secret or secrets.aliyun_access_key_secret,
        endpoint=bench.simulator.urls.host_port,
        protocol="HTTP",
    )
    given = {"phone_numbers": BORROWER, "sign_name": "示例银行", "template_code": "SMS_1", "out_id": "0ABCDEFGHJKMN"}
    request = dysms.SendSmsRequest(**{**given, **fields})
    return DysmsClient(config).send_sms_with_options(request, RuntimeOptions(autoretry=False)).body


def pushed(end: FarEnd) -> list[dict[str, Any]]:
    return [item for call in end.calls for item in json.loads(call.body)]


def ago(local: str) -> timedelta:
    """How long ago it was by the clock in China."""
    return datetime.now(UTC) + timedelta(hours=8) - datetime.fromisoformat(local).replace(tzinfo=UTC)


async def test_the_official_client_sends(start: Start) -> None:
    bench = await start()
    param = json.dumps({"name": "张 三~*", "ref": "M-42"}, ensure_ascii=False)
    body = await asyncio.to_thread(lambda: send(bench, template_param=param))
    assert (body.code, body.message) == ("OK", "OK")
    assert body.biz_id.endswith("^0")
    (line,) = bench.lines("accepted")
    assert {name: line[name] for name in ("vendor", "id", "recipient", "text_or_template", "reference", "marker")} == {
        "vendor": "aliyun_sms",
        "id": body.biz_id,
        "recipient": BORROWER,
        "text_or_template": "SMS_1",
        "reference": "0ABCDEFGHJKMN",
        "marker": "M-42",
    }
    assert line["params"] == {"name": "张 三~*", "ref": "M-42"}


@pytest.mark.parametrize(
    "number", ["+8613900001234", "008613900001234", "8613900001234", "+13900001234", "85291234567"]
)
async def test_numbers_may_have_every_documented_form(start: Start, number: str) -> None:
    bench = await start()
    assert (await asyncio.to_thread(lambda: send(bench, phone_numbers=number))).code == "OK"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"phone_numbers": "abc"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"phone_numbers": "+85291234567"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"phone_numbers": "057112345678"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"phone_numbers": f"{BORROWER},"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"phone_numbers": ",".join([BORROWER] * 1001)}, "isv.MOBILE_COUNT_OVER_LIMIT"),
        ({"template_param": "{"}, "isv.INVALID_JSON_PARAM"),
        ({"template_param": "[]"}, "isv.INVALID_JSON_PARAM"),
        ({"template_param": '{"code":1234}'}, "isv.INVALID_JSON_PARAM"),
        ({"out_id": "0" * 256}, "isv.INVALID_PARAMETERS"),
    ],
)
async def test_bad_fields_are_refused_with_http_200(start: Start, fields: dict[str, Any], code: str) -> None:
    bench = await start()
    body = await asyncio.to_thread(lambda: send(bench, **fields))
    assert (body.code, body.biz_id) == (code, None)
    assert not bench.lines("accepted")


@pytest.mark.parametrize("missing", ["phone_numbers", "sign_name", "template_code"])
async def test_a_missing_field_is_refused_by_the_gateway_of_the_api(start: Start, missing: str) -> None:
    bench = await start()
    with pytest.raises(tea.ClientException) as refused:
        await asyncio.to_thread(lambda: send(bench, **{missing: ""}))
    assert refused.value.status_code == 400
    assert refused.value.code == "Missing" + missing.title().replace("_", "")


async def test_a_wrong_secret_is_refused(start: Start) -> None:
    bench = await start()
    with pytest.raises(tea.ClientException) as refused:
        await asyncio.to_thread(lambda: send(bench, secret="x" * 30))
    assert (refused.value.status_code, refused.value.code) == (400, "SignatureDoesNotMatch")


async def test_the_official_client_reads_scripted_errors(start: Start) -> None:
    bench = await start(Rule(vendor=Vendor.ALIYUN_SMS, action=Action.ERROR, code="Throttling.User", retry_after=1.5))
    with pytest.raises(tea.ThrottlingException) as throttled:
        await asyncio.to_thread(send, bench)
    assert throttled.value.retry_after == 1500
    assert (await aliyun_call(bench))[1]["Code"] == "OK", "a rule for one product is not one for the other"
    for code in ("isv.BUSINESS_LIMIT_CONTROL", "isv.SMS_SIGNATURE_ILLEGAL"):
        bench.simulator.perform(Script(rules=(Rule(vendor=Vendor.ALIYUN_SMS, action=Action.ERROR, code=code),)))
        assert (await asyncio.to_thread(send, bench)).code == code


async def test_a_nonce_is_spent_for_both_products(start: Start) -> None:
    bench = await start()
    assert (await aliyun_call(bench, nonce="n1"))[1]["Code"] == "OK"
    assert (await aliyun_text(bench, nonce="n1"))[1]["Code"] == "SignatureNonceUsed"
    assert [line["vendor"] for line in bench.lines("accepted")] == ["aliyun"]


async def test_reports_come_in_arrays_with_times_of_china(start: Start, far_end: FarEnd) -> None:
    bench = await start(receipts=QUICK.model_copy(update={"aliyun_sms_url": f"{far_end.base}/sms/T"}))
    _, first = await aliyun_text(bench, reference="REF1")
    _, second = await aliyun_text(bench, f"86{BORROWER},85291234567", "REF2")
    await bench.simulator.settled()
    assert all(call.url == f"{far_end.base}/sms/T" for call in far_end.calls)
    assert all(call.headers["content-type"] == "application/json;charset=utf-8" for call in far_end.calls)
    told = pushed(far_end)
    assert [(each["biz_id"], each["phone_number"], each["out_id"]) for each in told] == [
        (first["BizId"], BORROWER, "REF1"),
        (second["BizId"], BORROWER, "REF2"),
        (second["BizId"], "85291234567", "REF2"),
    ]
    for each in told:
        assert (each["success"], each["err_code"], each["sms_size"]) == (True, "DELIVERED", "1")
        assert timedelta(seconds=-1) < ago(each["report_time"]) < timedelta(seconds=10)
        assert each["send_time"] < each["report_time"]
    lines = bench.lines("receipt")
    assert [(line["vendor"], line["status"], line["answer"]) for line in lines] == [
        ("aliyun_sms", "DELIVERED", 200)
    ] * 3


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (ReceiptPlan(outcome=Outcome.UNDELIVERED), "MOBILE_NOT_ON_SERVICE"),
        (ReceiptPlan(outcome=Outcome.DECLINED), "MOBILE_IN_BLACK"),
        (ReceiptPlan(outcome=Outcome.FAILED), "SP_UNKNOWN_ERROR"),
        (ReceiptPlan(outcome=Outcome.FAILED, code="MK:0001"), "MK:0001"),
        (ReceiptPlan(outcome=Outcome.SENT), None),
        (ReceiptPlan(outcome=Outcome.NONE), None),
    ],
)
async def test_every_outcome_is_told(start: Start, far_end: FarEnd, plan: ReceiptPlan, code: str | None) -> None:
    bench = await start(
        Rule(receipts=plan), receipts=QUICK.model_copy(update={"aliyun_sms_url": f"{far_end.base}/sms/T"})
    )
    await aliyun_text(bench)
    await bench.simulator.settled()
    expected = [] if code is None else [(False, code)]
    assert [(each["success"], each["err_code"]) for each in pushed(far_end)] == expected


async def test_a_report_is_pushed_again_after_one_five_and_ten_minutes(start: Start, far_end: FarEnd) -> None:
    bench = await start(receipts=QUICK.model_copy(update={"aliyun_sms_url": f"{far_end.base}/sms/T"}))
    far_end.answers.extend([(503, "", 0.0), (200, "ok", 0.0), (200, '{"code":"0"}', 0.0), (500, "", 0.0)])
    await aliyun_text(bench)
    await bench.simulator.settled()
    assert [line["answer"] for line in bench.lines("receipt")] == [503, "bad_reply", "bad_reply", 500]
    assert len({call.body for call in far_end.calls}) == 1


async def test_a_borrower_writes_back_among_the_reports(start: Start, far_end: FarEnd) -> None:
    slow = QUICK.model_copy(update={"aliyun_sms_url": f"{far_end.base}/sms/T", "aliyun_window": 0.5})
    bench = await start(receipts=slow)
    await aliyun_text(bench)
    status, answer = await bench.control("reply", {"number": BORROWER, "content": "已还 M-1", "dest_code": "10691"})
    await bench.simulator.settled()
    assert status == 200
    (call,) = far_end.calls
    report, reply = sorted(json.loads(call.body), key=lambda item: "content" in item)
    assert report["err_code"] == "DELIVERED"
    assert set(reply) == {"phone_number", "send_time", "content", "sign_name", "dest_code", "sequence_id"}
    assert (reply["phone_number"], reply["content"], reply["dest_code"]) == (BORROWER, "已还 M-1", "10691")
    assert reply["sequence_id"] == answer["sequence_id"]
    assert timedelta(seconds=-1) < ago(reply["send_time"]) < timedelta(seconds=10)
    (line,) = bench.lines("upstream")
    assert (line["id"], line["sender"], line["text"]) == (str(answer["sequence_id"]), BORROWER, "已还 M-1")
    assert [(each["status"], each["id"], each["answer"]) for each in bench.lines("receipt")][1:] == [
        ("upstream", str(answer["sequence_id"]), 200)
    ]
    assert sum(count(bench.log).sent.values()) + count(bench.log).unmarked == 1, "a reply is no message of ours"


async def test_a_reply_may_come_twice_and_has_its_own_number_even_after_a_restart(
    start: Start, far_end: FarEnd
) -> None:
    url = {"aliyun_sms_url": f"{far_end.base}/sms/T"}
    first = await start(receipts=QUICK.model_copy(update=url))
    await first.control("reply", {"number": BORROWER, "content": "1", "copies": 2})
    await first.simulator.settled()
    await first.simulator.stop()
    second = await start(receipts=QUICK.model_copy(update=url))
    await second.control("reply", {"number": BORROWER, "content": "1"})
    await second.simulator.settled()
    numbers = [each["sequence_id"] for each in pushed(far_end)]
    assert len(numbers) == 3
    assert numbers[0] == numbers[1] != numbers[2]


async def test_a_reply_needs_a_url_of_this_machine_and_a_text(start: Start) -> None:
    bench = await start()
    letter = {"number": BORROWER, "content": "1"}
    assert await bench.control("reply", letter) == (409, {"errors": ["aliyun_sms_url is not set"]})
    assert not bench.lines("upstream")
    assert (await bench.control("console", {"aliyun_sms_url": "http://192.0.2.1/sms"}))[0] == 200
    assert (await bench.control("reply", letter))[0] == 200
    assert [line["answer"] for line in bench.lines("receipt")] == ["not_loopback"]
    status, answer = await bench.control("reply", {"number": BORROWER})
    assert status == 400
    assert BORROWER not in json.dumps(answer)
