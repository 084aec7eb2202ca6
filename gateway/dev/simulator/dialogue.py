"""What a call says and asks, document after document, until it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urldefrag, urljoin

from gateway.dev.simulator.dial import Dial
from gateway.dev.simulator.line import End, Line
from gateway.dev.simulator.names import Ending, Vendor
from gateway.dev.simulator.outward import MAX_REPLY, Heard, Outward, near
from gateway.dev.simulator.twilio_account import Account, callable_url
from gateway.dev.simulator.twiml import Document, Flaw, Gather, Hangup, Redirect, Verb, parse
from gateway.dev.simulator.wire import Answer

# https://www.twilio.com/docs/voice/twiml#twilios-request-to-your-application: what is read as TwiML.  The vendor would
# also speak text/plain and play audio; an endpoint of ours that answers those made a mistake.
_TYPES: Final = frozenset({"text/xml", "application/xml", "text/html"})


@dataclass(frozen=True, slots=True)
class Goto:
    """Where the next document is."""

    step: str  # document, gather or redirect
    url: str
    method: str
    digits: str | None = None  # of a gather


Note = Callable[[Goto, int, Answer], None]


class Dialogue:
    """Asks our endpoint, with signed requests, and obeys it.  Every request is noted before its answer is used."""

    def __init__(
        self, account: Account, outward: Outward, line: Line, form: Mapping[str, str], steps: int, note: Note
    ) -> None:
        self._account = account
        self._outward = outward
        self._line = line
        self._form = form
        self._left = steps
        self._note = note
        self._base = ""  # the URL of the document; none when it came with the call

    async def hold(self, call: Dial) -> End:
        """From the first word to the end."""
        document = call.document or await self._fetch(Goto("document", call.url, call.method))
        while isinstance(document, Document):
            reached = await self._play(document)
            document = await self._fetch(reached) if isinstance(reached, Goto) else reached
        return document

    async def _play(self, document: Document) -> Goto | End:
        for verb in document.verbs:
            if self._left == 0:
                return End(Ending.TOO_MANY_STEPS)
            self._left -= 1
            if reached := await self._do(verb):
                return reached
        return End(Ending.END_OF_DOCUMENT)

    async def _do(self, verb: Verb) -> Goto | End | None:
        match verb:
            case Gather():
                digits = await self._line.gather(verb)
                if isinstance(digits, End):
                    return digits
                if not digits and not verb.on_empty:
                    return None  # the next verb
                return self._goto("gather", verb.action, verb.method, digits)
            case Redirect():
                return self._goto("redirect", verb.url, verb.method)
            case Hangup():
                self._line.note("hangup")
                return End(Ending.HANGUP)
            case _:
                return await self._line.say(verb)

    def _goto(self, step: str, url: str, method: str, digits: str | None = None) -> Goto | End:
        try:
            target = urljoin(self._base, url)
        except ValueError:
            target = ""
        if not callable_url(target):
            return _error("11100", f"the URL of the {step} is not one that can be called")
        return Goto(step, target, method, digits)

    async def _fetch(self, goto: Goto) -> Document | End:
        # It may ask for itself for ever without a verb in between.
        if self._left == 0:
            return End(Ending.TOO_MANY_STEPS)
        self._left -= 1
        if not near(urldefrag(goto.url)[0]):
            self._note(goto, 0, "not_loopback")
            return _error("11200", "only this machine is called")
        form = {**self._form, **({} if goto.digits is None else {"Digits": goto.digits})}
        route = self._account.webhook(Vendor.TWILIO_VOICE, goto.url, goto.method, form)
        heard = await self._outward.ask(route, lambda attempt, answer: self._note(goto, attempt, answer))
        document = _read(heard)
        self._base = goto.url
        return document


def _read(heard: Heard) -> Document | End:
    match heard.answer:
        case "connect_error" | "connect_timeout":
            return _error("11205", "no connection")
        case int(status) if 200 <= status < 300:
            pass
        case answer:
            return _error("11200", f"answered {answer}")
    if len(heard.body) > MAX_REPLY:
        return _error("11750", "the document is too big")
    if heard.content_type not in _TYPES:
        return _error("12300", "not a content type of TwiML")
    document = parse(heard.body)
    return _error(document.code, document.detail) if isinstance(document, Flaw) else document


def _error(code: str, detail: str) -> End:
    return End(Ending.APPLICATION_ERROR, code, detail)
