"""The exact request, by value and on the wire."""

from __future__ import annotations

import contextlib
from urllib.parse import urlsplit

import aiohttp
import pytest
from msgspec.structs import replace
from yarl import URL

from tests.contract.case import CONTEXT, Case
from tests.contract.conftest import Loopback


def test_the_request_is_exact(case: Case) -> None:
    request = case.adapter.build_request(case.message, case.configure(), CONTEXT)
    assert request == case.request
    assert request.method == "POST", "idempotent methods are silently sent again by HTTP clients"


def test_the_same_input_makes_the_same_request(case: Case) -> None:
    first, second = (case.adapter.build_request(case.message, case.configure(), CONTEXT) for _ in range(2))
    assert first == second


def test_headers_are_lower_case_ascii_without_line_breaks(case: Case) -> None:
    for name, value in case.adapter.build_request(case.message, case.configure(), CONTEXT).headers.items():
        assert name == name.lower()
        assert value.isascii()
        assert value.isprintable()


def test_one_request_cannot_change_the_next(case: Case) -> None:
    settings = case.configure()
    headers = case.adapter.build_request(case.message, settings, CONTEXT).headers
    with contextlib.suppress(TypeError):  # read-only is fine too
        headers["authorization"] = "changed"  # type: ignore[index]
    assert case.adapter.build_request(case.message, settings, CONTEXT) == case.request


def test_the_base_url_is_a_setting(case: Case) -> None:
    settings = case.configure(base_url="http://127.0.0.1:8081/")
    url = urlsplit(case.adapter.build_request(case.message, settings, CONTEXT).url)
    assert (url.scheme, url.netloc) == ("http", "127.0.0.1:8081")
    assert url.path == urlsplit(case.request.url).path


def test_what_is_declared_as_needed_is_needed(case: Case) -> None:
    adapter, settings = case.adapter, case.configure()
    without_template, without_token = replace(case.message, template=None), replace(CONTEXT, access_token=None)
    if adapter.needs_template:
        with pytest.raises(ValueError, match="template"):
            adapter.build_request(without_template, settings, CONTEXT)
    else:
        adapter.build_request(without_template, settings, CONTEXT)
    if case.message.template is not None:
        for sign in (None, ""):
            unsigned = replace(case.message, template=replace(case.message.template, sign=sign))
            with pytest.raises(ValueError, match="signature") if adapter.needs_sign else contextlib.nullcontext():
                adapter.build_request(unsigned, settings, CONTEXT)
    if adapter.needs_token:
        with pytest.raises(ValueError, match="token"):
            adapter.build_request(case.message, settings, without_token)
    else:
        assert adapter.build_request(case.message, settings, without_token) == case.request


def test_a_message_may_be_bare(case: Case) -> None:
    bare = replace(case.message, title=None, ttl_seconds=None, collapse_key=None)
    request = case.adapter.build_request(bare, case.configure(), replace(CONTEXT, callback_url=None))
    assert b"None" not in request.body
    assert "None" not in request.url


async def test_these_bytes_arrive(case: Case, loopback: Loopback) -> None:
    settings = case.configure(base_url=loopback.base)
    request = case.adapter.build_request(case.message, settings, CONTEXT)
    url = URL(request.url, encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=request.body, headers=request.headers) as response,
    ):
        assert response.status == 200
    (caught,) = loopback.caught
    assert loopback.base + caught.target == request.url
    assert caught.body == request.body
    assert {name: caught.headers[name] for name in request.headers} == dict(request.headers)


def test_the_token_request(case: Case) -> None:
    if not case.adapter.needs_token:
        with pytest.raises(NotImplementedError):
            case.adapter.token_request(case.configure(), CONTEXT)
        return
    assert case.check_token_request is not None, "an adapter that needs a token shows its token request"
    case.check_token_request(case.adapter.token_request(case.configure(), CONTEXT))
    moved = case.adapter.token_request(case.configure(token_url="http://127.0.0.1:8081/token"), CONTEXT)
    assert moved.url == "http://127.0.0.1:8081/token"
