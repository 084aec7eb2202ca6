"""TwiML: what the vendor's own library writes is read, and nothing else passes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.twiml.voice_response import VoiceResponse

from gateway.dev.simulator.line import collect
from gateway.dev.simulator.twiml import Document, Flaw, Gather, Hangup, Pause, Redirect, Say, parse


def test_a_document_of_the_vendors_library_is_read_whole() -> None:
    made = VoiceResponse()
    asked = made.gather(
        input="dtmf",
        num_digits=1,
        timeout=6,
        finish_on_key="",
        action="/twiml/a?x=1&y=2#rc=2",
        method="GET",
        action_on_empty_result=True,
    )
    asked.say("是 <张三> & 家人 吗?", language="zh-CN", voice="alice")
    asked.pause(2)
    made.say("Good\n bye.", voice="Polly.Joanna-Neural")
    made.pause()
    made.redirect(" ../next ", method="GET")
    made.hangup()
    document = parse(str(made).encode())
    assert document == Document(
        (
            Gather(
                prompts=(Say("是 <张三> & 家人 吗?", "zh-CN", "alice"), Pause(2)),
                most=1,
                timeout=6,
                finish="",
                action="/twiml/a?x=1&y=2#rc=2",
                method="GET",
                on_empty=True,
            ),
            Say("Good bye.", None, "Polly.Joanna-Neural"),
            Pause(1),
            Redirect("../next", "GET"),
            Hangup(),
        )
    )
    assert list(document.texts()) == ["是 <张三> & 家人 吗?", "Good bye."]


def test_the_defaults_are_the_vendors() -> None:
    assert parse(b"<Response/>") == Document(())
    assert parse(b"<Response><Gather/></Response>") == Document((Gather((), None, 5, "#", "", "POST", False),))
    assert parse(b"<?xml version='1.0'?><!-- x -->\n<Response>\n<Hangup/>\n</Response>\n") == Document((Hangup(),))


@pytest.mark.parametrize(
    ("document", "detail"),
    [
        ("", "no element found"),
        ("OK", "syntax error"),
        ("\n<?xml version='1.0'?><Response/>", "not at start"),
        ("<Response>", "no element found"),
        ("<Response/><Response/>", "junk after document element"),
        ("<Response><Say>a & b</Say></Response>", "not well-formed"),
        ("<Response><Say>&nbsp;</Say></Response>", "undefined entity"),
        ("<Say>a</Say>", "not <Response>"),
        ("<response/>", "not <Response>"),
        ("<!DOCTYPE Response><Response/>", "DOCTYPE"),
        ("<!DOCTYPE r [<!ENTITY e 'x'>]><Response><Say>&e;</Say></Response>", "DOCTYPE"),
        ("<!DOCTYPE r SYSTEM 'file:///etc/passwd'><Response/>", "DOCTYPE"),
        ("<Response><?php x?></Response>", "processing instruction"),
        ("<Response>" + "<Say>" * 20 + "</Say>" * 20 + "</Response>", "inside one another"),
        ("<?xml version='1.0' encoding='none'?><Response/>", "encoding"),
    ],
)
def test_what_is_no_document(document: str, detail: str) -> None:
    flaw = parse(document.encode())
    assert isinstance(flaw, Flaw)
    assert flaw.code == "12100"
    assert detail in flaw.detail


@pytest.mark.parametrize(
    ("inside", "detail"),
    [
        ("<say>a</say>", "unknown verb in <Response>"),
        ("<Secret/>", "unknown verb in <Response>"),
        ("<Play>a</Play>", "verb Play in <Response> is not simulated"),
        ("<Gather><Dial/></Gather>", "verb Dial in <Gather> is not simulated"),
        ("<Gather><Hangup/></Gather>", "<Hangup> does not belong in <Gather>"),
        ("<Gather><Gather/></Gather>", "<Gather> does not belong in <Gather>"),
        ("<Gather>Secret</Gather>", "<Gather> takes no text"),
        ("Secret", "<Response> takes no text"),
        ("<Say/>", "<Say> without a text"),
        ("<Say> \n </Say>", "<Say> without a text"),
        ("<Say>a<break/></Say>", "<Say> takes no element inside"),
        ("<Say Secret='x'>a</Say>", "unknown attribute of <Say>"),
        ("<Say loop='2'>a</Say>", "attribute loop of <Say> is not simulated"),
        ("<Say language='Secret'>a</Say>", "bad value of the attribute Say.language"),
        ("<Say voice='Secret'>a</Say>", "bad value of the attribute Say.voice"),
        ("<Pause length='0'/>", "bad value of the attribute Pause.length"),
        ("<Pause>a</Pause>", "<Pause> takes no text"),
        ("<Gather numDigits='0'/>", "bad value of the attribute Gather.numDigits"),
        ("<Gather timeout='Secret'/>", "bad value of the attribute Gather.timeout"),
        ("<Gather timeout='6\n'/>", "bad value of the attribute Gather.timeout"),
        ("<Gather input='speech'/>", "bad value of the attribute Gather.input"),
        ("<Gather finishOnKey='##'/>", "bad value of the attribute Gather.finishOnKey"),
        ("<Gather action='a b'/>", "bad value of the attribute Gather.action"),
        ("<Gather method='post'/>", "bad value of the attribute Gather.method"),
        ("<Gather actionOnEmptyResult='True'/>", "bad value of the attribute Gather.actionOnEmptyResult"),
        ("<Gather hints='a'/>", "attribute hints of <Gather> is not simulated"),
        ("<Hangup a='b'/>", "unknown attribute of <Hangup>"),
        ("<Hangup>a</Hangup>", "<Hangup> takes no text"),
        ("<Redirect><Say>a</Say></Redirect>", "<Redirect> takes no element inside"),
    ],
)
def test_what_is_no_twiml(inside: str, detail: str) -> None:
    assert parse(f"<Response>{inside}</Response>".encode()) == Flaw("12200", detail)
    assert isinstance(parse(f"<Response a='b'>{inside}</Response>".encode()), Flaw)


def test_entities_cannot_blow_it_up() -> None:
    levels = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10 if n else 'x' * 100}'>" for n in range(30))
    # Expanded, it would be 10^31 characters: nothing would come back from that.
    assert isinstance(parse(f"<!DOCTYPE r [{levels}]><Response><Say>&e29;</Say></Response>".encode()), Flaw)


PIECES = st.sampled_from(
    ["<Response>", "</Response>", "<Say>", "</Say>", "<Gather numDigits='1'>", "</Gather>", "<Hangup/>", "<Pause/>",
     "<!DOCTYPE x>", "<?xml version='1.0' encoding='big5'?>", "&amp;", "&e;", "x", "您", "<![CDATA[a]]>", "\0"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join), st.sampled_from(["utf-8", "utf-16", "gb18030"]))
def test_any_bytes_are_a_document_or_a_flaw(text: str, encoding: str) -> None:
    assert isinstance(parse(text.encode(encoding, "replace")), Document | Flaw)


@pytest.mark.parametrize(
    ("pressed", "verb", "digits", "seconds"),
    [
        ("", Gather(), "", 5.0),
        ("", Gather(timeout=9), "", 9.0),
        ("12", Gather(), "12", 6.0),
        ("12#", Gather(), "12", 1.5),
        ("#", Gather(), "", 0.5),
        ("12#", Gather(finish=""), "12#", 6.5),
        ("12*3", Gather(finish="*"), "12", 1.5),
        ("123", Gather(most=1), "1", 0.5),
        ("12", Gather(most=2, timeout=60), "12", 1.0),
        ("#1", Gather(most=1), "", 0.5),
    ],
)
def test_keys_are_collected_as_the_attributes_say(pressed: str, verb: Gather, digits: str, seconds: float) -> None:
    assert collect(pressed, verb) == (digits, seconds)
