"""Who they are: what each is like, how much he notices, where he is reached.  The lender knows nothing of the first."""

from __future__ import annotations

import datetime as dt
import hashlib
from decimal import Decimal
from enum import StrEnum
from typing import Final

from msgspec import Struct

from schemas.messages import Contact
from schemas.repayments import Instalment
from schemas.vocabulary import Channel


class Character(StrEnum):
    """What somebody does about a payment."""

    PUNCTUAL = "punctual"  # pays before it is due, or by the debit
    FORGETFUL = "forgetful"  # pays once he has noticed a reminder of a debit that failed
    PIECEMEAL = "piecemeal"  # pays half, and the rest some reminders later
    SILENT = "silent"  # never pays and never answers; some are reported to the bureau
    DISPUTING = "disputing"  # says that he does not owe it
    STRUGGLING = "struggling"  # cannot pay, says so, and gets other dates
    MOVING = "moving"  # forgetful, and elsewhere under another number halfway
    LEAVING = "leaving"  # wants no more reminders
    PARTICULAR = "particular"  # forgetful, and has hours or channels of his own


# Of a hundred.
_SHARES: Final = {
    Character.PUNCTUAL: 34,
    Character.FORGETFUL: 22,
    Character.PIECEMEAL: 7,
    Character.SILENT: 13,
    Character.DISPUTING: 6,
    Character.STRUGGLING: 5,
    Character.MOVING: 5,
    Character.LEAVING: 4,
    Character.PARTICULAR: 4,
}
_ZONES: Final = ("America/New_York", "America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "Asia/Shanghai")
_JURISDICTIONS: Final = ("US-NY", "US-CA", "DE", "IN", "CN")
_NAMES: Final = ("Grace Miller", "Daniel Brooks", "Nora Castillo", "Samuel Reed", "Ivy Chen", "Owen Walsh")
_FIRST_DUE: Final = 8  # days after the start: so that a week before is still to come
_SPREAD: Final = 7  # over so many days: a month after is still seen after 45
_APART: Final = 30  # days between instalments


class Loan(Struct, frozen=True):
    """`debited`: its instalments are debited, and the lender tells what fails; others transfer the money themselves."""

    ref: str
    instalments: tuple[Instalment, ...]
    debited: bool


class Person(Struct, frozen=True):
    """`attention` is how likely he notices what has reached him; `token` None: he has no app."""

    ref: str
    number: int
    character: Character
    name: str
    zone: str
    jurisdiction: str
    attention: float
    token: str | None
    reachable: bool  # his SMS arrive
    loans: tuple[Loan, ...]

    def contacts(self, moved: bool = False) -> tuple[Contact, ...]:
        found = [
            Contact(Channel.SMS, sms_number(self.number, moved)),
            Contact(Channel.VOICE, voice_number(self.number, moved)),
        ]
        return tuple(found if self.token is None else [*found, Contact(Channel.PUSH, self.token)])


def sms_number(number: int, moved: bool = False) -> str:
    """Well formed, and anyway never reached: the providers are on loopback."""
    return f"+86139{50_000_000 * moved + number:08d}"


def voice_number(number: int, moved: bool = False) -> str:
    return f"+86138{50_000_000 * moved + number:08d}"


def draw(seed: int, *what: object) -> float:
    """0 ≤ x < 1, the same whenever it is asked: nothing depends on the order of what happens."""
    text = "|".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56


def people(seed: int, loans: int, start: dt.date) -> list[Person]:
    """So many that they have at least `loans` loans; every fifth or so has two."""
    found: list[Person] = []
    while loans > 0:
        found.append(_person(seed, len(found), start))
        loans -= len(found[-1].loans)
    return found


def _person(seed: int, number: int, start: dt.date) -> Person:
    ref = f"borrower-{number:04d}"
    place = int(draw(seed, ref, "zone") * len(_ZONES))
    character = _character(draw(seed, ref, "character"))
    count = 2 if draw(seed, ref, "loans") < 0.2 else 1
    return Person(
        ref=ref,
        number=number,
        character=character,
        name=_NAMES[number % len(_NAMES)],
        zone=_ZONES[place],
        jurisdiction=_JURISDICTIONS[place],
        attention=0.35 + 0.6 * draw(seed, ref, "attention"),
        token=f"device-token-{number:010d}" if draw(seed, ref, "app") < 0.7 else None,
        reachable=draw(seed, ref, "reachable") < 0.95,
        loans=tuple(_loan(seed, f"loan-{number:04d}{letter}", start) for letter in "ab"[:count]),
    )


def _character(x: float) -> Character:
    reached = 0
    for each, share in _SHARES.items():
        reached += share
        if x * 100 < reached:
            return each
    raise AssertionError("the shares are a hundred")


def _loan(seed: int, ref: str, start: dt.date) -> Loan:
    first = start + dt.timedelta(days=_FIRST_DUE + int(draw(seed, ref, "due") * _SPREAD))
    amount = Decimal(int(5_000 + 45_000 * draw(seed, ref, "amount"))) / 100
    return Loan(
        ref,
        tuple(Instalment(n + 1, first + n * dt.timedelta(days=_APART), f"{amount:.2f}") for n in range(2)),
        draw(seed, ref, "debited") < 0.85,
    )
