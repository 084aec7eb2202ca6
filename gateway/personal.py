"""The personal part of a reminder: what is sealed at intake and opened again only to make a message."""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec
from msgspec import Struct

from schemas.messages import ReminderRequested
from schemas.vocabulary import Channel, Role, Stage

SEALED_FIELD: Final = "reminder"  # the field a reminder's sealed part is bound to, beside its id


class Sealed(Struct, frozen=True, omit_defaults=True, gc=False):
    """Everything of a request that is not stored in clear; `contacts` are (channel, address) in the ladder's order."""

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
