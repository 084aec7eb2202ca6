"""Aliyun Voice, SingleCallByTts, and its unsigned VoiceReport push.

Sources: https://help.aliyun.com/zh/vms/developer-reference/api-dyvmsapi-2017-05-25-singlecallbytts,
https://help.aliyun.com/document_detail/112503.html (push: 700 ms, then again after 1, 5 and 10 minutes),
https://help.aliyun.com/document_detail/55085.html (status codes).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import ClientTimeout

from gateway.dev.simulator import acs3
from gateway.dev.simulator.codes import ALIYUN_ANSWERED, ALIYUN_RECEIPTS
from gateway.dev.simulator.config import ReceiptSettings
from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.names import Vendor
from gateway.dev.simulator.script import ReceiptPlan
from gateway.dev.simulator.wire import Answer, Incoming, Order, Post, Refusal, Reply, Route, json_reply

ACTION, VERSION = "SingleCallByTts", "2017-05-25"
PUSH_TIMEOUT = 0.7
REPUSH = (60.0, 300.0, 600.0)
_NUMBER = re.compile(r"\+?[0-9]{5,20}")
_CHINA = timezone(timedelta(hours=8))
_RANGES = {"PlayTimes": (1, 3), "Volume": (0, 100), "Speed": (-500, 500)}


def _judge(status: int, body: bytes) -> Answer:
    """The platform looks for HTTP 200 and a JSON object whose `code` is a number."""
    if status != 200:
        return status
    try:
        code = msgspec.json.decode(body)["code"]
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError):
        return "bad_reply"
    return 200 if isinstance(code, int | float) and not isinstance(code, bool) else "bad_reply"


def _pack(items: list[Any]) -> tuple[Mapping[str, str], bytes]:
    return {"Content-Type": "application/json;charset=utf-8"}, msgspec.json.encode(items)


class Aliyun:
    """One account with one access key.  `report_url` is the console's setting and may change at any time."""

    vendor = Vendor.ALIYUN

    def __init__(self, credentials: Credentials, settings: ReceiptSettings) -> None:
        self._key_id = credentials.aliyun_access_key_id
        self._secret = credentials.aliyun_access_key_secret
        self._settings = settings
        self.nonces = acs3.Nonces()
        self._route: Route | None = None
        self.report_url = settings.aliyun_url

    def read(self, incoming: Incoming) -> Order | Refusal:
        code = acs3.check(incoming, self._key_id, self._secret)
        if code is not None:
            return Refusal(code)
        nonce = incoming.headers["x-acs-signature-nonce"]
        if not self.nonces.fresh(nonce, incoming.now):
            return Refusal("SignatureNonceUsed")
        query = dict(parse_qsl(incoming.query, keep_blank_values=True))
        params: Any = None
        code = _problem(incoming.headers, query)
        if code is None:
            try:
                params = msgspec.json.decode(query.get("TtsParam") or "{}")
            except msgspec.DecodeError:
                code = "isv.INVALID_JSON_PARAM"
            else:
                code = None if isinstance(params, dict) else "isv.INVALID_JSON_PARAM"
        if code is not None:
            return Refusal(code, nonce=nonce)
        return Order(
            recipient=query["CalledNumber"],
            reference=query.get("OutId") or None,
            text_or_template=query["TtsCode"],
            params=params,
            nonce=nonce,
            form=query,
        )

    def message_id(self, seed: bytes) -> str:
        return f"{int.from_bytes(seed[:5], 'big'):012d}^{int.from_bytes(seed[5:10], 'big'):012d}"

    def accepted(self, order: Order, message_id: str, now: datetime) -> Reply:
        return json_reply(200, {"Code": "OK", "Message": "OK", "CallId": message_id, "RequestId": _request_id()})

    def refused(self, refusal: Refusal) -> Reply:
        fault = refusal.fault(self.vendor)
        reply = json_reply(fault.status, {"Code": refusal.code, "Message": fault.message, "RequestId": _request_id()})
        if refusal.retry_after is None:
            return reply
        wait = {"x-acs-retry-after": str(round(refusal.retry_after * 1000))}  # milliseconds
        return Reply(reply.status, {**reply.headers, **wait}, reply.body)

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        code = plan.code or ALIYUN_RECEIPTS[plan.outcome]
        if self.report_url is None or code is None:
            return []
        item = partial(_report, order, message_id, code)
        return [Post(self._to(self.report_url), message_id, order.reference, code, item)]

    def _to(self, url: str) -> Route:
        if self._route is None or self._route.url != url:
            self._route = Route(
                vendor=self.vendor,
                url=url,
                pack=_pack,
                delays=tuple(self._settings.retry_scale * delay for delay in REPUSH),
                timeout=ClientTimeout(total=PUSH_TIMEOUT),
                again=lambda answer: answer != 200,
                judge=_judge,
                batch=self._settings.aliyun_batch,
                window=self._settings.aliyun_window,
            )
        return self._route


def _report(order: Order, call_id: str, code: str, now: datetime) -> dict[str, str]:
    """One VoiceReport: times are local to China, without a zone."""
    seconds = 12 if code in ALIYUN_ANSWERED else 0
    at = {
        name: f"{(now - timedelta(seconds=ago)).astimezone(_CHINA):%Y-%m-%d %H:%M:%S}"
        for name, ago in (("originate_time", seconds + 8), ("ring_time", seconds + 5), ("end_time", 0))
    }
    start = f"{(now - timedelta(seconds=seconds)).astimezone(_CHINA):%Y-%m-%d %H:%M:%S}" if seconds else ""
    return {
        "call_id": call_id, "out_id": order.reference or "", "status_code": code, "status_msg": f"simulated {code}",
        "caller": order.form.get("CalledShowNumber", "02160000000"), "callee": order.recipient, **at,
        "start_time": start, "duration": str(seconds), "hangup_direction": "0", "dtmf": "", "voice_type": "voice",
        "early_media_code": "", "smart_status_code": "",
    }  # fmt: skip


def _problem(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    if headers.get("x-acs-action") != ACTION:
        return "InvalidAction.NotFound"
    if headers.get("x-acs-version") != VERSION:
        return "InvalidVersion"
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


def _request_id() -> str:
    return str(uuid.uuid4()).upper()
