"""Twilio's Calls API.  The call that follows is in `calls`.

A parameter that it does not simulate is refused with 20001 rather than ignored, and TwiML that comes with the request
is read at once: the vendor would find its flaws only when somebody has picked up.
Sources: https://www.twilio.com/docs/voice/api/call-resource,
https://www.twilio.com/docs/voice/answering-machine-detection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl

from gateway.dev.simulator.dial import EVENTS, Dial
from gateway.dev.simulator.names import Vendor
from gateway.dev.simulator.script import ReceiptPlan
from gateway.dev.simulator.twilio_account import API_VERSION, Account, callable_url, split
from gateway.dev.simulator.twiml import Document, Flaw, parse
from gateway.dev.simulator.wire import Incoming, Order, Post, Refusal, Reply, json_reply

_NUMBER = re.compile(r"\+[0-9]+")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_TWIML = 4000  # characters
_KNOWN = frozenset(
    {
        "To", "From", "Twiml", "Url", "Method", "StatusCallback", "StatusCallbackEvent", "StatusCallbackMethod",
        "Timeout", "TimeLimit", "MachineDetection",
    }
)  # fmt: skip
_NOT_SIMULATED = frozenset(
    {
        "ApplicationSid", "AsyncAmd", "AsyncAmdStatusCallback", "AsyncAmdStatusCallbackMethod", "Byoc", "CallReason",
        "CallToken", "CallerId", "FallbackMethod", "FallbackUrl", "MachineDetectionSilenceTimeout",
        "MachineDetectionSpeechEndThreshold", "MachineDetectionSpeechThreshold", "MachineDetectionTimeout", "Record",
        "RecordingChannels", "RecordingStatusCallback", "RecordingStatusCallbackEvent",
        "RecordingStatusCallbackMethod", "RecordingTrack", "SendDigits", "SipAuthPassword", "SipAuthUsername", "Trim",
    }
)  # fmt: skip
_TOLD_APART = ("To", "Twiml", "Url", "StatusCallback", "StatusCallbackEvent")
_DETECTIONS = ("", "none", "Enable", "DetectMessageEnd")


class TwilioVoice:
    """The voice of one account."""

    vendor = Vendor.TWILIO_VOICE

    def __init__(self, account: Account) -> None:
        self._account = account
        self.path = account.path("Calls.json")

    def read(self, incoming: Incoming) -> Order | Refusal:
        if not self._account.admits(incoming, self.path):
            return Refusal("20003")
        try:
            pairs = parse_qsl(incoming.body.decode(), keep_blank_values=True, errors="strict")
        except ValueError:
            return Refusal("21200")
        form = dict(pairs)
        events = frozenset(value for name, value in pairs if name == "StatusCallbackEvent") or frozenset({"completed"})
        document = parse(form["Twiml"].encode()) if form.get("Twiml") and not form.get("Url") else None
        refusal = _validate(form, events, document)
        if refusal is not None:
            return refusal
        call = Dial(
            caller=form["From"],
            document=document if isinstance(document, Document) else None,
            url=form.get("Url", ""),
            method=form.get("Method", "POST"),
            callback=form.get("StatusCallback", ""),
            callback_method=form.get("StatusCallbackMethod", "POST"),
            events=events,
            timeout=int(form.get("Timeout", "60")),
            time_limit=int(form.get("TimeLimit", "14400")),
            detection=form.get("MachineDetection") if form.get("MachineDetection") not in ("", "none") else None,
        )
        shown = {name: value for name, value in form.items() if name not in _TOLD_APART}
        return Order(
            recipient=form["To"],
            reference=split(call.callback).path.rpartition("/")[2] or None,
            text_or_template="\n".join(call.texts()),
            params={**shown, "StatusCallbackEvent": [event for event in EVENTS if event in events]},
            call=call,
            form=form,
        )

    def message_id(self, seed: bytes) -> str:
        return "CA" + seed.hex()

    def accepted(self, order: Order, message_id: str, now: datetime) -> Reply:
        caller, date = order.form["From"], format_datetime(now)
        uri = self._account.path(f"Calls/{message_id}")
        below = {
            "notifications": "Notifications", "recordings": "Recordings", "payments": "Payments", "events": "Events",
            "siprec": "Siprec", "streams": "Streams", "transcriptions": "Transcriptions",
            "user_defined_messages": "UserDefinedMessages",
            "user_defined_message_subscriptions": "UserDefinedMessageSubscriptions",
        }  # fmt: skip
        call = {
            "sid": message_id, "account_sid": self._account.sid, "parent_call_sid": None, "group_sid": None,
            "to": order.recipient, "to_formatted": order.recipient, "from": caller, "from_formatted": caller,
            "caller_name": None, "forwarded_from": None, "phone_number_sid": None, "trunk_sid": None,
            "status": "queued", "direction": "outbound-api", "api_version": API_VERSION, "answered_by": None,
            "start_time": None, "end_time": None, "duration": None, "queue_time": "0",
            "price": None, "price_unit": "USD", "date_created": date, "date_updated": date, "annotation": None,
            "uri": f"{uri}.json", "subresource_uris": {name: f"{uri}/{part}.json" for name, part in below.items()},
        }  # fmt: skip
        return json_reply(201, call)

    def refused(self, refusal: Refusal) -> Reply:
        return self._account.refused(refusal, self.vendor)

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        """None: the call tells its own life while it is lived."""
        return []


def _validate(form: Mapping[str, str], events: frozenset[str], document: Document | Flaw | None) -> Refusal | None:
    if unknown := set(form) - _KNOWN:
        names = ", ".join(sorted(unknown & _NOT_SIMULATED))
        return Refusal("20001", message=f"not simulated: {names}" if names else None)
    method = {form.get(name, "POST") for name in ("Method", "StatusCallbackMethod")}
    failed = (
        "21201" if not form.get("To") else
        "21211" if not _NUMBER.fullmatch(form["To"]) else
        "21217" if not _E164.fullmatch(form["To"]) else
        "21213" if not form.get("From") else
        "21212" if not _E164.fullmatch(form["From"]) else
        "21205" if not (form.get("Twiml") or form.get("Url")) else
        "21205" if form.get("Url") and not callable_url(form["Url"]) else
        "32018" if len(form.get("Twiml", "")) > _TWIML else
        "21209" if not method <= {"GET", "POST"} else
        "21609" if not callable_url(form.get("StatusCallback", "http://absent")) else
        "21626" if not events <= set(EVENTS) else
        "21208" if not _within(form.get("Timeout", "60"), 600) else
        "21200" if not _within(form.get("TimeLimit", "14400"), 86_400) else
        "21200" if form.get("MachineDetection", "") not in _DETECTIONS else
        None
    )  # fmt: skip
    if failed:
        return Refusal(failed)
    return Refusal(document.code, message=document.detail) if isinstance(document, Flaw) else None


def _within(value: str, high: int) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", value) is not None and 1 <= int(value) <= high
