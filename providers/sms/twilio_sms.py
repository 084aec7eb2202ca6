"""SMS by Twilio's Messages API, with signed status callbacks.

Sources: https://www.twilio.com/docs/messaging/api/message-resource (request, answer),
https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks (callbacks),
https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides (retries of callbacks).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Self

import msgspec
from pydantic import Field, model_validator

from providers import forms
from providers.auth import twilio
from providers.contract import (
    Adapter,
    Callback,
    Context,
    Engaged,
    HttpRequest,
    HttpResponse,
    Inbound,
    Invalid,
    Message,
    Outcome,
    ProviderEvent,
    Receipt,
)
from providers.defaults import Verdict
from providers.reading import clean_code, clean_reference, read_json
from schemas.vocabulary import AttemptState, Channel, Engagement, Failure, FailureScope

_TO: Verdict = (Failure.BAD_RECIPIENT, FailureScope.RECIPIENT)
_FROM: Verdict = (Failure.BAD_CONFIG, FailureScope.SENDER)
_ACCOUNT: Verdict = (Failure.BAD_CONFIG, FailureScope.ACCOUNT)
_TEXT: Verdict = (Failure.BAD_CONTENT, FailureScope.TEMPLATE)
_BUG: Verdict = (Failure.BUG, FailureScope.ACCOUNT)
_UNREACHABLE: Verdict = (Failure.UNREACHABLE, FailureScope.RECIPIENT)

# https://www.twilio.com/docs/api/errors.  Twilio splits and re-uses codes: an unlisted one gets its status' default.
_CODES: dict[str, Verdict] = {
    "20003": _ACCOUNT,  # authentication
    "20005": _ACCOUNT,  # account not active
    "20404": _ACCOUNT,  # no such account: the path names nothing else
    "20429": (Failure.THROTTLED, FailureScope.ACCOUNT),  # too many requests
    "21211": _TO,  # not a valid number
    "21212": _FROM,  # not a valid sender
    "21217": _TO,  # looks incorrect
    "21408": _TO,  # region not enabled
    "21601": _FROM,  # sender cannot send SMS
    "21602": _BUG,  # no body
    "21603": _BUG,  # no sender
    "21604": _BUG,  # no recipient
    "21606": _FROM,  # sender not owned, or not for this destination
    "21608": _ACCOUNT,  # trial account, recipient not verified
    "21609": _ACCOUNT,  # StatusCallback is not a valid URL
    "21610": (Failure.OPTED_OUT, FailureScope.RECIPIENT),  # replied STOP
    "21611": (Failure.THROTTLED, FailureScope.SENDER),  # the sender's queue is full
    "21612": _TO,  # no route from this sender
    "21614": _TO,  # not a mobile number
    "21617": _TEXT,  # too long
    "21635": _TO,  # landline
}

# The same page: codes that come in callbacks only.
_RECEIPT_CODES: dict[str, Verdict] = {
    "30001": (Failure.THROTTLED, FailureScope.SENDER),  # queue overflow
    "30002": _ACCOUNT,  # account suspended
    "30003": _UNREACHABLE,  # handset off or out of area
    "30004": _TO,  # blocked
    "30005": _TO,  # unknown handset
    "30006": _TO,  # landline or unreachable carrier
    "30007": (Failure.BAD_CONTENT, FailureScope.SENDER),  # filtered as spam
    "30008": _UNREACHABLE,  # the carrier does not say why; the next contact is safer than another try
    "30010": (Failure.BAD_CONFIG, FailureScope.RECIPIENT),  # this one costs more than the maximum price
}
# A region that is switched off in the account, a country that the sender has no route to.
_ALERTS = frozenset({"21408", "21612"})
_NO_REASON: tuple[Failure | None, FailureScope] = (None, FailureScope.RECIPIENT)
_VALIDITY_EXPIRED = "30036"

_STATES = {
    "accepted": AttemptState.ACCEPTED,
    "scheduled": AttemptState.ACCEPTED,
    "queued": AttemptState.ACCEPTED,
    "sending": AttemptState.ACCEPTED,
    "sent": AttemptState.SENT,
    "delivered": AttemptState.DELIVERED,
    "read": AttemptState.DELIVERED,
    "undelivered": AttemptState.UNDELIVERED,
    "partially_delivered": AttemptState.UNDELIVERED,
    "failed": AttemptState.UNDELIVERED,
    "canceled": AttemptState.UNDELIVERED,
}
_INBOUND = ("receiving", "received")
_VALIDITY = (1, 36_000)  # seconds


class TwilioSmsSettings(twilio.AccountSettings):
    """One account and one sender: either a number (`sender`) or a Messaging Service."""

    sender: Annotated[str, Field(min_length=1, max_length=20)] | None = None
    messaging_service_sid: Annotated[str, Field(pattern=r"^MG[0-9A-Za-z]{1,62}$")] | None = None

    @model_validator(mode="after")
    def _one_sender(self) -> Self:
        if (self.sender is None) == (self.messaging_service_sid is None):
            raise ValueError("exactly one of sender and messaging_service_sid is needed")
        return self

    @cached_property
    def request_head(self) -> tuple[str, Mapping[str, str], bytes]:
        """What does not depend on the message: URL, headers, the encoded sender."""
        name, value = "From", self.sender or ""
        if self.messaging_service_sid is not None:
            name, value = "MessagingServiceSid", self.messaging_service_sid
        return self.url_of("Messages"), self.headers, forms.encode([(name, value)])


_FIELDS = msgspec.json.Decoder(dict[str, str])


class TwilioSms(Adapter):
    name = "twilio_sms"
    channel = Channel.SMS
    settings_type = TwilioSmsSettings
    signs_callbacks = True
    alerts = _ALERTS

    def build_request(self, message: Message, settings: TwilioSmsSettings, ctx: Context) -> HttpRequest:
        url, headers, sender = settings.request_head
        form = b"To=%b&%b&Body=%b" % (forms.quote(message.address), sender, forms.quote(message.text))
        if ctx.callback_url is not None:
            form += b"&StatusCallback=%b%b" % (forms.quote(ctx.callback_url), settings.overrides_tail)
        if message.ttl_seconds is not None:
            low, high = _VALIDITY
            form += b"&ValidityPeriod=%d" % min(max(message.ttl_seconds, low), high)
        return HttpRequest(url, headers, form)

    def classify_response(self, response: HttpResponse) -> Outcome:
        return twilio.classify(_CODES, response)

    def verify_callback(self, callback: Callback, settings: TwilioSmsSettings, now: dt.datetime) -> str:
        tokens, shared = settings.signing_secrets
        return twilio.authenticate(callback, tokens, shared)

    def parse_callback(self, callback: Callback) -> list[ProviderEvent]:
        try:
            fields = dict(twilio.form_params(callback)) or read_json(_FIELDS, callback.body) or {}
        except ValueError:
            return [Invalid("body_unreadable")]
        ref = clean_reference(fields.get("MessageSid"))
        status = fields.get("MessageStatus") or fields.get("SmsStatus", "")
        if ref is None:
            return [Invalid("message_sid")]
        if status in _INBOUND:
            return [Inbound(ref, fields.get("From", ""), fields.get("To", ""), fields.get("Body", ""))]
        state = _STATES.get(status)
        if state is None:
            return [Invalid("message_status")]
        code = clean_code(fields.get("ErrorCode") or status)
        failure, scope = _NO_REASON
        if state is AttemptState.UNDELIVERED:
            failure, scope = _RECEIPT_CODES.get(code) or _CODES.get(code) or _NO_REASON
            if code == _VALIDITY_EXPIRED:
                state = AttemptState.TTL_EXPIRED
        events: list[ProviderEvent] = [Receipt(state, code, callback.attempt, ref, failure, None, scope)]
        if status == "read":
            events.append(Engaged(Engagement.OPENED, callback.attempt, ref))
        return events


ADAPTER = TwilioSms()
