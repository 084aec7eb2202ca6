"""Templates: which words a borrower gets.  Pure after loading; intake asks `check`, dispatch asks `render`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from gateway.content import segments, text
from gateway.content.dialogue import Dialogue
from gateway.content.entry import Entry
from gateway.content.formats import Locale
from gateway.content.loading import load_entries
from gateway.content.segments import Encoding
from gateway.content.slots import ALSO_LENGTH, DISCREET_CHANNELS, NAME_LENGTH
from schemas.vocabulary import Channel, Rejection, Stage

DEFAULT_TEMPLATES: Final = Path(__file__).with_name("templates")


class Problem(Struct, frozen=True):
    """Why a text cannot be made.  `field` is the place in the request, never its content."""

    rejection: Rejection
    field: str


class Payment(Struct, frozen=True, gc=False):
    """What is due, and when; `amount` is a decimal string."""

    amount: str
    currency: str
    due_date: dt.date

    def __repr__(self) -> str:
        return "Payment(...)"


class Facts(Struct, frozen=True, gc=False):
    """What a text may say.  `today` and `as_of` are in the borrower's own zone; `amount` is a decimal string.

    `also` are the other payments that the same message tells of.
    """

    lender: str
    amount: str
    currency: str
    due_date: dt.date
    as_of: dt.datetime
    today: dt.date
    name: str | None = None
    params: Mapping[str, str] = {}
    also: tuple[Payment, ...] = ()

    def __repr__(self) -> str:
        return f"Facts({self.lender}, ...)"


class Rendered(Struct, frozen=True, gc=False):
    """A text ready to send.  `slots` are the values as shown, by name, for a provider's own template.

    On push and voice `slots` holds nothing that tells of a debt.  `segments` is 0 where a channel has none.
    """

    text: str
    title: str | None
    segments: int
    encoding: Encoding | None
    template_version: str
    locale: str
    slots: Mapping[str, str | int]

    def __repr__(self) -> str:
        return f"Rendered({self.template_version}, {self.locale}, {self.segments} segments)"


class Catalogue:
    """Every template by name.  Immutable; safe to share."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)

    @classmethod
    def load(cls, path: Path = DEFAULT_TEMPLATES) -> Catalogue:
        """Reads, compiles, lints and tries out every template below `path`.

        Raises TemplateError with every problem of every file at once.
        """
        return cls(load_entries(path))

    @property
    def versions(self) -> dict[str, str]:
        """Template name to its version: the number in template.yaml and a digest of the files."""
        return {name: entry.version for name, entry in self._entries.items()}

    def slots(self, template: str) -> frozenset[str]:
        """The names that a template takes from outside."""
        entry = self._entries.get(template)
        return frozenset() if entry is None else frozenset(entry.slots)

    def speaks(self, template: str, locale: str) -> bool:
        """Whether the template has words in this locale, or in what it is of."""
        entry = self._entries.get(template)
        return entry is not None and entry.resolve(locale, None) is not None

    def covers(self, template: str, stage: Stage, channels: Iterable[Channel]) -> Problem | None:
        """What is missing for a stage by these channels, whatever the request says; None when nothing is."""
        entry = self._entries.get(template)
        if entry is None:
            return Problem(Rejection.UNKNOWN_TEMPLATE, "template")
        if stage not in entry.stages:
            return Problem(Rejection.UNKNOWN_TEMPLATE, "stage")
        if not entry.channels.issuperset(channels):
            return Problem(Rejection.UNKNOWN_TEMPLATE, "contacts")
        return None

    def check(
        self,
        template: str,
        stage: Stage,
        locale: str,
        channels: Iterable[Channel],
        params: Mapping[str, str],
        default_locale: str | None = None,
    ) -> Problem | None:
        """What is wrong with a request, or None when every channel's text can be made from it.

        `default_locale` is the lender's; without one a locale that no template speaks is refused.
        """
        found = self._find(template, stage, locale, channels, params, default_locale)
        if isinstance(found, Problem):
            return found
        entry, _ = found
        for name, value in params.items():
            slot = entry.slots.get(name)
            if slot is None:
                return Problem(Rejection.BAD_PARAMS, "params")  # an unknown name may be anything: it is not repeated
            if slot.clean(value) is None:
                return Problem(Rejection.BAD_PARAMS, f"params.{name}")
        return None

    def render(
        self,
        template: str,
        stage: Stage,
        locale: str,
        channel: Channel,
        facts: Facts,
        default_locale: str | None = None,
    ) -> Rendered | Problem:
        """The text, or why it cannot be made.

        A request that passed `check` can still fail here: BAD_DATE when the text would count days that are not so (a
        "due in n days" on or after the due date, an "n days overdue" before it), BAD_AMOUNT when the amount is no
        decimal, and everything `check` knows when the templates have changed since.
        """
        found = self._find(template, stage, locale, (channel,), facts.params, default_locale)
        if isinstance(found, Problem):
            return found
        entry, written = found
        part = entry.parts[stage, written, channel]
        values = _values(entry, entry.locales[written], channel, facts, discreet=channel in DISCREET_CHANNELS)
        if isinstance(values, Problem):
            return values
        if not part.slots <= values.keys():
            return Problem(Rejection.BAD_DATE, "debt.due_date")  # only a count of days can be missing here
        body = part.text.render(values)
        encoding, pieces = segments.count(body) if channel is Channel.SMS else (None, 0)
        if pieces > entry.max_segments:
            return Problem(Rejection.BAD_PARAMS, "params")
        return Rendered(
            text=body,
            title=part.title.render(values) if part.title else None,
            segments=pieces,
            encoding=encoding,
            template_version=entry.version,
            locale=written,
            slots=values,
        )

    def dialogue(self, template: str, stage: Stage, rendered: Rendered, facts: Facts) -> Dialogue | None:
        """What a call may say beside `rendered`, a voice text, to whom it belongs; None where it cannot be asked.

        It cannot where the template has no dialogue, where there is no name to ask for, and where what would be told is
        no longer so: the discreet text is always true.
        """
        entry = self._entries[template]
        told, locale = entry.told.get((stage, rendered.locale)), entry.locales[rendered.locale]
        name = _shown_name(entry, Channel.VOICE, facts)
        if told is None or locale.call is None or name is None:
            return None
        values = _values(entry, locale, Channel.VOICE, facts, discreet=False)
        if isinstance(values, Problem) or not (told.debt.slots | told.ways.slots) <= values.keys():
            return None
        call = locale.call
        return Dialogue(
            locale=rendered.locale,
            identity=call.ask(facts.lender, name),
            discreet=rendered.text,
            debt=told.debt.text.render(values),
            ways=told.ways.text.render(values),
            menu=call.menu,
            not_me=call.not_me,
            call_back=call.call_back,
            stopped=call.stopped,
            goodbye=call.goodbye,
        )

    def _find(
        self,
        template: str,
        stage: Stage,
        locale: str,
        channels: Iterable[Channel],
        params: Mapping[str, str],
        default_locale: str | None,
    ) -> tuple[Entry, str] | Problem:
        """The template and the name of the locale to write in."""
        missing = self.covers(template, stage, channels)
        if missing is not None:
            return missing
        entry = self._entries[template]
        written = entry.resolve(locale, default_locale)
        if written is None:
            return Problem(Rejection.UNKNOWN_LOCALE, "borrower.locale")
        if not entry.required <= params.keys():
            return Problem(Rejection.BAD_PARAMS, f"params.{min(entry.required - params.keys())}")
        return entry, written


def _shown_name(entry: Entry, channel: Channel, facts: Facts) -> str | None:
    """A name that cannot be shown safely is left out: the person is still addressed, politely."""
    name = text.name(facts.name, NAME_LENGTH) if facts.name else None
    return None if name is None or entry.words[channel].find(name) else name


def _others(locale: Locale, also: Sequence[Payment]) -> str:
    shown = [(locale.show_amount(each.amount, each.currency), locale.show_date(each.due_date)) for each in also]
    assert locale.others is not None or not also  # no plan is taken for a template that could not list them
    return "" if locale.others is None else locale.others.list([(a or "", d) for a, d in shown], ALSO_LENGTH)


def _values(
    entry: Entry, locale: Locale, channel: Channel, facts: Facts, *, discreet: bool
) -> dict[str, str | int] | Problem:
    name = _shown_name(entry, channel, facts)
    values: dict[str, str | int] = {
        "lender": facts.lender,
        "name": name or "",
        "greeting": locale.greet(name),
        "opt_out": locale.opt_out[channel],
    }
    for slot_name, slot in entry.slots.items():
        if discreet and not slot.discreet:
            continue
        given = facts.params.get(slot_name)
        shown = "" if given is None else slot.show(given, locale, facts.currency)
        if shown is None:
            return Problem(Rejection.BAD_PARAMS, f"params.{slot_name}")
        values[slot_name] = shown
    if discreet:
        return values
    amount = locale.show_amount(facts.amount, facts.currency)
    if amount is None:
        return Problem(Rejection.BAD_AMOUNT, "debt.amount")
    values["amount"] = amount
    values["due_date"] = locale.show_date(facts.due_date)
    values["as_of"] = locale.show_moment(facts.as_of)
    values["also"] = _others(locale, facts.also)
    days = (facts.due_date - facts.today).days
    if days > 0:
        values["days_left"] = days
    elif days < 0:
        values["days_overdue"] = -days
    return values
