"""Tries a text out before anyone receives it: with every slot at its longest, and without each optional one.

What a text may do is small (see grammar): the trials catch words that meet across slots, and its own words are looked
at on every branch, also on one that no trial takes.  What is too long only on such a branch is caught by `render`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from gateway.content import segments
from gateway.content.entry import Part
from gateway.content.formats import Locale
from gateway.content.slots import (
    BUILT_IN,
    DISCREET_BUILT_IN,
    DISCREET_CHANNELS,
    LENDER_LENGTH,
    NAME_LENGTH,
    Slot,
    SlotType,
)
from gateway.content.wording import Words
from schemas.vocabulary import Channel, Stage

# Days are counted only where the count can be true.
COUNTS: Final = {"days_left": {Stage.D7, Stage.D3}, "days_overdue": {stage for stage in Stage if stage.repeats}}

_FILLER: Final = "\u25a1"  # □: one UTF-16 unit, beyond GSM-7, no letter of any word
_LONGEST_AMOUNT: Final = "9" * 24  # as long as a request can write it
_MOMENTS: Final = [dt.datetime(2028, month, 28, 23, 59, tzinfo=dt.UTC) for month in range(1, 13)]


def faults_of_locale(locale: Locale, channels: Iterable[Channel]) -> list[str]:
    """What is wrong with an entry of locales.yaml: words are missing, or a pattern names what it is not given."""
    trials: list[tuple[str, Callable[[], object]]] = [
        ("date", partial(locale.show_date, _MOMENTS[0])),
        ("moment", partial(locale.show_moment, _MOMENTS[0])),
        ("greeting", partial(locale.greet, _FILLER)),
        ("amount", partial(locale.show_amount, "1", "XXX")),
        *((f"amounts.{currency}", partial(locale.show_amount, "1", currency)) for currency in locale.amounts),
    ]
    faults = [f"opt_out has no words for {channel}" for channel in channels if channel not in locale.opt_out]
    for field, trial in trials:
        try:
            trial()
        except (LookupError, ValueError, AttributeError):
            faults.append(f"{field} is not a pattern of its own placeholders")
    return faults


def faults_of(
    part: Part,
    stage: Stage,
    channel: Channel,
    locale: Locale,
    slots: Mapping[str, Slot],
    words: Words,
    max_segments: int,
) -> list[str]:
    """Everything wrong with the texts of one file."""
    unknown = sorted(part.slots - slots.keys() - BUILT_IN)
    if unknown:
        return [f"no slot is called {name}" for name in unknown]
    faults = [f"must say {name}" for name in ("lender", "opt_out") if name not in part.slots]
    for name in sorted(part.slots):
        if stage not in COUNTS.get(name, Stage):
            faults.append(f"{name} is never known at {stage}")
        if channel in DISCREET_CHANNELS and not _is_discreet(name, slots):
            faults.append(f"{name} tells of a debt and may not stand in a {channel}")
    texts = [text for text in (part.title, part.text) if text]
    try:
        shown = [text.render(values) for values in _trials(part, channel, locale, slots) for text in texts]
    except TypeError:
        return [*faults, "compares what cannot be compared; only days are numbers"]
    if not all(map(str.strip, shown)):
        faults.append("is empty when optional slots are")
    literals = [literal for text in texts for literal in text.literals]
    labels = sorted({label for line in (*literals, *shown) if (label := words.find(line))})
    faults += [f"uses words that are not allowed ({label})" for label in labels]
    pieces = max(segments.count(line)[1] for line in shown) if channel is Channel.SMS else 0
    if pieces > max_segments:
        faults.append(f"can take {pieces} segments, more than max_segments {max_segments}")
    return faults


def _is_discreet(name: str, slots: Mapping[str, Slot]) -> bool:
    return name in DISCREET_BUILT_IN or (name in slots and slots[name].discreet)


def _trials(part: Part, channel: Channel, locale: Locale, slots: Mapping[str, Slot]) -> Iterator[dict[str, str | int]]:
    longest = _longest(channel, locale, slots)
    optional = [name for name, slot in slots.items() if slot.optional and name in part.slots]
    optional += ["name"] if "name" in part.slots else []
    nothing = dict.fromkeys(optional, "")
    for days in (1, 2, 9999):
        full = {**longest, "days_left": days, "days_overdue": days}
        yield full
        yield {**full, **nothing}
        for name in optional:
            yield {**full, name: ""}
            yield {**full, **nothing, name: full[name]}


def _longest(channel: Channel, locale: Locale, slots: Mapping[str, Slot]) -> dict[str, str | int]:
    amounts = [locale.show_amount(_LONGEST_AMOUNT, code) or "" for code in ("XXX", *locale.amounts)]
    date = max((locale.show_date(moment) for moment in _MOMENTS), key=len)
    amount = max(amounts, key=len)
    kinds = {SlotType.AMOUNT: amount, SlotType.DATE: date}
    return {
        "lender": _FILLER * LENDER_LENGTH,
        "name": _FILLER * NAME_LENGTH,
        "greeting": max(locale.greet(_FILLER * NAME_LENGTH), locale.greet(None), key=len),
        "opt_out": locale.opt_out[channel],
        "amount": amount,
        "due_date": date,
        "as_of": max((locale.show_moment(moment) for moment in _MOMENTS), key=len),
        **{name: kinds.get(slot.spec.type, _FILLER * slot.spec.max_length) for name, slot in slots.items()},
    }
