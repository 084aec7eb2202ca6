"""Alibaba Cloud's own signers and client as judges."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from alibabacloud_dyvmsapi20170525 import models as dyvms
from alibabacloud_dyvmsapi20170525.client import Client as DyvmsClient
from alibabacloud_openapi_util.client import Client as OldSigner
from alibabacloud_tea_openapi.models import Config
from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest
from darabonba.runtime import RuntimeOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.auth import acs3
from providers.auth.aliyun import called_number
from providers.contract import Accepted, HttpRequest, Message, ProviderTemplate
from schemas.vocabulary import Channel
from tests.contract.case import CONTEXT, REFERENCE, load_case
from tests.contract.conftest import Loopback

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
# Names as the API has them: the signers do not encode names, the documentation does.
NAMES = st.text("AZabz019_.-~", min_size=1, max_size=12)
PARAMS = st.dictionaries(NAMES, TEXT, min_size=1, max_size=6)
VALUES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=30)
HEADERS = st.dictionaries(st.text("abcdefz0-", min_size=1, max_size=8).map("x-acs-{}".format), VALUES, max_size=4)
KEYS = "LTAI0123456789", "a-secret"


def official(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], keys: tuple[str, str]
) -> list[str]:
    """The Authorization header by both of the vendor's signers."""
    request = DaraRequest()
    request.method, request.pathname, request.query, request.headers = method, path, query, dict(headers)
    signed = (request, acs3.ALGORITHM, headers["x-acs-content-sha256"], *keys)
    return [Utils.get_authorization(*signed), OldSigner.get_authorization(*signed)]


@settings(max_examples=300, deadline=None)
@given(params=PARAMS, headers=HEADERS, method=st.sampled_from(["POST", "GET"]))
def test_we_sign_as_both_official_signers(params: dict[str, str], headers: dict[str, str], method: str) -> None:
    signed = {"host": "127.0.0.1:8081", "x-acs-content-sha256": acs3.EMPTY_BODY, **headers}
    ours = acs3.authorization(method, "/", acs3.canonical_query(params), signed, *KEYS)
    assert official(method, "/", params, signed, KEYS) == [ours, ours]


@settings(max_examples=200, deadline=None)
@given(params=PARAMS)
def test_the_query_says_what_it_was_given(params: dict[str, str]) -> None:
    query = acs3.canonical_query(params)
    assert query.isascii()
    assert dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")) == params


def signed_parts(request: HttpRequest) -> tuple[dict[str, str], dict[str, str]]:
    """The query's parameters, and the headers named as signed."""
    authorization = request.headers["authorization"]
    names = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    query = dict(parse_qsl(urlsplit(request.url).query, keep_blank_values=True, strict_parsing=True))
    return query, {name: request.headers[name] for name in names}


@pytest.mark.parametrize("sts", [False, True])
def test_our_request_is_signed_as_the_official_signers_would(sts: bool) -> None:
    case = load_case("aliyun_voice")
    changes: dict[str, Any] = {"play_times": 2, "speed": -100, "volume": 0, "called_show_number": "02160000000"}
    configured = case.configure(**changes, **({"security_token": case.secrets[1]} if sts else {}))
    request = case.adapter.build_request(case.message, configured, CONTEXT)
    query, signed = signed_parts(request)
    assert {name: query[name] for name in ("PlayTimes", "Speed", "Volume", "CalledShowNumber")} == {
        "PlayTimes": "2", "Speed": "-100", "Volume": "0", "CalledShowNumber": "02160000000",
    }  # fmt: skip
    assert signed.keys() == request.headers.keys() - {"authorization"}, "everything we send is signed"
    keys = case.settings["access_key_id"], case.settings["access_key_secret"]
    assert set(official("POST", "/", query, signed, keys)) == {request.headers["authorization"]}


@pytest.mark.parametrize("sts", [False, True])
def test_our_request_is_the_official_clients(loopback: Loopback, sts: bool) -> None:
    case = load_case("aliyun_voice")
    keys = {"access_key_id": case.settings["access_key_id"], "access_key_secret": case.settings["access_key_secret"]}
    token = {"security_token": case.secrets[1]} if sts else {}
    loopback.answer = (200, case.answers[0][0].body)
    template = case.message.template
    assert template is not None
    client = DyvmsClient(Config(**keys, **token, endpoint=loopback.host, protocol="HTTP"))
    answer = client.single_call_by_tts_with_options(
        dyvms.SingleCallByTtsRequest(
            called_number="13900001234",
            tts_code=template.code,
            tts_param=json.dumps(dict(template.params), ensure_ascii=False, separators=(",", ":")),
            out_id=REFERENCE,
        ),
        RuntimeOptions(autoretry=False),
    )
    (theirs,) = loopback.caught
    ours = case.adapter.build_request(case.message, case.configure(base_url=loopback.base, **token), CONTEXT)
    target = urlsplit(theirs.target)
    assert (ours.method, ours.body, urlsplit(ours.url).path) == (theirs.method, theirs.body, target.path)
    assert dict(parse_qsl(urlsplit(ours.url).query)) == dict(parse_qsl(target.query))
    varying = {"x-acs-date", "x-acs-signature-nonce", "authorization"}
    vendor_headers = {
        name: value for name, value in theirs.headers.items() if name.startswith(("x-acs-", "host", "auth"))
    }
    assert ours.headers.keys() == vendor_headers.keys() - {"x-acs-credentials-provider"}
    assert {n: v for n, v in ours.headers.items() if n not in varying} == {
        n: v for n, v in vendor_headers.items() if n not in varying | {"x-acs-credentials-provider"}
    }
    assert case.answers[0][1] == Accepted(answer.body.call_id), "both read the same id from the answer"
    # And the other way round: our signing, given what their client sent, comes to their signature.
    names = theirs.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    signed = {name: theirs.headers[name] for name in names}
    query = acs3.canonical_query(dict(parse_qsl(target.query, keep_blank_values=True)))
    assert acs3.authorization("POST", "/", query, signed, *keys.values()) == theirs.headers["authorization"]


@pytest.mark.parametrize(
    ("address", "called"),
    [
        ("+8613900001234", "13900001234"),
        ("+8619912345678", "19912345678"),
        ("+8657112345678", "057112345678"),
        ("+861088888888", "01088888888"),
        ("+862160000000", "02160000000"),
        ("+85291234567", "85291234567"),
        ("+14155550100", "14155550100"),
    ],
)
def test_numbers_as_the_vendor_wants_them(address: str, called: str) -> None:
    assert called_number(address) == called


@settings(max_examples=100, deadline=None)
@given(params=st.dictionaries(TEXT, TEXT, min_size=1, max_size=4))
def test_any_parameters_survive(params: dict[str, str]) -> None:
    case = load_case("aliyun_voice")
    message = Message(REFERENCE, Channel.VOICE, "+14155550100", "", "en", template=ProviderTemplate("T", None, params))
    query, _ = signed_parts(case.adapter.build_request(message, case.configure(), CONTEXT))
    assert json.loads(query["TtsParam"]) == params
    assert len(query["OutId"].encode()) <= 15
