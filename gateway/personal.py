"""What is personal and kept sealed: a reminder's facts, the words that were made of them, and what was written back."""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec
from msgspec import Struct

from gateway.cadence.calendar import Hours
from gateway.content import Dialogue
from providers.contract import ProviderTemplate
from schemas.messages import ReminderRequested
from schemas.vocabulary import Channel, Role, Stage

# The fields that sealed parts are bound to, beside the id of their row.  `gateway/resealing.py` knows them all.
SEALED_FIELD: Final = "reminder"
WORDS_FIELD: Final = "attempt"
REPLY_FIELD: Final = "reply"
RECEIPT_FIELD: Final = "receipt"


class Sealed(Struct, frozen=True, omit_defaults=True, gc=False):
    """Everything of a request that is not stored in clear; `contacts` are (channel, address) in the ladder's order.

    `hours` are those of his day in which what is planned may go out; None for what upstream asked for.
    `locale_of_plan` is spoken where no words are in the `locale` that he prefers.
    """

    locale: str
    timezone: str
    jurisdiction: str
    contacts: tuple[tuple[Channel, str], ...]
    amount: str
    currency: str
    due_date: dt.date
    state_as_of: dt.datetime
    stage: Stage
    role: Role = Role.DEBTOR
    name: str | None = None
    params: dict[str, str] = {}
    hours: tuple[Hours, ...] | None = None
    locale_of_plan: str | None = None

    def __repr__(self) -> str:
        return "Sealed(...)"


def personal_part(event: ReminderRequested) -> Sealed:
    borrower, debt = event.borrower, event.debt
    return Sealed(
        locale=borrower.locale,
        timezone=borrower.timezone,
        jurisdiction=borrower.jurisdiction,
        contacts=tuple([(each.channel, each.address) for each in event.contacts]),
        amount=debt.amount,
        currency=debt.currency,
        due_date=debt.due_date,
        state_as_of=debt.state_as_of,
        stage=event.stage,
        role=borrower.role,
        name=borrower.name,
        params=event.params,
    )


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Sealed).decode


class Words(Struct, frozen=True, gc=False):
    """The exact words of an attempt and whom they went to: the evidence.  Of a call everything it may have said."""

    address: str
    text: str
    title: str | None = None
    template: ProviderTemplate | None = None
    dialogue: Dialogue | None = None

    def __repr__(self) -> str:
        return "Words(...)"


class Reply(Struct, frozen=True, gc=False):
    """What a borrower wrote, from where to where."""

    sender: str
    recipient: str
    text: str

    def __repr__(self) -> str:
        return "Reply(...)"


decode_words = msgspec.json.Decoder(Words).decode
