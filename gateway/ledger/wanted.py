"""What there is to be for a borrower: what is known of him, sealed, and the reminders that follow from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.ledger.commands import Cause, Request, Told
from gateway.ledger.in_use import Used
from gateway.ledger.tombstones import Stones
from schemas.vocabulary import Reason

Key = tuple[bytes, str, int, str, str]  # subject, debt, instalment, stage, step


class SealedBorrower(Struct, frozen=True, gc=False):
    """`sealed` is None where nothing has been told yet; the id is then a new one."""

    subject: bytes
    id: int
    sealed: bytes | None


class SealedDebt(Struct, frozen=True, gc=False):
    subject: bytes
    debt: str
    id: int
    cadence: str | None
    version: int | None
    sealed: bytes | None


class Planned(Struct, frozen=True):
    """What an occasion is to be: its business key, hashes of when and how it goes out, of what it says and to whom.

    One that `lacks` waits for a fact.  `request` makes it anew, `sealed` seals what it says for the id of a reminder;
    usually neither is needed.
    """

    stage_key: bytes
    print: bytes
    said: bytes
    reach: bytes
    lacks: bool
    request: Callable[[], Request]
    sealed: Callable[[int], bytes]


class Wanted(Struct, frozen=True):
    """What is known of one borrower now, and what follows.

    `reminders` are those there are to be, `gone` the occasions that are none and why.  What is in neither is not part
    of any plan any more.  `stones` is what changes for reminders that are requested.
    """

    borrower: SealedBorrower | None
    debts: tuple[SealedDebt, ...]
    reminders: Mapping[Key, Planned]
    gone: Mapping[Key, Reason | None]
    stones: Stones


class FactsBroken(Exception):
    """What is known of a borrower does not open any more: his fact becomes a dead letter, and he is held."""


class LenderGone(Exception):
    """Who has plans by a lender that the configuration does not know any more: nobody can say by which channels."""


class Planner(Protocol):
    """Opens what is sealed, tells it the facts, plans; pure but for ids.  Raises FactsBroken and LenderGone."""

    def lacks(self, cadence: str, version: int) -> bool:
        """Whether this version of a cadence is not known here."""
        ...

    def learn(self, used: Sequence[Used]) -> None:
        """What versions say that other processes have brought."""
        ...

    def says(self, cadence: str, version: int) -> bytes:
        """What a version says, as the ledger keeps it."""
        ...

    def plan(
        self,
        subject: bytes,
        cause: Cause,
        facts: Sequence[Told],
        borrower: SealedBorrower | None,
        debts: Sequence[SealedDebt],
        now: dt.datetime,
    ) -> Wanted: ...
