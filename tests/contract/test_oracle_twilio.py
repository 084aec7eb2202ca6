"""Twilio's own library as judge: its validator in both directions, and the request its client sends."""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlparse
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from multidict import MultiDict
from twilio.request_validator import RequestValidator, add_port, get_signature_algorithm, remove_port
from twilio.rest import Client
from twilio.twiml.voice_response import Gather, VoiceResponse

from gateway.ledger.states import attempt_moves
from providers.auth import twilio
from providers.contract import Callback, CallbackOutcome, Message, Prompt, Receipt, Unauthenticated
from schemas.vocabulary import AttemptState, Channel
from tests.contract.case import ADAPTERS, CONTEXT, REFERENCE, load_case
from tests.contract.conftest import Loopback

TOKEN = "12345-token"
ALGORITHMS = st.sampled_from(["HMAC_SHA1", "HMAC_SHA256"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARAMS = st.lists(st.tuples(TEXT, TEXT), max_size=6)
URLS = st.builds(
    "{}://{}{}/callbacks/twilio_sms/{}{}".format,
    st.sampled_from(["https", "http"]),
    st.sampled_from(["gw.example.com", "GW.Example.com", "10.0.0.7", "[2001:db8::1]", "xn--fiqs8s"]),
    st.sampled_from(["", ":443", ":80", ":8443", ":1"]),
    st.text("abcXYZ019._~-", min_size=1, max_size=12),
    st.sampled_from(["", "/0c5k3xr8v2m4t", "?a=1&b=%20", "/x?foo=1&bar=2#not-sent", "?u=http://x:1/y"]),
)


def settings_header(algorithm: str) -> dict[str, str]:
    if algorithm == "HMAC_SHA1":
        return {}
    return {"x-twilio-webhooks-signature-settings": f"key=webhooks_sharedkey_1,algorithm={algorithm}"}


def ours_accepts(url: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        return bool(twilio.authenticate(Callback(url, headers, body), [TOKEN.encode()], [TOKEN.encode()]))
    except Unauthenticated:
        return False


def variants(url: str) -> set[str]:
    """The URL with and without its port, by the library."""
    return {add_port(urlparse(url)), remove_port(urlparse(url))}


@settings(max_examples=400, deadline=None)
@given(url=URLS, params=PARAMS, algorithm=ALGORITHMS)
def test_what_the_library_signs_we_accept(url: str, params: list[tuple[str, str]], algorithm: str) -> None:
    assume("[" not in url)  # the library cuts an IPv6 host at its first colon
    body = urlencode(params).encode()
    received = MultiDict(parse_qsl(body.decode(), keep_blank_values=True))
    for variant in variants(url):
        signature = RequestValidator(TOKEN).compute_signature(variant, received, algorithm)
        headers = {"x-twilio-signature": signature, "content-type": twilio.FORM, **settings_header(algorithm)}
        assert ours_accepts(url, headers, body)
        wrong = RequestValidator("other").compute_signature(variant, received, algorithm)
        assert not ours_accepts(url, headers | {"x-twilio-signature": wrong}, body)


@settings(max_examples=400, deadline=None)
@given(url=URLS, params=PARAMS, algorithm=ALGORITHMS)
def test_what_we_sign_the_library_accepts(url: str, params: list[tuple[str, str]], algorithm: str) -> None:
    assume("[" not in url)
    digest = algorithm.removeprefix("HMAC_").lower()
    signature = twilio.signature(twilio.signed_text(url, params), TOKEN.encode(), digest).decode()
    assert RequestValidator(TOKEN).validate(url, MultiDict(params), signature, algorithm)


@settings(max_examples=400, deadline=None)
@given(
    url=URLS,
    signed=PARAMS,
    sent=PARAMS,
    signature=st.none() | st.text(max_size=30),
    algorithm=ALGORITHMS | st.sampled_from(["HMAC_MD5", "hmac_sha256", ""]),
)
def test_both_always_agree(
    url: str, signed: list[tuple[str, str]], sent: list[tuple[str, str]], signature: str | None, algorithm: str
) -> None:
    assume("[" not in url)
    if signature is None:
        known = algorithm.upper() if algorithm.upper() in ("HMAC_SHA1", "HMAC_SHA256") else None
        signature = RequestValidator(TOKEN).compute_signature(url, MultiDict(signed), known)
    body = urlencode(sent).encode()
    header = {"x-twilio-webhooks-signature-settings": f"key=k, algorithm={algorithm}"}
    headers = {"x-twilio-signature": signature, "content-type": twilio.FORM, **header}
    named = get_signature_algorithm(header["x-twilio-webhooks-signature-settings"])
    received = MultiDict(parse_qsl(body.decode(), keep_blank_values=True))
    theirs = bool(signature) and RequestValidator(TOKEN).validate(url, received, signature, named)
    assert ours_accepts(url, headers, body) == theirs


@settings(max_examples=200, deadline=None)
@given(body=TEXT.filter(bool), other=TEXT, algorithm=ALGORITHMS)
def test_json_bodies(body: str, other: str, algorithm: str) -> None:
    url = f"https://gw.example.com/callbacks/p/t?bodySHA256={hashlib.sha256(body.encode()).hexdigest()}"
    signature = RequestValidator(TOKEN).compute_signature(url, {}, algorithm)
    headers = {"x-twilio-signature": signature, "content-type": "application/json", **settings_header(algorithm)}
    assert RequestValidator(TOKEN).validate(url, body, signature, algorithm)
    assert ours_accepts(url, headers, body.encode())
    assert ours_accepts(url, headers, other.encode()) == (other == body)
    # A signature over the URL alone covers no body.
    plain = url.partition("?")[0]
    bare = RequestValidator(TOKEN).compute_signature(plain, {}, algorithm)
    assert ours_accepts(plain, headers | {"x-twilio-signature": bare}, b"")
    assert not ours_accepts(plain, headers | {"x-twilio-signature": bare}, body.encode())


@settings(max_examples=300, deadline=None)
@given(header=st.text("keyalgorithm=,HMAC_SHA256 1;", max_size=40) | st.text(max_size=20))
def test_the_settings_header_is_read_as_the_library_reads_it(header: str) -> None:
    theirs = get_signature_algorithm(header).upper()
    signature = "x"
    if theirs in ("HMAC_SHA1", "HMAC_SHA256"):
        signature = RequestValidator(TOKEN).compute_signature("https://gw/", {}, theirs)
    headers = {"x-twilio-signature": signature, "x-twilio-webhooks-signature-settings": header}
    assert ours_accepts("https://gw/", headers, b"") == (signature != "x")


@settings(max_examples=400, deadline=None)
@given(st.text("ab=&+%20C3é;", max_size=24) | PARAMS.map(urlencode))
def test_forms_are_read_as_the_standard_library_reads_them(body: str) -> None:
    callback = Callback("https://gw/", {"content-type": twilio.FORM}, body.encode())
    try:
        expected = parse_qsl(body, keep_blank_values=True, errors="strict")
    except ValueError:
        with pytest.raises(ValueError, match="codec"):
            twilio.form_params(callback)
    else:
        assert twilio.form_params(callback) == expected


@settings(max_examples=200, deadline=None)
@given(params=PARAMS.filter(bool), data=st.data())
def test_one_content_has_one_key_however_it_is_encoded(params: list[tuple[str, str]], data: st.DataObject) -> None:
    url = "https://gw.example.com/callbacks/p/t/0c5k3xr8v2m4t"
    signature = RequestValidator(TOKEN).compute_signature(url, MultiDict(params))
    headers = {"x-twilio-signature": signature, "content-type": twilio.FORM}
    shuffled = data.draw(st.permutations(params + params[:1]))
    again = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}".lower() for name, value in shuffled)
    first = twilio.authenticate(Callback(url, headers, urlencode(params).encode()), [TOKEN.encode()])
    if all(text == text.lower() for pair in params for text in pair):
        assert twilio.authenticate(Callback(url, headers, again.encode()), [TOKEN.encode()]) == first


@pytest.mark.parametrize("by_service", [False, True])
@pytest.mark.parametrize("by_key", [False, True])
def test_our_request_is_the_librarys(loopback: Loopback, by_service: bool, by_key: bool) -> None:
    case = load_case("twilio_sms")
    changes: dict[str, object] = {"base_url": loopback.base}
    if by_service:
        changes |= {"sender": None, "messaging_service_sid": "MG0123456789abcdef0123456789abcdef"}
    if by_key:
        changes |= {"api_key_sid": "SK0123456789abcdef0123456789abcdef", "api_key_secret": "key-secret"}
    configured = case.configure(**changes)
    user, password = (changes["api_key_sid"], "key-secret") if by_key else (None, case.settings["auth_tokens"][0])
    account = case.settings["account_sid"]
    client = Client(user or account, password, account)
    client.api.base_url = loopback.base
    loopback.answer = (201, case.answers[0][0].body)
    created = client.messages.create(
        to=case.message.address,
        body=case.message.text,
        status_callback=f"{CONTEXT.callback_url}#rc=5&rp=4xx,5xx,ct,rt",
        validity_period=case.message.ttl_seconds,
        **(
            {"messaging_service_sid": changes["messaging_service_sid"]}
            if by_service
            else {"from_": case.settings["sender"]}
        ),
    )
    (theirs,) = loopback.caught
    ours = case.adapter.build_request(case.message, configured, CONTEXT)
    assert (ours.method, ours.url) == (theirs.method, loopback.base + theirs.target)
    assert sorted(parse_qsl(ours.body.decode(), strict_parsing=True)) == sorted(parse_qsl(theirs.body.decode()))
    for name in ("authorization", "content-type"):
        assert ours.headers[name] == theirs.headers[name]
    assert created.sid == getattr(case.answers[0][1], "ref", None), "both read the same id from the answer"


@settings(max_examples=100, deadline=None)
@given(text=TEXT, ttl=st.integers(-5, 10**9))
def test_any_text_survives_and_the_validity_is_within_bounds(text: str, ttl: int) -> None:
    case = load_case("twilio_sms")
    message = Message(REFERENCE, Channel.SMS, "+14155550100", text, "en", ttl_seconds=ttl)
    body = ADAPTERS["twilio_sms"].build_request(message, case.configure(), CONTEXT).body
    form = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict"))
    assert form["Body"] == text
    assert 1 <= int(form["ValidityPeriod"]) <= 36_000


# --- calls ----------------------------------------------------------------------------------------------------------

CALL = load_case("twilio_voice")
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=60)


def tree(document: str) -> tuple[str, dict[str, str], str, list[Any]]:
    """An XML document by its meaning, not its spelling."""

    def read(node: ElementTree.Element) -> tuple[str, dict[str, str], str, list[Any]]:
        return node.tag, dict(node.attrib), node.text or "", [read(each) for each in node]

    return read(ElementTree.fromstring(document))


def theirs(prompt: Prompt, language: str) -> str:
    """What the library says and asks."""
    response = VoiceResponse()
    if not prompt.keys:
        response.say(prompt.text, language=language)
        return str(response)
    gather = Gather(
        input="dtmf", num_digits=1, timeout=prompt.wait_seconds, action=f"{prompt.url}#rc=5&rp=4xx,5xx,ct,rt",
        method="POST", action_on_empty_result=True,
    )  # fmt: skip
    gather.say(prompt.text, language=language)
    response.append(gather)
    return str(response)


def ours(prompt: Prompt) -> str:
    reply = CALL.adapter.reply(CallbackOutcome.STORED, CALL.configure(), prompt)
    assert reply.headers["content-type"].startswith("text/xml")
    return reply.body.decode()


@settings(max_examples=200, deadline=None)
@given(text=WORDS, locale=st.sampled_from(["zh-CN", "en", "en-GB"]), keys=st.sampled_from(["", "12", "129"]))
def test_our_twiml_is_the_librarys(text: str, locale: str, keys: str) -> None:
    url = "https://gw.example.com/callbacks/p/t/0c5k3xr8v2m4t?step=menu&x=<1>" if keys else ""
    prompt = Prompt(text, locale, keys, url)
    language = "en-US" if locale == "en" else locale
    assert tree(ours(prompt)) == tree(theirs(prompt, language))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_makes_a_document(text: str) -> None:
    """Also one with what XML cannot hold; nothing in it becomes a verb."""
    for prompt in (Prompt(text, "en"), Prompt(text, "en", "12", "https://gw/")):
        verbs = {node.tag for node in ElementTree.fromstring(ours(prompt)).iter()}
        assert verbs <= {"Response", "Say", "Gather"}


def test_what_is_not_asked_ends_the_call() -> None:
    assert tree(CALL.adapter.reply(CallbackOutcome.STORED, CALL.configure()).body.decode()) == tree(
        str(VoiceResponse())
    )


@pytest.mark.parametrize("detection", [None, "DetectMessageEnd"])
def test_our_call_is_the_librarys(loopback: Loopback, detection: str | None) -> None:
    configured = CALL.configure(base_url=loopback.base, machine_detection=detection)
    account, token = CALL.settings["account_sid"], CALL.settings["auth_tokens"][0]
    client = Client(account, token, account)
    client.api.base_url = loopback.base
    loopback.answer = (201, CALL.answers[0][0].body)
    asked = CALL.message.prompt
    assert asked is not None
    created = client.calls.create(
        to=CALL.message.address,
        from_=CALL.settings["sender"],
        twiml=theirs(asked, "zh-CN"),
        timeout=30,
        time_limit=240,
        status_callback=f"{CONTEXT.callback_url}#rc=5&rp=4xx,5xx,ct,rt",
        status_callback_event=["ringing", "answered", "completed"],
        **({} if detection is None else {"machine_detection": detection}),
    )
    (caught,) = loopback.caught
    request = CALL.adapter.build_request(CALL.message, configured, CONTEXT)
    assert (request.method, request.url) == (caught.method, loopback.base + caught.target)
    mine, other = (parse_qsl(each.decode(), strict_parsing=True) for each in (request.body, caught.body))
    assert [tree(value) for name, value in mine if name == "Twiml"] == [
        tree(value) for name, value in other if name == "Twiml"
    ]
    assert sorted(pair for pair in mine if pair[0] != "Twiml") == sorted(pair for pair in other if pair[0] != "Twiml")
    for name in ("authorization", "content-type"):
        assert request.headers[name] == caught.headers[name]
    assert created.sid == getattr(CALL.answers[0][1], "ref", None)


def test_a_call_without_a_question_says_its_text() -> None:
    request = CALL.adapter.build_request(replace(CALL.message, prompt=None), CALL.configure(), CONTEXT)
    (twiml,) = [value for name, value in parse_qsl(request.body.decode()) if name == "Twiml"]
    assert tree(twiml) == tree(theirs(Prompt(CALL.message.text, "zh-CN"), "zh-CN"))


def test_words_that_a_call_cannot_bring_along_are_refused_before_anything_is_sent() -> None:
    message = replace(CALL.message, prompt=Prompt("x" * 4000, "en"))
    with pytest.raises(ValueError, match="too long"):
        CALL.adapter.build_request(message, CALL.configure(), CONTEXT)


def test_a_key_press_is_under_the_librarys_signature() -> None:
    """As Twilio sends it: the step is part of the URL and so of what is signed."""
    url = f"{CONTEXT.callback_url}?step=identity"
    fields = {"CallSid": "CA0123456789abcdef0123456789abcdef", "Digits": "1", "CallStatus": "in-progress"}
    token = CALL.settings["auth_tokens"][0]
    signature = RequestValidator(token).compute_signature(url, fields)
    headers = {"x-twilio-signature": signature, "content-type": twilio.FORM}
    body = urlencode(fields).encode()
    now = CONTEXT.now
    assert CALL.adapter.verify_callback(Callback(url, headers, body, REFERENCE), CALL.configure(), now)
    with pytest.raises(Unauthenticated):
        other = url.replace("identity", "menu")
        CALL.adapter.verify_callback(Callback(other, headers, body, REFERENCE), CALL.configure(), now)


@pytest.mark.parametrize(
    ("ttl", "rings"), [(None, 30), (3600, 30), (30, 30), (29, 29), (12, 12), (5, 5), (4, 5), (0, 5), (-7, 5)]
)
def test_a_phone_rings_no_longer_than_the_message_is_good_for(ttl: int | None, rings: int) -> None:
    """Five seconds are the least that Twilio takes."""
    message = Message(REFERENCE, Channel.VOICE, "+14155550100", "Hello", "en", ttl_seconds=ttl)
    body = CALL.adapter.build_request(message, CALL.configure(), CONTEXT).body
    assert dict(parse_qsl(body.decode()))["Timeout"] == str(rings)


@pytest.mark.parametrize("order", list(permutations(["initiated", "ringing", "in-progress", "completed"])))
def test_whatever_the_order_of_its_callbacks_a_call_ends_alike(order: tuple[str, ...]) -> None:
    """SequenceNumber would tell the order; what they say does, too."""
    state = AttemptState.ACCEPTED
    for status in order:
        fields = {"CallSid": "CA" + "0" * 32, "CallStatus": status, "SequenceNumber": str(order.index(status))}
        (event,) = CALL.adapter.parse_callback(Callback("https://gw.example.com/", {}, urlencode(fields).encode()))
        assert isinstance(event, Receipt)
        if attempt_moves(state, event.state):
            state = event.state
    assert state is AttemptState.ANSWERED
