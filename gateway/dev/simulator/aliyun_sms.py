"""Aliyun SMS, SendSms, and its unsigned push of reports (SmsReport) and of what borrowers write back (SmsUp).

Sources: https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-sendsms,
https://help.aliyun.com/document_detail/101867.html (SmsReport),
https://help.aliyun.com/zh/sms/developer-reference/smsup-http (SmsUp).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from gateway.dev.simulator.aliyun import Product, local
from gateway.dev.simulator.codes_aliyun import ALIYUN_SMS_DELIVERED, ALIYUN_SMS_RECEIPTS
from gateway.dev.simulator.names import Vendor
from gateway.dev.simulator.script import ReceiptPlan
from gateway.dev.simulator.wire import Order, Post

# In mainland China with "+", "+86", "0086", "86" or bare; elsewhere the country code and the number, without a plus.
_NUMBER = re.compile(r"(?:\+|\+86|0086|86)?1[3-9][0-9]{9}|(?!86)[1-9][0-9]{6,14}")
_MOST_NUMBERS = 1000


class AliyunSms(Product):
    """One message to one number or several: these share the message id, and each has its own report."""

    vendor = Vendor.ALIYUN_SMS
    action = "SendSms"
    number, template, variables, id = "PhoneNumbers", "TemplateCode", "TemplateParam", "BizId"
    push_timeout = 5.0  # of our choice: the documentation names none

    def problem(self, query: Mapping[str, str]) -> str | None:
        for name in ("PhoneNumbers", "SignName", "TemplateCode"):
            if not query.get(name):
                return f"Missing{name}"
        numbers = query["PhoneNumbers"].split(",")
        if len(numbers) > _MOST_NUMBERS:
            return "isv.MOBILE_COUNT_OVER_LIMIT"
        if not all(_NUMBER.fullmatch(each) for each in numbers):
            return "isv.MOBILE_NUMBER_ILLEGAL"
        return "isv.INVALID_PARAMETERS" if len(query.get("OutId", "").encode()) >= 256 else None

    def values(self, variables: Any) -> bool:
        """`{"code":"1234"}` will do and `{"code":1234}` will not."""
        return isinstance(variables, dict) and all(isinstance(value, str) for value in variables.values())

    def message_id(self, seed: bytes) -> str:
        return f"{int.from_bytes(seed[:8], 'big') % 10**18:018d}^0"

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        code = plan.code or ALIYUN_SMS_RECEIPTS[plan.outcome]
        if self.report_url is None or code is None:
            return []
        route = self.to(self.report_url)
        items = [partial(_report, number, order, message_id, code) for number in order.recipient.split(",")]
        return [Post(route, message_id, order.reference, code, item) for item in items]

    def upstream(self, url: str, sequence: int, number: str, content: str, sign: str, code: str) -> Post:
        """What a borrower wrote to the number that the extension `code` made ours."""

        def item(now: datetime) -> dict[str, Any]:
            return {
                "phone_number": number, "send_time": local(now), "content": content, "sign_name": sign,
                "dest_code": code, "sequence_id": sequence,
            }  # fmt: skip

        return Post(self.to(url), str(sequence), None, "upstream", item)


def _report(number: str, order: Order, biz_id: str, code: str, now: datetime) -> dict[str, Any]:
    """One SmsReport.  Numbers in China come back bare, in whatever form they were given."""
    bare = re.sub(r"^(?:\+86|0086|86|\+)(?=1[3-9][0-9]{9}$)", "", number)
    return {
        "phone_number": bare, "send_time": local(now - timedelta(seconds=2)), "report_time": local(now),
        "success": code == ALIYUN_SMS_DELIVERED, "err_code": code, "err_msg": f"simulated {code}", "sms_size": "1",
        "biz_id": biz_id, "out_id": order.reference or "",
    }  # fmt: skip
