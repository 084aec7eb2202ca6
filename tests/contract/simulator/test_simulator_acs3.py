"""Aliyun's signature, clock and nonce: the published vector, and the edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from simulator_bench import Start
from simulator_clients import EMPTY, aliyun_call

from gateway.dev.simulator import acs3
from gateway.dev.simulator.wire import Incoming

# https://help.aliyun.com/document_detail/2593177.html, the worked example (RunInstances).
HEADERS = {
    "host": "ecs.cn-shanghai.aliyuncs.com",
    "x-acs-action": "RunInstances",
    "x-acs-version": "2014-05-26",
    "x-acs-date": "2023-10-26T10:22:32Z",
    "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
    "x-acs-content-sha256": EMPTY,
}
QUERY = "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai"
AUTHORIZATION = (
    "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;"
    "x-acs-signature-nonce;x-acs-version,"
    "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
)
SIGNED = datetime(2023, 10, 26, 10, 22, 32, tzinfo=UTC)


def published(now: datetime = SIGNED, authorization: str = AUTHORIZATION, query: str = QUERY) -> Incoming:
    headers = CIMultiDictProxy(CIMultiDict({**HEADERS, "authorization": authorization}))
    return Incoming("POST", "/", query, headers, b"", now)


def check(incoming: Incoming) -> str | None:
    return acs3.check(incoming, "YourAccessKeyId", "YourAccessKeySecret")


def test_the_published_request_is_authentic() -> None:
    assert check(published()) is None
    assert check(published(query="&".join(reversed(QUERY.split("&"))))) is None, "the order of a query means nothing"


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (SIGNED + timedelta(minutes=15), None),
        (SIGNED - timedelta(minutes=15), None),
        (SIGNED + timedelta(minutes=15, seconds=1), "InvalidTimeStamp.Expired"),
        (SIGNED - timedelta(minutes=15, seconds=1), "InvalidTimeStamp.Expired"),
    ],
)
def test_a_request_is_fresh_for_15_minutes(now: datetime, code: str | None) -> None:
    assert check(published(now)) == code


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", "IncompleteSignature"),
        (AUTHORIZATION.replace(",", ", "), "IncompleteSignature"),
        (AUTHORIZATION.replace("YourAccessKeyId", "Another"), "InvalidAccessKeyId.NotFound"),
        (AUTHORIZATION.replace("x-acs-date;", ""), "IncompleteSignature"),
        (AUTHORIZATION.replace("host;", ""), "IncompleteSignature"),
        (AUTHORIZATION.replace("host;", "host;accept;"), "IncompleteSignature"),
        (AUTHORIZATION + "\n", "IncompleteSignature"),
    ],
)
def test_a_malformed_authorization_is_refused(authorization: str, code: str) -> None:
    assert check(published(authorization=authorization)) == code


@pytest.mark.parametrize("query", ["a=%2b", "a=%zz", "a=%ff", "a=%", "&".join("a=1" for _ in range(101))])
def test_an_unclear_query_has_no_canonical_form(query: str) -> None:
    assert acs3.canonical_query(query) is None


def test_a_nonce_is_good_once_while_it_could_be_fresh() -> None:
    nonces = acs3.Nonces()
    assert nonces.fresh("n", SIGNED)
    assert not nonces.fresh("n", SIGNED + timedelta(minutes=30))
    assert nonces.fresh("n", SIGNED + timedelta(minutes=30, seconds=1))


async def test_clock_and_nonce_on_the_wire(start: Start) -> None:
    bench = await start()
    old = datetime.now(UTC) - timedelta(minutes=16)
    assert (await aliyun_call(bench, at=old))[1]["Code"] == "InvalidTimeStamp.Expired"
    assert (await aliyun_call(bench, nonce="n1"))[1]["Code"] == "OK"
    assert (await aliyun_call(bench, nonce="n1", number="13900009999"))[1]["Code"] == "SignatureNonceUsed"
    assert len(bench.lines("accepted")) == 1


async def test_a_digest_of_another_body(start: Start) -> None:
    bench = await start()
    assert (await aliyun_call(bench, digest=EMPTY.replace("e", "f")))[1]["Code"] == "SignatureDoesNotMatch"
