"""Secrets and personal data show up in nothing that is printed, logged or raised."""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

import pytest
from pydantic import ConfigDict, SecretStr, ValidationError, create_model

from providers.contract import HttpResponse, Token, Unauthenticated
from tests.contract.case import CALLBACK_URL, CONTEXT, NOW, Case, with_headers
from tests.contract.strategies import UNREADABLE


def assert_silent(case: Case, *things: Any) -> None:
    for thing in things:
        for text in (repr(thing), str(thing), f"{thing}", f"{[thing]}"):
            for value in (*case.secrets, *case.personal, CALLBACK_URL):
                assert value not in text, type(thing)


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_settings_hide_their_secrets(case: Case) -> None:
    settings = case.configure()
    assert_silent(case, settings, settings.model_dump(), settings.model_dump_json(), settings.model_fields_set)
    for value in case.settings.values():
        for secret in value if isinstance(value, list) else [value]:
            assert (secret in case.secrets) == (secret not in repr(settings)), "the case names exactly what is secret"


def test_every_secret_field_is_typed_as_one(case: Case) -> None:
    for name, field in case.adapter.settings_type.model_fields.items():
        secret = any(word in name for word in ("secret", "auth_token", "shared_key", "private_key", "password"))
        if secret and not name.endswith("_id"):
            assert SecretStr.__name__ in str(field.annotation), name


def test_refused_settings_are_refused_without_being_shown(case: Case) -> None:
    assert case.configure()
    assert case.bad_settings
    for bad in case.bad_settings:
        with pytest.raises(ValidationError) as refused:
            case.configure(**bad)
        assert_silent(case, refused.value, refused.value.errors(include_input=False), shown(refused.value))


def test_settings_refused_inside_a_larger_model_can_be_silent_too(case: Case) -> None:
    kind: Any = case.adapter.settings_type
    larger = create_model("Larger", __config__=ConfigDict(hide_input_in_errors=True), provider=(kind, ...))
    with pytest.raises(ValidationError) as refused:
        larger(provider={**case.settings, "surplus": case.secrets[0], "base_url": case.secrets[0]})
    assert_silent(case, refused.value)


def test_values_hide_what_they_carry(case: Case) -> None:
    adapter, settings = case.adapter, case.configure()
    request = adapter.build_request(case.message, settings, CONTEXT)
    assert_silent(case, adapter, case.message, CONTEXT, request)
    if adapter.needs_token:
        assert_silent(case, adapter.token_request(settings, CONTEXT))
        for response, expected in case.token_answers:
            assert_silent(case, response, adapter.parse_token(response), expected)
        assert any(isinstance(expected, Token) for _, expected in case.token_answers)


def test_answers_hide_what_the_vendor_repeats(case: Case) -> None:
    assert any(value.encode() in response.body for response, _ in case.answers for value in case.personal)
    for response, _ in case.answers:
        assert_silent(case, response, case.adapter.classify_response(response))
    for value in (*case.secrets, *case.personal):
        for status in (200, 400, 500):
            echo = HttpResponse(status, {"x-echo": value}, value.encode())
            assert_silent(case, echo, case.adapter.classify_response(echo))


def test_callbacks_hide_their_content(case: Case) -> None:
    for sample in case.samples:
        assert_silent(case, sample.callback, *case.adapter.parse_callback(sample.callback))


def test_a_refused_callback_tells_nothing(case: Case) -> None:
    settings = case.configure()
    for sample in case.samples:
        for changed in (
            with_headers(sample.callback, x_twilio_signature=case.secrets[0]),
            with_headers(
                sample.callback, content_type=f"application/x-www-form-urlencoded; charset={case.personal[0]}"
            ),
        ):
            with contextlib.suppress(Unauthenticated):
                case.adapter.verify_callback(changed, settings, NOW)
                continue
            with pytest.raises(Unauthenticated) as refused:
                case.adapter.verify_callback(changed, settings, NOW)
            assert_silent(case, refused.value, shown(refused.value))


def test_an_unbuildable_message_tells_nothing(case: Case) -> None:
    """A lone surrogate cannot be sent; the error must not quote the text around it."""
    message = type(case.message)(
        "0c5k3xr8v2m4t", case.message.channel, case.message.address, case.message.text + "\ud800", "zh-CN"
    )
    try:
        case.adapter.build_request(message, case.configure(), CONTEXT)
    except ValueError as error:
        assert_silent(case, str(error), shown(error))


def test_nothing_is_printed(case: Case, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    adapter, settings = case.adapter, case.configure()
    adapter.build_request(case.message, settings, CONTEXT)
    for body in (*UNREADABLE.values(), *(response.body for response, _ in case.answers)):
        adapter.classify_response(HttpResponse(400, {}, body))
    for sample in case.samples:
        adapter.parse_callback(sample.callback)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
