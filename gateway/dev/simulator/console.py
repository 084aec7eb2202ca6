"""What one types into the vendors' consoles: where reports go."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from gateway.dev.simulator.aliyun import Product
from gateway.dev.simulator.fcm import Fcm
from gateway.dev.simulator.twilio import Twilio


class Entries(BaseModel):
    """The URLs to set; those not named stay as they are, and null clears one."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    aliyun_url: str | None = None
    aliyun_sms_url: str | None = None
    app_events_url: str | None = None
    twilio_sms_url: str | None = None


class Console:
    """All vendors' consoles."""

    def __init__(self, voice: Product, sms: Product, fcm: Fcm, twilio: Twilio) -> None:
        self._voice = voice
        self._sms = sms
        self._fcm = fcm
        self._twilio = twilio

    def __call__(
        self,
        *,
        aliyun_url: str | None = None,
        aliyun_sms_url: str | None = None,
        app_events_url: str | None = None,
        twilio_sms_url: str | None = None,
    ) -> None:
        """Sets where reports go, once the gateway's own address is known.  None leaves a setting as it is."""
        given = {
            "aliyun_url": aliyun_url,
            "aliyun_sms_url": aliyun_sms_url,
            "app_events_url": app_events_url,
            "twilio_sms_url": twilio_sms_url,
        }
        self.enter(Entries(**{name: url for name, url in given.items() if url is not None}))

    def enter(self, entries: Entries) -> None:
        named = entries.model_fields_set
        if "aliyun_url" in named:
            self._voice.report_url = entries.aliyun_url
        if "aliyun_sms_url" in named:
            self._sms.report_url = entries.aliyun_sms_url
        if "app_events_url" in named:
            self._fcm.app_events_url = entries.app_events_url
        if "twilio_sms_url" in named:
            self._twilio.inbound_url = entries.twilio_sms_url
