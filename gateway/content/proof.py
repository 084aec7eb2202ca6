"""Tries a text out before anyone receives it: with every slot at its longest, and without each optional one.

What a text may do is small (see grammar): the trials catch words that meet across slots, and its own words are looked
at on every branch, also on one that no trial takes.  What is too long only on such a branch is caught by `render`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

import msgspec

from gateway.content import segments
from gateway.content.entry import Part
from gateway.content.formats import CallLines, Locale
from gateway.content.grammar import Text
from gateway.content.slots import (
    ALSO_LENGTH,
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


def faults_of_locale(locale: Locale, channels: Iterable[Channel], telling: Words | None = None) -> list[str]:
    """What is wrong with an entry of locales.yaml: words are missing, or a pattern names what it is not given.

    With `telling`, the words that a call may not say before it knows who listens, its lines are looked at too.
    """
    trials: list[tuple[str, Callable[[], object]]] = [
        ("date", partial(locale.show_date, _MOMENTS[0])),
        ("moment", partial(locale.show_moment, _MOMENTS[0])),
        ("greeting", partial(locale.greet, _FILLER)),
        ("amount", partial(locale.show_amount, "1", "XXX")),
        *((f"amounts.{currency}", partial(locale.show_amount, "1", currency)) for currency in locale.amounts),
    ]
    if (others := locale.others) is not None:
        trials.append(("others", partial(others.list, [(_FILLER, _FILLER)] * 2, len(others.item) + len(others.more))))
    call = locale.call
    if telling is not None and call is not None:
        trials.append(("call.identity", partial(call.ask, _FILLER, _FILLER)))
    faults = [f"opt_out has no words for {channel}" for channel in channels if channel not in locale.opt_out]
    for field, trial in trials:
        try:
            trial()
        except (LookupError, ValueError, AttributeError):
            faults.append(f"{field} is not a pattern of its own placeholders")
    if telling is not None:
        faults += ["call has no lines for a dialogue"] if call is None else _faults_of_call(call, telling)
    return faults


def _faults_of_call(call: CallLines, telling: Words) -> list[str]:
    faults = [f"call.identity must say {{{name}}}" for name in ("lender", "name") if f"{{{name}}}" not in call.identity]
    for field, line in msgspec.structs.asdict(call).items():
        if label := telling.find(line):
            faults.append(f"call.{field} uses words that are not allowed ({label})")
    for field, keys in (("identity", "12"), ("menu", "129")):
        missing = [key for key in keys if key not in getattr(call, field)]
        faults += [f"call.{field} does not name key {key}" for key in missing]
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
    if "also" in part.slots and locale.others is None:
        faults.append("also cannot be said: the locale has no words for other payments")
    for name in sorted(part.slots):
        if stage not in COUNTS.get(name, Stage):
            faults.append(f"{name} is never known at {stage}")
        if channel in DISCREET_CHANNELS and not _is_discreet(name, slots):
            faults.append(f"{name} tells of a debt and may not stand in a {channel}")
    texts = [text for text in (part.title, part.text) if text]
    found, shown = _faults_of_shown(texts, part, channel, locale, slots, words)
    pieces = max((segments.count(line)[1] for line in shown), default=0) if channel is Channel.SMS else 0
    if pieces > max_segments:
        found.append(f"can take {pieces} segments, more than max_segments {max_segments}")
    return faults + found


def _faults_of_shown(
    texts: Iterable[Text], part: Part, channel: Channel, locale: Locale, slots: Mapping[str, Slot], words: Words
) -> tuple[list[str], list[str]]:
    """What the trials find, and the texts as they are then shown."""
    try:
        shown = [text.render(values) for values in _trials(part, channel, locale, slots) for text in texts]
    except TypeError:
        return ["compares what cannot be compared; only days are numbers"], []
    faults = [] if all(map(str.strip, shown)) else ["is empty when optional slots are"]
    literals = [literal for text in texts for literal in text.literals]
    labels = sorted({label for line in (*literals, *shown) if (label := words.find(line))})
    return faults + [f"uses words that are not allowed ({label})" for label in labels], shown


def faults_of_told(part: Part, stage: Stage, locale: Locale, slots: Mapping[str, Slot], words: Words) -> list[str]:
    """Everything wrong with a text that is said to the borrower himself, once he has said that it is him."""
    unknown = sorted(part.slots - slots.keys() - BUILT_IN)
    if unknown:
        return [f"no slot is called {name}" for name in unknown]
    faults = [
        f"{name} is never known at {stage}" for name in sorted(part.slots) if stage not in COUNTS.get(name, Stage)
    ]
    faults += [
        f"{name} is a link and cannot be said"
        for name in sorted(part.slots & slots.keys())
        if slots[name].spec.type is SlotType.URL
    ]
    return faults + _faults_of_shown((part.text,), part, Channel.VOICE, locale, slots, words)[0]


def _is_discreet(name: str, slots: Mapping[str, Slot]) -> bool:
    return name in DISCREET_BUILT_IN or (name in slots and slots[name].discreet)


def _trials(part: Part, channel: Channel, locale: Locale, slots: Mapping[str, Slot]) -> Iterator[dict[str, str | int]]:
    longest = _longest(channel, locale, slots)
    optional = [name for name, slot in slots.items() if slot.optional and name in part.slots]
    optional += [name for name in ("name", "also") if name in part.slots]
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
        "also": _FILLER * ALSO_LENGTH,
        **{name: kinds.get(slot.spec.type, _FILLER * slot.spec.max_length) for name, slot in slots.items()},
    }
