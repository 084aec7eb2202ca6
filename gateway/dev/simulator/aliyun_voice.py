"""Aliyun Voice, SingleCallByTts, and its unsigned VoiceReport push.

Sources: https://help.aliyun.com/zh/vms/developer-reference/api-dyvmsapi-2017-05-25-singlecallbytts,
https://help.aliyun.com/document_detail/112503.html (push), https://help.aliyun.com/document_detail/55085.html (status
codes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from gateway.dev.simulator.aliyun import Product, local
from gateway.dev.simulator.codes_aliyun import ALIYUN_VOICE_ANSWERED, ALIYUN_VOICE_RECEIPTS
from gateway.dev.simulator.names import Vendor
from gateway.dev.simulator.script import ReceiptPlan
from gateway.dev.simulator.wire import Order, Post

_NUMBER = re.compile(r"\+?[0-9]{5,20}")
_RANGES = {"PlayTimes": (1, 3), "Volume": (0, 100), "Speed": (-500, 500)}


class AliyunVoice(Product):
    vendor = Vendor.ALIYUN
    action = "SingleCallByTts"
    number, template, variables, id = "CalledNumber", "TtsCode", "TtsParam", "CallId"
    push_timeout = 0.7

    def problem(self, query: Mapping[str, str]) -> str | None:
        if not query.get("CalledNumber"):
            return "MissingCalledNumber"
        if not _NUMBER.fullmatch(query["CalledNumber"]):
            return "isv.MOBILE_NUMBER_ILLEGAL"
        if not query.get("TtsCode"):
            return "MissingTtsCode"
        for name, (low, high) in _RANGES.items():
            value = query.get(name, str(low))
            if not re.fullmatch(r"-?[0-9]{1,4}", value) or not low <= int(value) <= high:
                return "isv.INVALID_PARAMETERS"
        return "isv.INVALID_PARAMETERS" if len(query.get("OutId", "").encode()) > 15 else None

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        code = plan.code or ALIYUN_VOICE_RECEIPTS[plan.outcome]
        if self.report_url is None or code is None:
            return []
        item = partial(_report, order, message_id, code)
        return [Post(self.to(self.report_url), message_id, order.reference, code, item)]


def _report(order: Order, call_id: str, code: str, now: datetime) -> dict[str, str]:
    """One VoiceReport."""
    seconds = 12 if code in ALIYUN_VOICE_ANSWERED else 0
    at = {
        name: local(now - timedelta(seconds=ago))
        for name, ago in (("originate_time", seconds + 8), ("ring_time", seconds + 5), ("end_time", 0))
    }
    start = local(now - timedelta(seconds=seconds)) if seconds else ""
    return {
        "call_id": call_id, "out_id": order.reference or "", "status_code": code, "status_msg": f"simulated {code}",
        "caller": order.form.get("CalledShowNumber", "02160000000"), "callee": order.recipient, **at,
        "start_time": start, "duration": str(seconds), "hangup_direction": "0", "dtmf": "", "voice_type": "voice",
        "early_media_code": "", "smart_status_code": "",
    }  # fmt: skip
