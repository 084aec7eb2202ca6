"""Alibaba Cloud's own signers and clients as judges."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from alibabacloud_dysmsapi20170525 import models as dysms
from alibabacloud_dysmsapi20170525.client import Client as DysmsClient
from alibabacloud_dyvmsapi20170525 import models as dyvms
from alibabacloud_dyvmsapi20170525.client import Client as DyvmsClient
from alibabacloud_openapi_util.client import Client as OldSigner
from alibabacloud_tea_openapi.exceptions import ThrottlingException
from alibabacloud_tea_openapi.models import Config
from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest
from darabonba.runtime import RuntimeOptions
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from providers.auth import acs3
from providers.auth.aliyun import e164, phone_number
from providers.contract import Accepted, HttpRequest, HttpResponse, Message, ProviderTemplate, Refused
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
@pytest.mark.parametrize("name", ["aliyun_voice", "aliyun_sms"])
def test_our_request_is_signed_as_the_official_signers_would(name: str, sts: bool) -> None:
    case = load_case(name)
    optional: dict[str, dict[str, Any]] = {
        "aliyun_voice": {"play_times": 2, "speed": -100, "volume": 0, "called_show_number": "02160000000"},
        "aliyun_sms": {},
    }
    shown = {"PlayTimes": "2", "Speed": "-100", "Volume": "0", "CalledShowNumber": "02160000000"}
    configured = case.configure(**optional[name], **({"security_token": case.secrets[1]} if sts else {}))
    request = case.adapter.build_request(case.message, configured, CONTEXT)
    query, signed = signed_parts(request)
    assert {name: value for name, value in query.items() if name in shown} == (shown if optional[name] else {})
    assert signed.keys() == request.headers.keys() - {"authorization"}, "everything we send is signed"
    keys = case.settings["access_key_id"], case.settings["access_key_secret"]
    assert set(official("POST", "/", query, signed, keys)) == {request.headers["authorization"]}


def official_call(config: Config, template: ProviderTemplate, param: str) -> str:
    """Has the official client make the voice case's call; the message's id."""
    request = dyvms.SingleCallByTtsRequest(
        called_number="13900001234", tts_code=template.code, tts_param=param, out_id=REFERENCE
    )
    runtime = RuntimeOptions(autoretry=False)
    return str(DyvmsClient(config).single_call_by_tts_with_options(request, runtime).body.call_id)


def official_text(config: Config, template: ProviderTemplate, param: str) -> str:
    """Has the official client send the SMS case's message; the message's id."""
    request = dysms.SendSmsRequest(
        phone_numbers="13900001234",
        sign_name=template.sign,
        template_code=template.code,
        template_param=param,
        out_id=REFERENCE,
    )
    return str(DysmsClient(config).send_sms_with_options(request, RuntimeOptions(autoretry=False)).body.biz_id)


@pytest.mark.parametrize("sts", [False, True])
@pytest.mark.parametrize(("name", "send"), [("aliyun_voice", official_call), ("aliyun_sms", official_text)])
def test_our_request_is_the_official_clients(
    loopback: Loopback, name: str, send: Callable[[Config, ProviderTemplate, str], str], sts: bool
) -> None:
    case = load_case(name)
    keys = {"access_key_id": case.settings["access_key_id"], "access_key_secret": case.settings["access_key_secret"]}
    token = {"security_token": case.secrets[1]} if sts else {}
    loopback.answer = (200, case.answers[0][0].body)
    template = case.message.template
    assert template is not None
    param = json.dumps(dict(template.params), ensure_ascii=False, separators=(",", ":"))
    ref = send(Config(**keys, **token, endpoint=loopback.host, protocol="HTTP"), template, param)
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
    assert case.answers[0][1] == Accepted(ref), "both read the same id from the answer"
    # And the other way round: our signing, given what their client sent, comes to their signature.
    names = theirs.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    signed = {name: theirs.headers[name] for name in names}
    query = acs3.canonical_query(dict(parse_qsl(target.query, keep_blank_values=True)))
    assert acs3.authorization("POST", "/", query, signed, *keys.values()) == theirs.headers["authorization"]


def test_a_throttled_client_waits_as_long_as_we_do(loopback: Loopback) -> None:
    """`x-acs-retry-after` is in milliseconds, says the client; so do we."""
    case = load_case("aliyun_sms")
    loopback.answer = (400, b'{"Code":"Throttling.User","Message":"","RequestId":"1"}')
    loopback.headers = {"x-acs-retry-after": "1500"}
    config = Config(access_key_id=KEYS[0], access_key_secret=KEYS[1], endpoint=loopback.host, protocol="HTTP")
    with pytest.raises(ThrottlingException) as throttled:
        official_text(config, ProviderTemplate("T", "S"), "{}")
    outcome = case.adapter.classify_response(HttpResponse(400, loopback.headers, loopback.answer[1]))
    assert isinstance(outcome, Refused)
    assert (throttled.value.retry_after, outcome.retry_after) == (1500, 1.5)


@pytest.mark.parametrize(
    ("address", "number"),
    [
        ("+8613900001234", "13900001234"),
        ("+85291234567", "85291234567"),
        ("+6591234567", "6591234567"),
        ("+12125550100", "12125550100"),
        ("+8619912345678", "19912345678"),
        ("+8657112345678", "057112345678"),  # landlines, which SMS refuses
        ("+861088888888", "01088888888"),
        ("+862160000000", "02160000000"),
    ],
)
def test_numbers_as_the_vendor_wants_them(address: str, number: str) -> None:
    assert phone_number(address) == number
    assert e164(number) in (address, None), "what comes back in a receipt is the number it was sent to"


@pytest.mark.parametrize("address", ["+13105550100", "+14155550100", "+19995550100"])
def test_a_number_that_could_be_a_strangers_is_neither_written_to_nor_called(address: str) -> None:
    """Without its plus it has the 11 digits of a mobile number in China."""
    with pytest.raises(ValueError, match="for another") as refused:
        phone_number(address)
    assert address[1:] not in str(refused.value)


E164 = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)


@settings(max_examples=500, deadline=None)
@given(address=E164 | st.from_regex(r"\+861[3-9][0-9]{9}|\+1[2-9][0-9]{9}", fullmatch=True))
def test_no_number_turns_into_another(address: str) -> None:
    try:
        number = phone_number(address)
    except ValueError:
        assert address.startswith(("+1", "+860")), "no real number begins with +860"
    else:
        assert e164(number) in (address, None)


@settings(max_examples=100, deadline=None)
@given(params=st.dictionaries(TEXT, TEXT, min_size=1, max_size=4), sign=TEXT)
def test_any_parameters_survive(params: dict[str, str], sign: str) -> None:
    for name, channel, param in (
        ("aliyun_voice", Channel.VOICE, "TtsParam"),
        ("aliyun_sms", Channel.SMS, "TemplateParam"),
    ):
        case, template = load_case(name), ProviderTemplate("T", sign, params)
        message = Message(REFERENCE, channel, "+12125550100", "", "en", template=template)
        query, _ = signed_parts(case.adapter.build_request(message, case.configure(), CONTEXT))
        assert json.loads(query[param]) == params
        assert query.get("SignName", sign) == sign
        assert len(query["OutId"].encode()) <= 15


@pytest.mark.parametrize("name", ["aliyun_voice", "aliyun_sms"])
def test_a_template_without_variables_is_sent_without_any(name: str) -> None:
    case = load_case(name)
    message = replace(case.message, template=ProviderTemplate("T", "S"))
    query, _ = signed_parts(case.adapter.build_request(message, case.configure(), CONTEXT))
    assert not {"TtsParam", "TemplateParam"} & query.keys()
