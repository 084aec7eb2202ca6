"""Twilio's Messages API, its status callbacks, and what borrowers write to a number of the account.

Sources: https://www.twilio.com/docs/messaging/api/message-resource,
https://www.twilio.com/docs/messaging/guides/webhook-request.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

from gateway.dev.simulator.codes import TWILIO_RECEIPTS
from gateway.dev.simulator.names import Vendor
from gateway.dev.simulator.script import ReceiptPlan
from gateway.dev.simulator.twilio_account import API_VERSION, Account, Packed, callable_url, split
from gateway.dev.simulator.wire import Incoming, Order, Post, Refusal, Reply, json_reply

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_IDEMPOTENCY = "I-Twilio-Idempotency-Token"


class Twilio:
    """One account."""

    vendor = Vendor.TWILIO

    def __init__(self, account: Account, inbound_url: str | None = None) -> None:
        """`inbound_url` is what the console has as "a message comes in" for every number."""
        self._account = account
        self.inbound_url = inbound_url
        self.path = account.path("Messages.json")

    def read(self, incoming: Incoming) -> Order | Refusal:
        if not self._account.admits(incoming, self.path):
            return Refusal("20003")
        try:
            form = dict(parse_qsl(incoming.body.decode(), keep_blank_values=True, errors="strict"))
        except ValueError:
            return Refusal("21604")
        refusal = _validate(form)
        if refusal is not None:
            return refusal
        shown = {name: value for name, value in form.items() if name not in ("To", "Body", "StatusCallback")}
        callback = split(form.get("StatusCallback", ""))
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
        uri = self._account.path(f"Messages/{message_id}")
        message = {
            "sid": message_id, "account_sid": self._account.sid, "messaging_service_sid": service,
            "to": order.recipient, "from": form.get("From"), "body": form.get("Body", ""),
            "status": "accepted" if service else "queued", "direction": "outbound-api", "api_version": API_VERSION,
            "num_segments": "0" if service else "1", "num_media": "0", "price": None, "price_unit": "USD",
            "error_code": None, "error_message": None,
            "date_created": date, "date_updated": date, "date_sent": None,
            "uri": f"{uri}.json", "subresource_uris": {"media": f"{uri}/Media.json"},
        }  # fmt: skip
        return json_reply(201, message)

    def refused(self, refusal: Refusal) -> Reply:
        return self._account.refused(refusal, self.vendor)

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        if not order.form.get("StatusCallback"):
            return []
        statuses, code = TWILIO_RECEIPTS[plan.outcome]
        route = self._account.route(self.vendor, order.form["StatusCallback"], self._pack)

        def post(status: str) -> Post:
            idempotency = secrets.token_hex(16)
            error = plan.code or code if status in ("undelivered", "failed") else None
            form = {
                "AccountSid": self._account.sid, "ApiVersion": API_VERSION,
                "MessageSid": message_id, "SmsSid": message_id, "MessageStatus": status, "SmsStatus": status,
                "To": order.recipient, "From": order.form.get("From", ""),
                **({"MessagingServiceSid": s} if (s := order.form.get("MessagingServiceSid")) else {}),
                **({"ErrorCode": error} if error else {}),
            }  # fmt: skip

            def item(now: datetime) -> dict[str, str]:
                done = {"RawDlrDoneDate": f"{now:%y%m%d%H%M}"} if status != "sent" else {}
                return {**form, **done, _IDEMPOTENCY: idempotency}

            return Post(route, message_id, order.reference, status, item)

        return [post(status) for status in statuses]

    def upstream(self, url: str, seed: bytes, number: str, content: str, ours: str) -> Post:
        """A message to a number of ours."""
        sid = self.message_id(seed)
        form = {
            "AccountSid": self._account.sid, "ApiVersion": API_VERSION, "MessageSid": sid, "SmsSid": sid,
            "SmsMessageSid": sid, "SmsStatus": "received", "From": number, "To": ours, "Body": content,
            "NumMedia": "0", "NumSegments": "1", _IDEMPOTENCY: secrets.token_hex(16),
        }  # fmt: skip
        return Post(self._account.route(self.vendor, url, self._pack), sid, None, "upstream", lambda _now: form)

    def _pack(self, url: str, items: list[Any]) -> Packed:
        form = dict(items[0])
        return self._account.pack(url, form, form.pop(_IDEMPOTENCY))


def _validate(form: Mapping[str, str]) -> Refusal | None:
    failed = (
        "21604" if not form.get("To") else
        "21211" if not _E164.fullmatch(form["To"]) else
        "21603" if not (form.get("From") or form.get("MessagingServiceSid")) else
        "21602" if not (form.get("Body") or form.get("ContentSid")) else
        "21617" if len(form.get("Body", "")) > 1600 else
        "21609" if not callable_url(form.get("StatusCallback", "http://absent")) else
        None
    )  # fmt: skip
    return Refusal(failed) if failed else None
