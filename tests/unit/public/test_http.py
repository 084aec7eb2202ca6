"""The public listener: limits, tokens, signatures, storing, answers, on a real server and without a ledger."""

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from gateway.content.dialogue import Said, Step
from gateway.observability import logs
from gateway.observability.metrics import CallbackResult
from gateway.public import http
from providers.contract import (
    Engaged,
    Invalid,
    KeyPress,
    Prompt,
    Receipt,
)
from schemas.vocabulary import AttemptState, Engagement
from tests.unit.public.case import APP, ATTEMPT, NOW, OLD, PUBLIC, REFERENCE, TOKEN, Bench, Vendor, raw


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.setup(stream=stream)
    return stream


# --- callbacks --------------------------------------------------------------------------------------------------------


async def test_a_good_callback_is_kept_and_answered_in_the_vendors_words(bench: Bench) -> None:
    async with bench.client.post(
        f"/callbacks/vendor/{TOKEN}/{REFERENCE}", data=b"a=1", headers={"X-Signature": "good"}
    ) as response:
        assert (response.status, await response.read()) == (200, b"<Response/>")
        assert response.headers["content-type"] == "text/xml"
    ((provider, raw, key, events),) = bench.kept
    assert (provider, raw, key) == ("vendor", b"a=1", "replay-1")
    assert [type(each) for each in events] == [Receipt, Invalid]
    assert bench.counted == [("vendor", CallbackResult.STORED)]


async def test_a_replay_is_answered_like_the_first(bench: Bench) -> None:
    bench.first = False
    assert await bench.post() == (200, b"<Response/>")
    assert bench.counted == [("vendor", CallbackResult.REPLAYED)]


async def test_when_it_cannot_be_stored_the_vendor_is_asked_to_send_it_again(bench: Bench) -> None:
    bench.fails = OSError("no ledger")
    assert (await bench.post())[0] == 503
    assert bench.counted == [("vendor", CallbackResult.FAILED)]


@pytest.mark.parametrize("token", [TOKEN, OLD])
async def test_both_tokens_open_the_path_while_one_replaces_the_other(bench: Bench, token: str) -> None:
    assert (await bench.post(f"/callbacks/vendor/{token}"))[0] == 200
    assert bench.vendor.seen[0].attempt is None


@pytest.mark.parametrize(
    "path",
    [
        f"/callbacks/nobody/{TOKEN}",
        "/callbacks/vendor/wrong",
        f"/callbacks/vendor/{TOKEN[:-1]}",
        f"/callbacks/vendor/{TOKEN}x/{REFERENCE}",
        f"/callbacks/vendor/{TOKEN.upper()}",
        "/callbacks/vendor/%ED%B3%BF",
        "/callbacks/vendor/%E4%BD%A0",
        "/callbacks/vendor",
        "/callbacks/vendor//",
        f"/callbacks/vendor/{TOKEN}/{REFERENCE}/more",
    ],
)
async def test_what_nobody_gave_out_is_not_found(bench: Bench, path: str) -> None:
    assert await bench.post(path) in ((404, b""), (404, b"404: Not Found"))
    assert bench.vendor.seen == []
    assert bench.kept == []


async def test_every_token_is_compared_whichever_fits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time an answer takes must not tell which token was near."""
    compared: list[str] = []

    def spy(one: str, other: str) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(http, "same", spy)
    for token in (TOKEN, OLD, "wrong"):
        compared.clear()
        await bench.post(f"/callbacks/vendor/{token}")
        assert compared == [TOKEN, OLD]


async def test_an_unsigned_callback_is_refused_before_it_is_read(bench: Bench) -> None:
    assert (await bench.post(x_signature="forged"))[0] == 401
    assert bench.kept == []
    assert bench.counted == [("vendor", CallbackResult.UNAUTHENTICATED)]


async def test_the_adapter_sees_the_public_url_and_the_bytes_as_they_came(bench: Bench) -> None:
    tail = f"/callbacks/vendor/{TOKEN}/{REFERENCE}?b=%2f%2F&a=~%7E+%20"
    async with ClientSession(requote_redirect_url=False) as session:
        url = URL(f"http://127.0.0.1:{bench.client.port}{tail}", encoded=True)
        headers = {"X-Signature": "good", "Host": "evil.example", "X-Forwarded-Host": "evil.example"}
        async with session.post(url, data=b"\x00\xff raw", headers=headers) as response:
            assert response.status == 200
    (seen,) = bench.vendor.seen
    assert seen.url == PUBLIC + tail
    assert (seen.body, seen.attempt, seen.method) == (b"\x00\xff raw", REFERENCE, "POST")
    assert seen.headers["x-signature"] == "good"
    assert all(name == name.lower() for name in seen.headers)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_only_post_is_answered(bench: Bench, method: str) -> None:
    async with bench.client.request(method, f"/callbacks/vendor/{TOKEN}") as response:
        assert response.status == 405
    assert bench.vendor.seen == []


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_a_body_at_the_limit_is_read_and_one_above_is_not(bench: Bench) -> None:
    assert (await bench.post(body=b"x" * 1000))[0] == 200
    assert (await bench.post(body=b"x" * 1001))[0] == 413
    assert len(bench.vendor.seen) == 1
    assert bench.counted[-1] == ("vendor", CallbackResult.TOO_LARGE)


async def test_a_body_that_grows_past_the_limit_is_not_read_on(bench: Bench) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    assert (await bench.post(body=chunks()))[0] == 413


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-own", bytes)])
async def test_a_compressed_body_is_refused(bench: Bench, coding: str, pack: Callable[[bytes], bytes]) -> None:
    body = pack(b"a" * 5000)
    assert (await raw(bench, f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n", body))[0] == 415
    assert bench.vendor.seen == []


async def test_a_body_coded_on_its_way_is_refused(bench: Bench) -> None:
    assert (await raw(bench, "Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"))[0] == 415
    assert bench.vendor.seen == []


async def test_a_body_that_does_not_come_is_not_waited_for(bench: Bench) -> None:
    assert (await raw(bench, "Content-Length: 10\r\n", b"abc"))[0] == 408
    assert bench.counted == [("vendor", CallbackResult.MALFORMED)]


@pytest.mark.parametrize(("pause", "refusal"), [(0.0, 400), (0.05, 408)])
async def test_a_body_that_is_broken_is_the_callers_fault(bench: Bench, pause: float, refusal: int) -> None:
    """When the head is being handled already, aiohttp only stops reading: the read timeout then ends it."""
    status, _ = await raw(bench, "Transfer-Encoding: chunked\r\n", b"zz\r\nabc\r\n0\r\n\r\n", pause)
    assert status == refusal
    assert bench.vendor.seen == []


# --- events of the lender's app ---------------------------------------------------------------------------------------


def event(**changes: Any) -> bytes:
    return json.dumps({"attempt": REFERENCE, "kind": "opened", "at": "2026-03-02T09:00:00Z"} | changes).encode()


async def push(bench: Bench, body: bytes | None = None, authorization: str = f"Bearer {APP}") -> int:
    status, _ = await bench.post("/events/push", event() if body is None else body, authorization=authorization)
    return status


async def test_an_opened_push_was_delivered(bench: Bench) -> None:
    assert await push(bench) == 204
    ((provider, _, key, events),) = bench.kept
    assert (provider, key) == ("push-1", f"{REFERENCE}:opened")
    assert [type(each) for each in events] == [Receipt, Engaged]
    first, second = events
    assert isinstance(first, Receipt)
    assert isinstance(second, Engaged)
    assert (first.state, first.attempt, first.occurred_at) == (AttemptState.DELIVERED, REFERENCE, NOW)
    assert second.kind is Engagement.OPENED
    assert bench.asked == [ATTEMPT]


async def test_a_delivered_push_is_a_receipt_only(bench: Bench) -> None:
    assert await push(bench, event(kind="delivered")) == 204
    assert [type(each) for each in bench.kept[0][3]] == [Receipt]


async def test_a_repeated_event_is_answered_like_the_first(bench: Bench) -> None:
    bench.first = False
    assert await push(bench) == 204


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {APP}", f"Bearer {APP}x", "Bearer \u4f60"])
async def test_without_the_apps_token_nothing_is_read(bench: Bench, given: str) -> None:
    assert await push(bench, authorization=given) == 401
    assert bench.kept == []
    assert bench.counted == [("other", CallbackResult.UNAUTHENTICATED)]


async def test_a_header_that_is_no_text_is_refused_and_no_error_of_ours(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
    writer.write(
        b"POST /events/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n"
    )
    assert (await reader.readline()).split(b" ")[1] == b"401"
    writer.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        event(kind="clicked"),
        event(attempt="short"),
        event(attempt="!" * 13),
        event(attempt="zzzzzzzzzzzzz"),
        event(at="2026-03-02T09:00:00"),
        event(at="yesterday"),
        event(at="0001-01-01T00:00:00+14:00"),
        event(at="9999-12-31T23:59:59-12:00"),
        event(extra=1),
    ],
)
async def test_an_event_that_cannot_be_read_is_the_callers_fault(bench: Bench, body: bytes) -> None:
    assert await push(bench, body) == 400
    assert bench.kept == []
    assert bench.counted == [("other", CallbackResult.MALFORMED)]


async def test_an_event_about_no_push_of_ours_is_not_found(bench: Bench) -> None:
    bench.provider = None
    assert await push(bench) == 404
    assert bench.counted == [("other", CallbackResult.UNMATCHED)]


async def test_an_event_that_cannot_be_stored_is_to_come_again(bench: Bench) -> None:
    bench.fails = OSError("no ledger")
    assert await push(bench) == 503
    assert bench.counted == [("other", CallbackResult.FAILED)]


async def test_an_event_that_is_too_large_is_refused(bench: Bench) -> None:
    assert await push(bench, b"x" * 2000) == 413
    assert bench.counted == [("other", CallbackResult.TOO_LARGE)]


# --- nothing leaks ----------------------------------------------------------------------------------------------------


async def test_nothing_secret_or_personal_is_logged(bench: Bench, log: io.StringIO) -> None:
    body = b"From=%2B14155550123&Body=canary-text"
    await bench.post(body=body)
    await bench.post(body=body, x_signature="canary-signature")
    await bench.post("/callbacks/vendor/canary-guess", body=body)
    await push(bench, authorization="Bearer canary-guess")
    bench.fails = OSError(f"canary {TOKEN} +14155550123")
    await bench.post(body=body)
    await push(bench)
    written = log.getvalue()
    assert "callback_refused" in written
    assert "callback_not_stored" in written
    assert "canary" not in written
    assert "4155550123" not in written
    assert "canary" not in repr(bench.api._routes["vendor"])


# --- calls that ask -------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Vendor, "interactive", True)
    bench.vendor.keys = [KeyPress("1", REFERENCE, "CA1", None, "identity")]
    bench.said = Said("the debt", "en", "129", Step.MENU)
    return bench


async def test_a_key_is_stored_and_then_answered_with_what_comes_next(calls: Bench) -> None:
    assert await calls.post(f"/callbacks/vendor/{TOKEN}/{REFERENCE}?step=identity") == (200, b"<Response/>")
    assert calls.pressed == [("vendor", ATTEMPT, "identity", "1")]
    (prompt,) = calls.vendor.prompts
    assert prompt is not None
    assert (prompt.text, prompt.locale, prompt.keys) == ("the debt", "en", "129")
    # The next key comes back to the same path, as the vendor knows it, under another step.
    assert prompt.url == f"{PUBLIC}/callbacks/vendor/{TOKEN}/{REFERENCE}?step=menu"


async def test_a_repeated_key_is_answered_like_the_first(calls: Bench) -> None:
    calls.first = False
    await calls.post()
    assert calls.vendor.prompts[0] is not None


async def test_a_goodbye_names_no_url(calls: Bench) -> None:
    calls.said = Said("goodbye", "en")
    await calls.post()
    assert calls.vendor.prompts == [Prompt("goodbye", "en")]


async def test_a_key_that_is_not_stored_is_not_answered(calls: Bench) -> None:
    calls.fails = RuntimeError("no ledger")
    assert (await calls.post())[0] == 503
    assert (calls.pressed, calls.vendor.prompts) == ([], [None])


@pytest.mark.parametrize("said", [None, RuntimeError("no ledger")])
async def test_a_call_that_has_nothing_to_say_ends(calls: Bench, said: Exception | None) -> None:
    calls.said = said
    assert (await calls.post())[0] == 200
    assert calls.vendor.prompts == [None]


async def test_nobody_is_answered_where_the_adapter_asks_nothing(bench: Bench) -> None:
    bench.vendor.keys = [KeyPress("1", REFERENCE, "CA1", None, "identity")]
    await bench.post()
    assert (bench.pressed, bench.vendor.prompts) == ([], [None])


@pytest.mark.parametrize("attempt", [None, "no-reference!"])
async def test_a_key_of_no_attempt_of_ours_ends_the_call(calls: Bench, attempt: str | None) -> None:
    calls.vendor.keys = [KeyPress("1", attempt, "CA1", None, "identity")]
    await calls.post()
    assert (calls.pressed, calls.vendor.prompts) == ([], [None])
