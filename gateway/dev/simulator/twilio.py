"""Twilio's Messages API, its status callbacks and their signature.

Sources: https://www.twilio.com/docs/messaging/api/message-resource,
https://www.twilio.com/docs/usage/webhooks/webhooks-security,
https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import SplitResult, parse_qsl, urldefrag, urlencode, urlsplit

from aiohttp import ClientTimeout

from gateway.dev.simulator.codes import TWILIO_RECEIPTS
from gateway.dev.simulator.config import ReceiptSettings
from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.names import Vendor
from gateway.dev.simulator.script import ReceiptPlan
from gateway.dev.simulator.wire import Answer, Incoming, Order, Post, Refusal, Reply, Route, json_reply

API_VERSION = "2010-04-01"
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_CONNECTING = frozenset({"connect_error", "connect_timeout"})
_READING = frozenset({"timeout", "broken"})


def sign(url: str, params: Iterable[tuple[str, str]], token: str) -> str:
    """The X-Twilio-Signature of a form post: each name sorted, its distinct values sorted, the name before each."""
    text = url + "".join(name + value for name, value in sorted(set(params)))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


def overrides(fragment: str) -> tuple[int, frozenset[str], ClientTimeout]:
    """Retry count, retry policies and timeouts of a callback URL's fragment, within the documented bounds."""
    given = dict(parse_qsl(fragment))

    def number(name: str, low: int, high: int, default: int) -> int:
        value = given.get(name, "")
        return min(max(int(value), low), high) if value.isascii() and value.isdigit() else default

    timeout = ClientTimeout(
        total=number("tt", 100, 15000, 15000) / 1000,
        sock_connect=number("ct", 100, 10000, 5000) / 1000,
        sock_read=number("rt", 100, 15000, 15000) / 1000,
    )
    return number("rc", 0, 5, 1), frozenset(given.get("rp", "ct").split(",")), timeout


def _again(policies: frozenset[str], answer: Answer) -> bool:
    if isinstance(answer, int):
        wanted = {4: "4xx", 5: "5xx"}.get(answer // 100)
        return wanted is not None and bool(policies & {wanted, "all"})
    name = "ct" if answer in _CONNECTING else "rt"
    return answer in _CONNECTING | _READING and bool(policies & {name, "all"})


class Twilio:
    """One account."""

    vendor = Vendor.TWILIO

    def __init__(self, credentials: Credentials, settings: ReceiptSettings) -> None:
        self._sid = credentials.twilio_account_sid
        self._token = credentials.twilio_auth_token
        self._settings = settings
        basic = base64.b64encode(f"{self._sid}:{self._token}".encode()).decode()
        self._authorization = f"Basic {basic}".encode()
        self.path = f"/{API_VERSION}/Accounts/{self._sid}/Messages.json"

    def read(self, incoming: Incoming) -> Order | Refusal:
        given = incoming.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._authorization) or incoming.path != self.path:
            return Refusal("20003")
        try:
            form = dict(parse_qsl(incoming.body.decode(), keep_blank_values=True, errors="strict"))
        except ValueError:
            return Refusal("21604")
        refusal = _validate(form)
        if refusal is not None:
            return refusal
        shown = {name: value for name, value in form.items() if name not in ("To", "Body", "StatusCallback")}
        callback = _split(form.get("StatusCallback", ""))
        return Order(
            recipient=form["To"],
            reference=callback.path.rpartition("/")[2] or None,
            text_or_template=form.get("Body") or form.get("ContentSid", ""),
            params=shown,
            form=form,
        )

    def message_id(self, seed: bytes) -> str:
        return "SM" + seed.hex()

    def accepted(self, order: Order, message_id: str, now: datetime) -> Reply:
        form, service, date = order.form, order.form.get("MessagingServiceSid"), format_datetime(now)
        uri = f"/{API_VERSION}/Accounts/{self._sid}/Messages/{message_id}"
        message = {
            "sid": message_id, "account_sid": self._sid, "messaging_service_sid": service,
            "to": order.recipient, "from": form.get("From"), "body": form.get("Body", ""),
            "status": "accepted" if service else "queued", "direction": "outbound-api", "api_version": API_VERSION,
            "num_segments": "0" if service else "1", "num_media": "0", "price": None, "price_unit": "USD",
            "error_code": None, "error_message": None,
            "date_created": date, "date_updated": date, "date_sent": None,
            "uri": f"{uri}.json", "subresource_uris": {"media": f"{uri}/Media.json"},
        }  # fmt: skip
        return json_reply(201, message)

    def refused(self, refusal: Refusal) -> Reply:
        fault = refusal.fault(self.vendor)
        code = refusal.code or ""
        body = {
            "code": int(code),
            "message": fault.message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": fault.status,
        }
        return json_reply(fault.status, body, refusal.retry_after)

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        if not order.form.get("StatusCallback"):
            return []
        statuses, code = TWILIO_RECEIPTS[plan.outcome]
        url, fragment = urldefrag(order.form["StatusCallback"])
        retries, policies, timeout = overrides(fragment)
        scale = self._settings.retry_scale
        route = Route(
            vendor=self.vendor,
            url=url,
            pack=lambda items: self._pack(url, items[0]),
            delays=tuple(scale * 2.0**n for n in range(retries)),
            timeout=timeout,
            again=lambda answer: _again(policies, answer),
        )

        def post(status: str) -> Post:
            idempotency = secrets.token_hex(16)
            error = plan.code or code if status in ("undelivered", "failed") else None
            form = {
                "AccountSid": self._sid, "ApiVersion": API_VERSION, "MessageSid": message_id, "SmsSid": message_id,
                "MessageStatus": status, "SmsStatus": status, "To": order.recipient,
                "From": order.form.get("From", ""),
                **({"MessagingServiceSid": s} if (s := order.form.get("MessagingServiceSid")) else {}),
                **({"ErrorCode": error} if error else {}),
            }  # fmt: skip

            def item(now: datetime) -> dict[str, str]:
                done = {"RawDlrDoneDate": f"{now:%y%m%d%H%M}"} if status != "sent" else {}
                return {**form, **done, "I-Twilio-Idempotency-Token": idempotency}

            return Post(route, message_id, order.reference, status, item)

        return [post(status) for status in statuses]

    def _pack(self, url: str, item: dict[str, str]) -> tuple[Mapping[str, str], bytes]:
        form = dict(item)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "User-Agent": "TwilioProxy/1.1",
            "I-Twilio-Idempotency-Token": form.pop("I-Twilio-Idempotency-Token"),
            "X-Twilio-Signature": sign(url, form.items(), self._token),
        }
        return headers, urlencode(form).encode()


def _validate(form: Mapping[str, str]) -> Refusal | None:
    callback = _split(form.get("StatusCallback", "http://absent"))
    failed = (
        "21604" if not form.get("To") else
        "21211" if not _E164.fullmatch(form["To"]) else
        "21603" if not (form.get("From") or form.get("MessagingServiceSid")) else
        "21602" if not (form.get("Body") or form.get("ContentSid")) else
        "21617" if len(form.get("Body", "")) > 1600 else
        "21609" if callback.scheme not in ("http", "https") or not callback.hostname else
        None
    )  # fmt: skip
    return Refusal(failed) if failed else None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
