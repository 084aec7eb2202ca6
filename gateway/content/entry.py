"""A template as the catalogue holds it: compiled, linted and tried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.content.formats import Locale
from gateway.content.grammar import Text
from gateway.content.slots import Slot
from gateway.content.wording import Words
from schemas.vocabulary import Channel, Stage


@dataclass(frozen=True, slots=True)
class Part:
    """The texts of one stage, locale and channel, and the slots they read; only push has a title."""

    text: Text
    title: Text | None
    slots: frozenset[str]


@dataclass(frozen=True, slots=True)
class Told:
    """What a call of one stage and locale tells once the listener has said who he is."""

    debt: Part
    ways: Part


@dataclass(frozen=True, slots=True)
class Entry:
    """One template.  `parts` holds every combination of its stages, locales and channels; `told` of its stages and
    locales, where it has a dialogue.
    """

    version: str
    stages: frozenset[Stage]
    channels: frozenset[Channel]
    max_segments: int
    slots: Mapping[str, Slot]
    required: frozenset[str]
    locales: Mapping[str, Locale]
    names: Mapping[str, str]  # the lower-case name of a locale, its other names included, to its name
    parts: Mapping[tuple[Stage, str, Channel], Part]
    told: Mapping[tuple[Stage, str], Told]
    words: Mapping[Channel, Words]  # that no text of the channel may hold

    def lists_others(self, stage: Stage) -> bool:
        """Whether every SMS of a stage can tell of other payments; elsewhere no stranger is told of any."""
        return all("also" in part.slots for (of, _, by), part in self.parts.items() if (of, by) == (stage, Channel.SMS))

    def resolve(self, locale: str, default: str | None) -> str | None:
        """The locale to write in: as asked, else shortened from the right, else the lender's default, else none."""
        found = self._speaks(locale)
        return found or (self._speaks(default) if default else None)

    def _speaks(self, locale: str) -> str | None:
        name = locale.lower()
        found = self.names.get(name)
        while found is None and "-" in name:
            name = name.rpartition("-")[0]
            own = self.names.get(name)
            # Only a locale's own name: zh means zh-CN when it was asked for, not when zh-TW was.
            found = own if own is not None and own.lower() == name else None
        return found
