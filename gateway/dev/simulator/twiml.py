"""TwiML documents, read strictly: what a call says, asks and does next.

A document that is not exactly what the vendor's pages allow is refused with the vendor's own code: 12100 when it is no
XML document with the root <Response>, 12200 for an unknown or misplaced verb or attribute or a bad value.  The vendor
merely warns of some of these; here none passes.  What the vendor knows and this simulator does not play is refused
alike, and says so.  A DOCTYPE, and with it every entity of one's own, is refused.

Sources: https://www.twilio.com/docs/voice/twiml and its pages /say, /pause, /gather, /redirect, /hangup;
https://www.twilio.com/docs/api/errors/12100 and /12200.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.dev.simulator.xmltree import BadXml, Element, read_xml

_NOT_PLAYED: Final = frozenset(
    {
        "Autopilot", "Connect", "Dial", "Echo", "Enqueue", "Leave", "Pay", "Play", "Prompt", "Queue", "Record",
        "Refer", "Reject", "Siprec", "Sms", "Start", "Stop", "Stream",
        "beginning", "debug", "enhanced", "hints", "language", "loop", "maxSpeechTime", "partialResultCallback",
        "partialResultCallbackMethod", "profanityFilter", "speechModel", "speechTimeout",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a document is refused: the vendor's code, and what is wrong without any of the document's texts."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Say:
    text: str
    language: str | None = None
    voice: str | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: int = 1


@dataclass(frozen=True, slots=True)
class Gather:
    """Asks for keys.  `most` keys end it, `finish` ends it, else so does `timeout` seconds without a key."""

    prompts: tuple[Say | Pause, ...] = ()
    most: int | None = None
    timeout: int = 5
    finish: str = "#"
    action: str = ""  # the document's own URL
    method: str = "POST"
    on_empty: bool = False


@dataclass(frozen=True, slots=True)
class Redirect:
    url: str
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Hangup:
    pass


Verb = Say | Pause | Gather | Redirect | Hangup


@dataclass(frozen=True, slots=True)
class Document:
    """What to do, in order; at its end the call ends."""

    verbs: tuple[Verb, ...]

    def texts(self) -> Iterator[str]:
        """Everything it can say, in order."""
        for verb in self.verbs:
            for part in verb.prompts if isinstance(verb, Gather) else (verb,):
                if isinstance(part, Say):
                    yield part.text


class _Refused(Exception):
    """Inside `parse` only."""


def parse(document: bytes) -> Document | Flaw:
    """A document, or why it is none.  Never raises."""
    try:
        root = read_xml(document)
    except BadXml as error:
        return Flaw("12100", str(error))
    if root.name != "Response":
        return Flaw("12100", "the root is not <Response>")
    try:
        _fits(root, {})
        return Document(tuple(_verb(child, root.name, _VERBS) for child in root.children))
    except _Refused as error:
        return Flaw("12200", str(error))


def _fits(element: Element, attributes: Mapping[str, str], *, text: bool = False, children: bool = True) -> None:
    """Only known attributes with values their pattern takes; text and children only where they belong."""
    for name, value in element.attributes.items():
        if name not in attributes:
            raise _Refused(_unknown("attribute", name, f"of <{element.name}>"))
        if not re.fullmatch(attributes[name], value):
            raise _Refused(f"bad value of the attribute {element.name}.{name}")
    if element.children and not children:
        raise _Refused(f"<{element.name}> takes no element inside")
    if element.text.strip() and not text:
        raise _Refused(f"<{element.name}> takes no text")


def _unknown(what: str, name: str, where: str) -> str:
    """A name that the vendor does not know is not repeated: it may be a piece of a text that was not escaped."""
    return f"{what} {name} {where} is not simulated" if name in _NOT_PLAYED else f"unknown {what} {where}"


def _verb(element: Element, parent: str, known: Mapping[str, Callable[[Element], Verb]]) -> Verb:
    if element.name in known:
        return known[element.name](element)
    if element.name in _VERBS:
        raise _Refused(f"<{element.name}> does not belong in <{parent}>")
    raise _Refused(_unknown("verb", element.name, f"in <{parent}>"))


_NATURAL: Final = r"[1-9][0-9]{0,4}"
_METHOD: Final = {"method": "GET|POST"}
_SAY: Final = {
    "language": r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*",
    "voice": r"man|woman|alice|(Polly|Google)\.[A-Za-z0-9-]+",
}
_GATHER: Final = {
    "input": "dtmf", "numDigits": _NATURAL, "timeout": _NATURAL, "finishOnKey": r"[0-9#*]?", "action": r"\S*",
    "actionOnEmptyResult": "true|false", **_METHOD,
}  # fmt: skip


def _say(element: Element) -> Say:
    _fits(element, _SAY, text=True, children=False)
    text = " ".join(element.text.split())
    if not text:
        raise _Refused("<Say> without a text")
    return Say(text, element.attributes.get("language"), element.attributes.get("voice"))


def _pause(element: Element) -> Pause:
    _fits(element, {"length": _NATURAL}, children=False)
    return Pause(int(element.attributes.get("length", "1")))


def _gather(element: Element) -> Gather:
    _fits(element, _GATHER)
    given = element.attributes
    prompts = tuple(_verb(child, element.name, _PROMPTS) for child in element.children)
    return Gather(
        prompts=tuple(part for part in prompts if isinstance(part, Say | Pause)),
        most=int(given["numDigits"]) if "numDigits" in given else None,
        timeout=int(given.get("timeout", "5")),
        finish=given.get("finishOnKey", "#"),
        action=given.get("action", ""),
        method=given.get("method", "POST"),
        on_empty=given.get("actionOnEmptyResult") == "true",
    )


def _redirect(element: Element) -> Redirect:
    _fits(element, _METHOD, text=True, children=False)
    return Redirect(element.text.strip(), element.attributes.get("method", "POST"))


def _hangup(element: Element) -> Hangup:
    _fits(element, {}, children=False)
    return Hangup()


_PROMPTS: Final[Mapping[str, Callable[[Element], Verb]]] = {"Say": _say, "Pause": _pause}
_VERBS: Final[Mapping[str, Callable[[Element], Verb]]] = {
    **_PROMPTS, "Gather": _gather, "Redirect": _redirect, "Hangup": _hangup,
}  # fmt: skip
