"""A call that asks before it tells: who may hear what, and which key leads where.  Pure.

    identity   "Is it you?"             1 yes · 2 no · nothing: asked once more, then the discreet text and goodbye
    menu       the debt, then a choice  1 ways to pay · 2 be called back by a person · 9 no more reminders

What a call has said is in no table of ours: each step is named in the URL that the provider calls with the key, and
that URL is under its signature.  The name of a step after `identity` is only ever given to a call that confirmed it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

from schemas.vocabulary import Choice


class Dialogue(Struct, frozen=True, gc=False):
    """Every line that a call may say.  `identity`, `discreet`, `not_me` and `goodbye` tell of no debt."""

    locale: str
    identity: str
    discreet: str
    debt: str
    ways: str
    menu: str
    not_me: str
    call_back: str
    stopped: str
    goodbye: str

    def __repr__(self) -> str:
        return f"Dialogue({self.locale}, ...)"


class Step(StrEnum):
    """What the call waits for a key at."""

    IDENTITY = "identity"
    IDENTITY_AGAIN = "identity_again"
    MENU = "menu"
    MENU_AGAIN = "menu_again"


class Said(NamedTuple):
    """What is said next; with a `step` one of `keys` is waited for, without one the call ends."""

    text: str
    locale: str
    keys: str = ""
    step: Step | None = None


_IDENTITY_KEYS: Final = {"1": Choice.CONFIRMED, "2": Choice.NOT_ME}
_MENU_KEYS: Final = {"1": Choice.WAYS_TO_PAY, "2": Choice.CALL_BACK, "9": Choice.STOP}
_KEYS: Final[dict[str, dict[str, Choice]]] = {
    Step.IDENTITY: _IDENTITY_KEYS,
    Step.IDENTITY_AGAIN: _IDENTITY_KEYS,
    Step.MENU: _MENU_KEYS,
    Step.MENU_AGAIN: _MENU_KEYS,
}


def opening(dialogue: Dialogue) -> Said:
    """The first thing a call says."""
    return _ask(dialogue, dialogue.identity, Step.IDENTITY)


def choice(step: str | None, digits: str) -> Choice:
    """What the listener chose.  Total: a step of somebody else's dialogue has no keys of ours."""
    if not digits:
        return Choice.SILENT
    return _KEYS.get(step or "", {}).get(digits, Choice.OTHER)


def answer(dialogue: Dialogue, step: str | None, digits: str) -> Said:
    """What the call says to a key, or to silence.  A step that is not known ends it."""
    match choice(step, digits):
        case Choice.CONFIRMED:
            return _ask(dialogue, f"{dialogue.debt} {dialogue.menu}", Step.MENU)
        case Choice.NOT_ME:
            return Said(dialogue.not_me, dialogue.locale)
        case Choice.WAYS_TO_PAY:
            return _ask(dialogue, f"{dialogue.ways} {dialogue.menu}", Step.MENU)
        case Choice.CALL_BACK:
            return Said(dialogue.call_back, dialogue.locale)
        case Choice.STOP:
            return Said(dialogue.stopped, dialogue.locale)
    match step:
        case Step.IDENTITY:
            return _ask(dialogue, dialogue.identity, Step.IDENTITY_AGAIN)
        case Step.IDENTITY_AGAIN:
            return Said(dialogue.discreet, dialogue.locale)
        case Step.MENU:
            return _ask(dialogue, dialogue.menu, Step.MENU_AGAIN)
        case _:
            return Said(dialogue.goodbye, dialogue.locale)


def _ask(dialogue: Dialogue, text: str, step: Step) -> Said:
    return Said(text, dialogue.locale, "".join(_KEYS[step]), step)
