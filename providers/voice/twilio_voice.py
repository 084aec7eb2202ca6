"""Voice by Twilio's Calls API: a call that asks who listens, then speaks; signed status callbacks and key presses.

Sources: https://www.twilio.com/docs/voice/api/call-resource (request, answer, status callbacks),
https://www.twilio.com/docs/voice/twiml/gather and .../say (what is said, and what a key press sends),
https://www.twilio.com/docs/voice/answering-machine-detection (AnsweredBy).

Status callbacks are ordered by what they say, by the rank of the state: SequenceNumber, which Twilio counts for each
call, would say the same of those that came and nothing of those that did not.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape, quoteattr

from pydantic import Field

from providers import defaults, forms
from providers.auth import twilio
from providers.contract import (
    Adapter,
    Callback,
    CallbackOutcome,
    Context,
    HttpRequest,
    HttpResponse,
    Invalid,
    KeyPress,
    Message,
    Outcome,
    Prompt,
    ProviderEvent,
    Receipt,
)
from providers.reading import clean_code, clean_reference
from schemas.vocabulary import AttemptState, Channel, Failure, FailureScope

# https://www.twilio.com/docs/api/errors.  Twilio splits and re-uses codes: an unlisted one gets its status' default.
_CODES = defaults.verdicts(
    {
        (Failure.BAD_CONFIG, FailureScope.ACCOUNT): """
            20003 20005 20404 21203 21219
            21205 21609""",  # authentication, account, no calls abroad, trial account; a callback URL that is none
        (Failure.THROTTLED, FailureScope.ACCOUNT): "20429",
        # Not a number, not one that can be called, a premium one, one that Twilio refuses to call; a country that is
        # switched off in the account (see `_ALERTS`).
        (Failure.BAD_RECIPIENT, FailureScope.RECIPIENT): """
            21202 21211 21214 21215 21216 21217 13223 13224 13225 13227""",
        (Failure.BAD_CONFIG, FailureScope.SENDER): "21210 21212 21213",  # a caller id that is not ours
        (Failure.BUG, FailureScope.ACCOUNT): "21201 12100 12200",  # no recipient; TwiML that is none
    }
)
_ALERTS = frozenset({"21215", "13227"})

_RINGING = {
    "queued": AttemptState.ACCEPTED,
    "initiated": AttemptState.ACCEPTED,
    "ringing": AttemptState.SENT,
    "busy": AttemptState.BUSY,
    "no-answer": AttemptState.NO_ANSWER,
    "failed": AttemptState.UNDELIVERED,
    "canceled": AttemptState.UNDELIVERED,
}
_PICKED_UP = ("in-progress", "completed")
_ANSWERED_BY = {"human": AttemptState.ANSWERED_HUMAN, "fax": AttemptState.ANSWERED_MACHINE}
_DECLINE = "603"
# RFC 3261 §21: how a call that failed was refused on the way.
_SIP: dict[str, tuple[AttemptState, Failure | None]] = {
    "404": (AttemptState.UNDELIVERED, Failure.BAD_RECIPIENT),  # not found
    "408": (AttemptState.NO_ANSWER, Failure.UNREACHABLE),  # request timeout
    "410": (AttemptState.UNDELIVERED, Failure.BAD_RECIPIENT),  # gone
    "480": (AttemptState.NO_ANSWER, Failure.UNREACHABLE),  # temporarily unavailable
    "484": (AttemptState.UNDELIVERED, Failure.BAD_RECIPIENT),  # address incomplete
    _DECLINE: (AttemptState.DECLINED, None),
    "604": (AttemptState.UNDELIVERED, Failure.BAD_RECIPIENT),  # does not exist anywhere
}

# The languages of <Say> for locales that it does not know by their own name.
_LANGUAGES = {"en": "en-US"}
_EVENTS = b"".join(b"&StatusCallbackEvent=%b" % event for event in (b"ringing", b"answered", b"completed"))
_LONGEST_TWIML = 4000
_SHORTEST_RING = 5
_XML = MappingProxyType({"content-type": "text/xml; charset=utf-8"})
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 §2.2
_SILENCE = "<Response/>"


class TwilioVoiceSettings(twilio.AccountSettings):
    """One account and the number its calls show."""

    sender: Annotated[str, Field(pattern=r"^\+[1-9][0-9]{5,14}$")]
    ring_seconds: Annotated[int, Field(ge=_SHORTEST_RING, le=120)] = 30
    longest_call_seconds: Annotated[int, Field(ge=30, le=3600)] = 240
    # With detection a machine is told from a person, in the countries where Twilio offers it, some seconds later.
    machine_detection: Literal["Enable", "DetectMessageEnd"] | None = None

    @cached_property
    def form_tail(self) -> bytes:
        """What every call has in common."""
        form = {"From": self.sender, "TimeLimit": str(self.longest_call_seconds)}
        if self.machine_detection is not None:
            form["MachineDetection"] = self.machine_detection
        return forms.encode(form.items())


class TwilioVoice(Adapter):
    name = "twilio_voice"
    channel = Channel.VOICE
    settings_type = TwilioVoiceSettings
    signs_callbacks = True
    interactive = True
    alerts = _ALERTS

    def build_request(self, message: Message, settings: TwilioVoiceSettings, ctx: Context) -> HttpRequest:
        """Raises ValueError when the words are longer than a call may bring along."""
        opening = message.prompt or Prompt(message.text, message.locale)
        twiml = _twiml(opening, settings)
        if len(twiml) > _LONGEST_TWIML:
            raise ValueError("the words are too long for a call")
        form = b"To=%b&%b&Timeout=%d&Twiml=%b" % (
            forms.quote(message.address), settings.form_tail, _rings(message, settings), forms.quote(twiml)
        )  # fmt: skip
        if ctx.callback_url is not None:
            form += b"&StatusCallback=%b%b" % (forms.quote(ctx.callback_url), settings.overrides_tail) + _EVENTS
        return HttpRequest(settings.url_of("Calls"), settings.headers, form)

    def classify_response(self, response: HttpResponse) -> Outcome:
        return twilio.classify(_CODES, response)

    def verify_callback(self, callback: Callback, settings: TwilioVoiceSettings, now: dt.datetime) -> str:
        tokens, shared = settings.signing_secrets
        return twilio.authenticate(callback, tokens, shared)

    def parse_callback(self, callback: Callback) -> list[ProviderEvent]:
        try:
            fields = dict(twilio.form_params(callback))
            step = dict(parse_qsl(urlsplit(callback.url).query)).get("step")
        except ValueError:
            return [Invalid("body_unreadable")]
        ref = clean_reference(fields.get("CallSid"))
        if ref is None:
            return [Invalid("call_sid")]
        if step is not None:
            return _pressed(fields.get("Digits", ""), step, callback.attempt, ref)
        return [_receipt(fields, callback.attempt, ref)]

    def reply(
        self, outcome: CallbackOutcome, settings: TwilioVoiceSettings, prompt: Prompt | None = None
    ) -> HttpResponse:
        """A status callback's answer is not read, a key press' is the next thing said; without any the call ends."""
        if outcome is CallbackOutcome.FAILED:
            return HttpResponse(503)
        return HttpResponse(200, _XML, (_SILENCE if prompt is None else _twiml(prompt, settings)).encode())


def _rings(message: Message, settings: TwilioVoiceSettings) -> int:
    """For how many seconds: not past what the message is good for, but for the least that Twilio takes."""
    if message.ttl_seconds is None:
        return settings.ring_seconds
    return min(settings.ring_seconds, max(message.ttl_seconds, _SHORTEST_RING))


def _pressed(digits: str, step: str, attempt: str | None, ref: str) -> list[ProviderEvent]:
    """A key also proves that a person listens."""
    if not re.fullmatch(r"[0-9*#]{0,32}", digits, re.ASCII):
        return [Invalid("digits")]
    events: list[ProviderEvent] = [KeyPress(digits, attempt, ref, None, step)]
    if digits:
        events.append(Receipt(AttemptState.ANSWERED_HUMAN, "key", attempt, ref))
    return events


def _receipt(fields: Mapping[str, str], attempt: str | None, ref: str) -> ProviderEvent:
    status, at = fields.get("CallStatus", ""), _moment(fields.get("Timestamp", ""))
    if status in _PICKED_UP:
        by = fields.get("AnsweredBy", "")
        machine = AttemptState.ANSWERED_MACHINE if by.startswith("machine_") else AttemptState.ANSWERED
        return Receipt(_ANSWERED_BY.get(by, machine), clean_code(by or status), attempt, ref, None, at)
    state, failure = _RINGING.get(status), None
    if state is None:
        return Invalid("call_status")
    code, scope = status, FailureScope.RECIPIENT
    sip, error = fields.get("SipResponseCode", ""), fields.get("ErrorCode", "")
    if status == "busy" and sip == _DECLINE:
        state, code = AttemptState.DECLINED, f"sip_{sip}"  # a phone that is busy says 486
    if status == "failed":
        code = clean_code(error or (f"sip_{sip}" if sip else status))
        state, failure = _SIP.get(sip, (state, None))
        if (verdict := _CODES.get(error)) is not None:
            state, (failure, scope) = AttemptState.UNDELIVERED, verdict
    return Receipt(state, code, attempt, ref, failure, at, scope)


def _moment(stamp: str) -> dt.datetime | None:
    """RFC 2822, as Twilio writes it; None for anything else."""
    try:
        moment = parsedate_to_datetime(stamp)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


def _twiml(prompt: Prompt, settings: TwilioVoiceSettings) -> str:
    """Says it; with keys waits for one, and sends silence as well."""
    language = quoteattr(_LANGUAGES.get(prompt.locale, prompt.locale))
    say = f"<Say language={language}>{escape(_NOT_XML.sub(' ', prompt.text))}</Say>"
    if not prompt.keys:
        return f"<Response>{say}</Response>"
    action = quoteattr(prompt.url + settings.overrides)
    return (
        f'<Response><Gather input="dtmf" numDigits="1" timeout="{prompt.wait_seconds}" action={action} method="POST"'
        f' actionOnEmptyResult="true">{say}</Gather></Response>'
    )


ADAPTER = TwilioVoice()
