"""Slots: the only way for a value to get into a text."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

from msgspec import Meta, Struct

from gateway.content import formats, text
from gateway.content.formats import Locale
from gateway.content.wording import Words
from schemas.vocabulary import Channel


class SlotType(StrEnum):
    TEXT = "text"  # one visible line: no links, no forbidden words
    URL = "url"  # https
    PHONE = "phone"  # a number to show
    AMOUNT = "amount"  # decimal string, in the currency of the debt
    DATE = "date"  # YYYY-MM-DD


class SlotSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One slot in template.yaml, filled from the request's `params`.  `hosts` narrows a url slot."""

    type: SlotType
    max_length: Annotated[int, Meta(ge=1, le=200)]
    optional: bool = False
    hosts: tuple[str, ...] = ()


# Filled by the gateway.  `name` is empty when there is none to show; `greeting` always says something polite; `also` is
# the other payments that this one message tells of, empty when there are none.
BUILT_IN: Final = frozenset(
    {"lender", "name", "greeting", "opt_out", "amount", "due_date", "as_of", "days_left", "days_overdue", "also"}
)

# A push may be read on a locked screen, a call may be answered by anyone: what may be told there.
DISCREET_CHANNELS: Final = frozenset({Channel.PUSH, Channel.VOICE})
DISCREET_BUILT_IN: Final = frozenset({"lender", "name", "greeting", "opt_out"})
DISCREET_TYPES: Final = frozenset({SlotType.TEXT, SlotType.PHONE})

LENDER_LENGTH: Final = 40  # UTF-16 units of a lender's display name
NAME_LENGTH: Final = 40  # of a borrower's; a longer one is not shown
ALSO_LENGTH: Final = 120  # of the other payments; those beyond are counted, not listed


class Slot:
    """A declared slot, ready to judge values.  `words` are those a text value may not hold."""

    __slots__ = ("clean", "discreet", "optional", "spec")

    def __init__(self, spec: SlotSpec, words: Words) -> None:
        self.spec = spec
        self.optional = spec.optional
        self.discreet = spec.type in DISCREET_TYPES
        # The value in the one form it may have in a message, or None when it is refused.
        self.clean: Callable[[str], str | None] = _cleaner(spec, words)

    def show(self, value: str, locale: Locale, currency: str) -> str | None:
        """A value from outside as it is written in `locale`, or None when it is refused."""
        clean = self.clean(value)
        if clean is None or self.discreet or self.spec.type is SlotType.URL:
            return clean
        day = formats.as_date(clean)
        return locale.show_date(day) if day else locale.show_amount(clean, currency)


def _cleaner(spec: SlotSpec, words: Words) -> Callable[[str], str | None]:
    length = spec.max_length

    def line(value: str) -> str | None:
        shown = text.plain(value, length)
        return None if shown is None or words.find(shown) else shown

    def date(value: str) -> str | None:
        return value if formats.as_date(value) else None

    def amount(value: str) -> str | None:
        return value if len(value) <= length and formats.is_amount(value) else None

    cleaners: dict[SlotType, Callable[[str], str | None]] = {
        SlotType.TEXT: line,
        SlotType.URL: partial(text.url, max_length=length, hosts=spec.hosts),
        SlotType.PHONE: partial(text.phone, max_length=length),
        SlotType.AMOUNT: amount,
        SlotType.DATE: date,
    }
    return cleaners[spec.type]
