"""Callbacks: who may speak, what was said, and that saying it twice is noticed."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from providers.contract import (
    Callback,
    CallbackOutcome,
    Inbound,
    Invalid,
    KeyPress,
    ProviderEvent,
    Receipt,
    Unauthenticated,
)
from tests.contract.case import ADAPTERS, NOW, Case, load_case, with_headers
from tests.contract.strategies import HEADERS, JSON, encoded, mutated

WITH_CALLBACKS = sorted(name for name in ADAPTERS if load_case(name).samples)
SIGNED = sorted(name for name, adapter in ADAPTERS.items() if adapter.signs_callbacks)
UNSIGNED = sorted(set(WITH_CALLBACKS) - set(SIGNED))


def verify(case: Case, callback: Callback, **changes: object) -> str | None:
    return case.adapter.verify_callback(callback, case.configure(**changes), NOW)


def authentic(case: Case, callback: Callback, **changes: object) -> bool:
    try:
        verify(case, callback, **changes)
    except Unauthenticated:
        return False
    return True


def test_every_sample_says_what_it_says(case: Case) -> None:
    for sample in case.samples:
        assert verify(case, sample.callback)
        assert case.adapter.parse_callback(sample.callback) == list(sample.events), sample.callback.body


def test_an_adapter_with_receipts_shows_some(case: Case) -> None:
    shown = any(isinstance(event, Receipt) for sample in case.samples for event in sample.events)
    assert shown == case.adapter.receipts
    assert (case.signing is not None) == case.adapter.signs_callbacks


def test_a_replay_has_the_same_key_and_nothing_else_has(case: Case) -> None:
    keys = [verify(case, sample.callback) for sample in case.samples]
    assert keys == [verify(case, sample.callback) for sample in case.samples]
    assert len(set(keys)) == len({(sample.callback.url, sample.callback.body) for sample in case.samples})
    assert all(key is not None and key.isascii() and len(key) <= 64 for key in keys)


def test_without_callbacks_nobody_is_let_in(case: Case) -> None:
    if case.samples:
        return
    callback = Callback("https://gw.example.com/callbacks/p/t", {}, b"{}")
    with pytest.raises(Unauthenticated):
        verify(case, callback)
    assert case.adapter.parse_callback(callback) == [Invalid("no_callbacks")]


def test_the_reply_is_in_the_vendors_words(case: Case) -> None:
    for outcome in CallbackOutcome:
        reply = case.adapter.reply(outcome, case.configure())
        assert (reply.status, reply.body) == case.replies[outcome]
        assert reply.status < 300 if outcome is CallbackOutcome.STORED else reply.status >= 500


@pytest.mark.parametrize("name", SIGNED)
class TestSigned:
    """Callbacks whose content is signed."""

    def test_every_secret_of_a_rotation_is_good(self, name: str) -> None:
        case = load_case(name)
        assert case.signing is not None
        for changes, secret in case.signing.accepted:
            for sample in case.samples:
                callback = case.signing.sign(sample.callback, secret)
                assert authentic(case, callback, **changes)
                assert verify(case, callback, **changes) == verify(case, sample.callback), "one content, one key"

    def test_a_wrong_secret_is_not(self, name: str) -> None:
        case = load_case(name)
        assert case.signing is not None
        good = {secret for _, secret in case.signing.accepted}
        for secret in ("", "guess", *(f"{secret}x" for secret in good), *(secret[:-1] for secret in good)):
            assert not authentic(case, case.signing.sign(case.samples[0].callback, secret))

    def test_a_retired_secret_is_not(self, name: str) -> None:
        case = load_case(name)
        assert case.signing is not None
        for field, value in case.settings.items():
            if isinstance(value, list) and len(value) == 2:
                old = case.signing.sign(case.samples[0].callback, value[1])
                assert authentic(case, old)
                assert not authentic(case, old, **{field: value[:1]})

    def test_unsigned_is_refused(self, name: str) -> None:
        case = load_case(name)
        signature = next(key for key in case.samples[0].callback.headers if key.endswith("signature"))
        for value in (None, "", "=", "\ud800", "A" * 28, "é" * 28):
            bare = with_headers(case.samples[0].callback, **{signature.replace("-", "_"): value})
            assert not authentic(case, bare)

    @pytest.mark.parametrize("part", ["body", "url"])
    def test_any_changed_byte_is_noticed(self, name: str, part: str) -> None:
        """Either it is refused, or it was the same content in other bytes and has the same key and meaning."""
        case = load_case(name)
        for sample in (case.samples[0], case.samples[-3]):
            whole: bytes = sample.callback.body if part == "body" else sample.callback.url.encode()
            for at in range(len(whole)):
                for bit in (1, 2, 32):
                    changed = whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
                    if part == "body":
                        callback = replace(sample.callback, body=changed)
                    else:
                        callback = replace(sample.callback, url=changed.decode())
                    if authentic(case, callback):
                        assert part == "body"
                        assert verify(case, callback) == verify(case, sample.callback)
                        assert case.adapter.parse_callback(callback) == list(sample.events)

    def test_a_cut_or_swapped_body_is_noticed(self, name: str) -> None:
        case = load_case(name)
        first, second = case.samples[0].callback, case.samples[1].callback
        assert not authentic(case, replace(first, body=second.body))
        assert not authentic(case, replace(first, body=b""))
        assert not authentic(case, replace(first, body=first.body + b"&To=%2B8613900009999"))
        assert not authentic(case, with_headers(first, content_type="application/json"))
        assert not authentic(case, with_headers(first, content_type="text/plain"))

    def test_a_foreign_charset_is_refused(self, name: str) -> None:
        case = load_case(name)
        first = case.samples[0].callback
        kind = first.headers["content-type"].partition(";")[0]
        for charset in ("iso-8859-1", "utf-16", "", "utf-8-sig", "gbk"):
            assert not authentic(case, with_headers(first, content_type=f"{kind}; charset={charset}"))
        for same in (kind, kind.upper(), f"{kind};charset=UTF-8", f'{kind}; charset="utf-8"'):
            assert authentic(case, with_headers(first, content_type=same))
        for body in (b"A=\xff", b"A=%FF", b"A=%C3", b"%ED%A0%80=1"):
            assert not authentic(case, replace(first, body=body))
            assert case.adapter.parse_callback(replace(first, body=body)) == [Invalid("body_unreadable")]


@pytest.mark.parametrize("name", UNSIGNED)
def test_unsigned_callbacks_are_told_apart_by_their_bytes(name: str) -> None:
    case = load_case(name)
    callback = case.samples[0].callback
    key = verify(case, callback)
    assert verify(case, replace(callback, headers={"x-other": "1"}, url="https://other.example.com/")) == key
    assert verify(case, replace(callback, body=callback.body + b" ")) != key


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_callbacks_never_raise_anything_else(name: str) -> None:
    case = load_case(name)
    configured = case.configure()
    real = [sample.callback.body for sample in case.samples] or [b"{}"]
    bodies = st.binary(max_size=200) | JSON.map(encoded) | st.sampled_from(real).flatmap(mutated)
    urls = st.sampled_from(
        ["https://gw.example.com/callbacks/p/t?bodySHA256=0", "https://[/", "", "x://\ud800"]
    ) | st.text(max_size=60)

    @settings(max_examples=300, deadline=None)
    @given(url=urls, headers=HEADERS, body=bodies, attempt=st.none() | st.just("0c5k3xr8v2m4t"))
    def run(url: str, headers: dict[str, str], body: bytes, attempt: str | None) -> None:
        callback = Callback(url, headers, body, attempt)
        events = case.adapter.parse_callback(callback)
        assert all(isinstance(event, get_args(ProviderEvent)) for event in events)
        for event in events:
            check(event, callback)
        try:
            key = case.adapter.verify_callback(callback, configured, NOW)
        except Unauthenticated as refused:
            assert str(refused).isidentifier()
        else:
            assert not case.adapter.signs_callbacks
            assert key

    run()


def check(event: ProviderEvent, callback: Callback) -> None:
    """Nothing in an event can break the SQL, JSON or metrics it travels through."""
    for name in ("code", "ref", "attempt", "digits"):
        value = getattr(event, name, None)
        if value is not None and value is not callback.attempt:
            assert value.isascii()
            assert value.isprintable()
            assert len(value) <= 200
    if isinstance(event, Receipt) and event.address is not None:
        assert re.fullmatch(r"\+[1-9][0-9]{6,14}", event.address)
    if isinstance(event, Receipt | KeyPress | Inbound):
        assert event.occurred_at is None or event.occurred_at.utcoffset() is not None
        assert event.ref is not None or getattr(event, "attempt", None) is not None
