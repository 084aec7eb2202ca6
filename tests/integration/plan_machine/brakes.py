"""What is frozen, as `docs/brakes.md` has it.  Nothing here is of the service."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final, TypeAlias

from schemas.vocabulary import Channel

Slice: TypeAlias = tuple[str, str]  # kind, value

EVERYTHING: Final = ("all", "*")
LENDER: Final = "harbour"
SOURCE: Final = "/core"  # who tells facts
UPSTREAM: Final = "core"  # who asks for reminders
PRODUCTS: Final[Mapping[str, str | None]] = {"loan-1": "cash", "loan-2": "card", "loan-3": None}
PROVIDERS: Final = {each: f"p-{each}" for each in Channel}


def named(debt: str, stage: str, step: str, channel: Channel | None, *, planned: bool = True) -> dict[str, str | None]:
    """What a freeze can name about a contact; without a channel, about what another one's message tells of."""
    return {
        "source": SOURCE if planned else UPSTREAM,
        "lender": LENDER,
        "product": PRODUCTS[debt] if planned else None,
        "stage": stage,
        "template": step if stage == "education" else "repayment",
        "channel": channel,
        "provider": None if channel is None else PROVIDERS[channel],
    }


class Brakes:
    def __init__(self) -> None:
        self.until: dict[Slice, dt.datetime | None] = {}  # None: until somebody lifts it

    def freeze(self, slice_: Slice, until: dt.datetime | None, now: dt.datetime) -> bool:
        """A second one of a slice makes it longer, and never shorter."""
        if slice_ in self.in_force(now):
            before = self.until[slice_]
            if before is None or (until is not None and until <= before):
                return False
        self.until[slice_] = until
        return True

    def lift(self, slice_: Slice, now: dt.datetime) -> bool:
        found = slice_ in self.in_force(now)
        self.until.pop(slice_, None)
        return found

    def in_force(self, now: dt.datetime) -> list[Slice]:
        return [each for each, until in self.until.items() if until is None or until > now]

    def some_have_ended(self, now: dt.datetime) -> bool:
        """By themselves, since this was asked last."""
        over = self.until.keys() - set(self.in_force(now))
        for each in over:
            del self.until[each]
        return bool(over)

    def holding(self, facts: Mapping[str, str | None], now: dt.datetime) -> list[Slice]:
        """What holds a contact with these facts."""
        return [each for each in self.in_force(now) if each == EVERYTHING or facts.get(each[0]) == each[1]]
