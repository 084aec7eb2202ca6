"""One Aliyun account: what its products share on the wire, up to the push of unsigned reports.

Sources: https://help.aliyun.com/document_detail/2593177.html (requests), and for the push
https://help.aliyun.com/document_detail/112503.html (Voice: 700 ms, then again after 1, 5 and 10 minutes) and
https://help.aliyun.com/document_detail/101867.html (SMS: the same, without the time that an answer may take).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import ClientTimeout

from gateway.dev.simulator import acs3
from gateway.dev.simulator.config import ReceiptSettings
from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.names import Vendor
from gateway.dev.simulator.wire import Answer, Incoming, Order, Refusal, Reply, Route, json_reply

VERSION = "2017-05-25"  # of both products
REPUSH = (60.0, 300.0, 600.0)
_CHINA = timezone(timedelta(hours=8))


class Account:
    """One access key.  A nonce that one product has seen is spent for all of them."""

    def __init__(self, credentials: Credentials) -> None:
        self._key_id = credentials.aliyun_access_key_id
        self._secret = credentials.aliyun_access_key_secret
        self.nonces = acs3.Nonces()

    def check(self, incoming: Incoming) -> str | None:
        """None for an authentic request that was not there before, else the code to refuse it with."""
        code = acs3.check(incoming, self._key_id, self._secret)
        if code is None and not self.nonces.fresh(incoming.headers["x-acs-signature-nonce"], incoming.now):
            code = "SignatureNonceUsed"
        return code


class Product:
    """One action of one product.  `report_url` is the console's setting and may change at any time."""

    vendor: Vendor
    action: ClassVar[str]
    number: ClassVar[str]  # the parameters' names
    template: ClassVar[str]
    variables: ClassVar[str]
    id: ClassVar[str]  # the name of the message's id in the answer
    push_timeout: ClassVar[float]

    def __init__(self, account: Account, settings: ReceiptSettings, report_url: str | None) -> None:
        self._account = account
        self._settings = settings
        self._route: Route | None = None
        self.report_url = report_url

    def problem(self, query: Mapping[str, str]) -> str | None:
        """The code for parameters that the product refuses."""
        raise NotImplementedError

    def values(self, variables: Any) -> bool:
        """Whether the template's variables, decoded, have the form that they must have."""
        return isinstance(variables, dict)

    def read(self, incoming: Incoming) -> Order | Refusal:
        code = self._account.check(incoming)
        if code is not None:
            return Refusal(code)
        nonce = incoming.headers["x-acs-signature-nonce"]
        query = dict(parse_qsl(incoming.query, keep_blank_values=True))
        code = self._called(incoming.headers) or self.problem(query)
        variables = _decoded(query.get(self.variables) or "{}")
        if code is None and not self.values(variables):
            code = "isv.INVALID_JSON_PARAM"
        if code is not None:
            return Refusal(code, nonce=nonce)
        return Order(
            recipient=query[self.number],
            reference=query.get("OutId") or None,
            text_or_template=query[self.template],
            params=variables,
            nonce=nonce,
            form=query,
        )

    def message_id(self, seed: bytes) -> str:
        return f"{int.from_bytes(seed[:5], 'big'):012d}^{int.from_bytes(seed[5:10], 'big'):012d}"

    def accepted(self, order: Order, message_id: str, now: datetime) -> Reply:
        return json_reply(200, {"Code": "OK", "Message": "OK", self.id: message_id, "RequestId": _request_id()})

    def refused(self, refusal: Refusal) -> Reply:
        fault = refusal.fault(self.vendor)
        reply = json_reply(fault.status, {"Code": refusal.code, "Message": fault.message, "RequestId": _request_id()})
        if refusal.retry_after is None:
            return reply
        wait = {"x-acs-retry-after": str(round(refusal.retry_after * 1000))}  # milliseconds
        return Reply(reply.status, {**reply.headers, **wait}, reply.body)

    def to(self, url: str) -> Route:
        """Where the console says that reports go; those that wait for one URL share a call."""
        if self._route is None or self._route.url != url:
            self._route = Route(
                vendor=self.vendor,
                url=url,
                pack=_pack,
                delays=tuple(self._settings.retry_scale * delay for delay in REPUSH),
                timeout=ClientTimeout(total=self.push_timeout),
                again=lambda answer: answer != 200,
                judge=_judge,
                batch=self._settings.aliyun_batch,
                window=self._settings.aliyun_window,
            )
        return self._route

    def _called(self, headers: Mapping[str, str]) -> str | None:
        if headers.get("x-acs-action") != self.action:
            return "InvalidAction.NotFound"
        return None if headers.get("x-acs-version") == VERSION else "InvalidVersion"


def local(moment: datetime) -> str:
    """A time as reports have it: China's, without saying so."""
    return f"{moment.astimezone(_CHINA):%Y-%m-%d %H:%M:%S}"


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


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


def _request_id() -> str:
    return str(uuid.uuid4()).upper()
