"""Why a record cannot become a command, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.vocabulary import Rejection


@dataclass(frozen=True, slots=True)
class Fault:
    """`field` is where, never what: `source`, `data.borrower.ref`, `data.contacts[1].address`.

    The names are those of the CloudEvents attributes and of our own messages, the same in structured and binary mode.
    A name that is not ours may be anything, also a phone number, so it is never repeated: the field is then what
    holds it.
    """

    reason: Rejection
    field: str | None = None

    def __str__(self) -> str:
        return f"{self.reason} ({self.field})" if self.field else str(self.reason)
