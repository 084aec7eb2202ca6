"""Credentials that rotate between two messages, and facts whose key has not come yet."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from gateway import policy
from gateway.sealing import Sealer
from providers.contract import Context, HttpRequest, HttpResponse, Message
from providers.sms.twilio_sms import TwilioSms, TwilioSmsSettings
from schemas.vocabulary import Mode
from tests.unit.dispatch.case import NOW, PHONE, Line, Scripted, message, provider
from tests.unit.dispatch.test_mode import listing, prepared, reminder, steps


def settings(token: str) -> TwilioSmsSettings:
    return TwilioSmsSettings.model_validate({"account_sid": "AC1", "auth_tokens": [token], "sender": "+15005550006"})


async def sent(it: Any, line: Line) -> HttpRequest:
    await it.post(message(), await it.token(), lambda: True)
    return line.sent[-1]


async def test_a_request_has_one_set_of_credentials() -> None:
    line = Line(HttpResponse(200))
    old = provider(line, TwilioSms(), callback_base="https://us/callbacks/twilio/old")  # type: ignore[arg-type]
    old.settings = settings("first")
    before = await sent(old, line)
    new = old.renewed(settings("second"), "https://us/callbacks/twilio/new")
    after, late = await sent(new, line), await sent(old, line)
    assert before.headers["authorization"] != after.headers["authorization"]
    assert (b"new" in after.body, b"old" in after.body) == (True, False)
    # What was routed before the rotation goes as it was routed: no new key with an old callback.
    assert (late.headers, late.body) == (before.headers, before.body)


async def test_slots_connections_and_circuits_are_kept() -> None:
    old = provider(Line(HttpResponse(200)))
    new = old.renewed(None, "https://us/callbacks/x/new")
    assert new.reservation is old.reservation
    assert new.transport is old.transport


class Keyed(Scripted):
    """Tells in its token request which key it was made with."""

    def token_request(self, settings: Any, ctx: Context) -> HttpRequest:
        return HttpRequest("https://provider/token", {"key": settings})

    def build_request(self, message: Message, settings: Any, ctx: Context) -> HttpRequest:
        return HttpRequest("https://provider/send", {"authorization": f"{settings} {ctx.access_token}"})


async def test_an_access_token_goes_with_the_key_it_was_got_by() -> None:
    line = Line(HttpResponse(200))
    first = provider(line, Keyed(needs_token=True))
    first.settings = "key-1"
    assert (await sent(first, line)).headers["authorization"] == "key-1 token-1"
    same = first.renewed("key-1", "https://us/callbacks/x/new")
    assert (await sent(same, line)).headers["authorization"] == "key-1 token-1"
    second = same.renewed("key-2", None)
    assert (await sent(second, line)).headers["authorization"] == "key-2 token-2"
    assert (await sent(first, line)).headers["authorization"] == "key-1 token-1"


async def test_equal_settings_are_the_same_whatever_they_have_worked_out() -> None:
    used, fresh = settings("first"), settings("first")
    assert used.headers
    assert used == fresh
    assert settings("second") != fresh


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.ALLOWLIST])
def test_facts_without_their_key_are_put_off_and_told(mode: Mode) -> None:
    later = Sealer({2: b"2" * 32}, 2, b"i" * 32)
    it = steps(mode, listing(PHONE) if mode is Mode.ALLOWLIST else None)
    unknown: list[int | None] = []
    object.__setattr__(it, "on_key_unknown", unknown.append)
    made = reminder(PHONE, sealer=later)
    verdict = prepared(it, made)
    assert isinstance(verdict, policy.Defer)
    assert verdict.rule == "sealing_key_unknown"
    assert dt.timedelta(seconds=30) <= verdict.until - NOW <= dt.timedelta(seconds=60)
    assert set(unknown) == {2}
    it.sealer.replace_keys({1: b"k" * 32, 2: b"2" * 32}, 1)
    try:
        assert prepared(it, reminder(PHONE, sealer=later)) is None
    finally:
        it.sealer.replace_keys({1: b"k" * 32}, 1)
