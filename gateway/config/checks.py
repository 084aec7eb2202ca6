"""What must fit together across sections.  Works with the parts that are valid by themselves, so that one mistake does
not hide another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.cadence.loading import Cadences
from gateway.cadence.model import Cadence
from gateway.config.brakes import DEFAULT, Brakes
from gateway.config.model import Dispatch, Lender
from gateway.config.outbound import Outbound
from gateway.config.problems import Path, Problem, ProblemReason, problem
from gateway.config.provider import ANY, OnUnknown, Provider
from gateway.config.urls import urls_of
from gateway.content.entry import Entry
from gateway.content.slots import BUILT_IN, DISCREET_BUILT_IN, DISCREET_CHANNELS
from gateway.loopback import is_loopback
from providers.contract import Adapter, ProviderSettings
from schemas.vocabulary import Channel, Mode, Stage

# What a lease must hold beyond the longest send, for the outcome to be recorded.
LEASE_MARGIN_SECONDS: Final = 2.0
_ELSEWHERE: Final = "is not on loopback, as mode simulate needs it: 127.0.0.0/8, ::1 or localhost"


@dataclass(frozen=True, slots=True)
class Draft:
    """The parts of a configuration that are valid by themselves; None is one that is not."""

    mode: Mode | None
    settings: Mapping[str, ProviderSettings]  # of each provider, whatever else is wrong with it
    outbound: Outbound | None
    dispatch: Dispatch | None
    brakes: Brakes | None
    known: Collection[str]  # every lender in the file, valid or not
    lenders: Mapping[str, Lender]
    providers: Mapping[str, Provider]
    named: Collection[str]  # every provider in the file, valid or not
    adapters: Mapping[str, Adapter]
    entries: Mapping[str, Entry] | None
    cadences: Cadences | None = None  # where plans are made


def check(draft: Draft) -> Iterator[Problem]:
    if draft.mode is Mode.SIMULATE:
        for name, settings in draft.settings.items():
            yield from _on_loopback(("providers", name, "settings"), settings)
        ways = {("providers", name): each.outbound for name, each in draft.providers.items()}
        for path, outbound in ({(): draft.outbound} | ways).items():
            yield from _proxy_on_loopback((*path, "outbound", "proxy_url"), outbound)
        for ref, lender in draft.lenders.items():
            if lender.question is not None and not is_loopback(urlsplit(lender.question.url).hostname or ""):
                yield problem(("lenders", ref, "question", "url"), ProblemReason.NOT_LOOPBACK, _ELSEWHERE)
    if draft.brakes is not None:
        yield from _brakes(draft, draft.brakes)
    for ref, lender in draft.lenders.items():
        yield from _lender(draft, ("lenders", ref), lender)
        if draft.cadences is not None:
            yield from _cadences(draft, draft.cadences, ("lenders", ref), lender)
    for name, provider in draft.providers.items():
        path = ("providers", name)
        yield from _lease(draft.dispatch, path, provider)
        adapter = draft.adapters.get(provider.adapter)
        if adapter is not None:
            yield from _abilities(path, provider, adapter)
            if draft.entries is not None:
                yield from _mappings(draft.entries, (*path, "templates"), provider, adapter)
                if adapter.needs_template:
                    yield from _gaps(draft.entries, (*path, "templates"), provider, adapter)


def _on_loopback(path: Path, settings: ProviderSettings) -> Iterator[Problem]:
    """An address that the file leaves out is the vendor's own, and is told at its key as well."""
    for below, url in urls_of(settings):
        if not is_loopback(urlsplit(url).hostname or ""):
            yield problem((*path, *below), ProblemReason.NOT_LOOPBACK, _ELSEWHERE)


def _proxy_on_loopback(path: Path, outbound: Outbound | None) -> Iterator[Problem]:
    """Nothing goes through a proxy in mode simulate.  One elsewhere is told all the same: the file that names it was
    written to reach people.
    """
    proxy = None if outbound is None else outbound.proxy
    if proxy is not None and not is_loopback(proxy[0]):
        yield problem(path, ProblemReason.NOT_LOOPBACK, _ELSEWHERE)


def _brakes(draft: Draft, brakes: Brakes) -> Iterator[Problem]:
    """A quota that names nobody would brake nobody; a cap of spending is kept by prices only."""
    path = ("brakes", "lenders")
    for ref, quota in brakes.lenders.items():
        if ref not in (*draft.known, DEFAULT):
            yield problem((*path, ref), ProblemReason.UNKNOWN_LENDER, "names no lender")
        if quota.spend_per_day is not None and brakes.currency is None:
            message = "needs brakes.currency: the one of every price and cap"
            yield problem((*path, ref, "spend_per_day"), ProblemReason.MISSING, message)
    for ref, lender in draft.lenders.items():
        capped = brakes.of_lender(ref)
        if capped is None or capped.spend_per_day is None:
            continue
        for name in lender.routes.values():
            provider = draft.providers.get(name)
            if provider is not None and provider.price is None:
                message = f"is needed: what lender {ref} spends in a day is bounded"
                yield problem(("providers", name, "price"), ProblemReason.MISSING, message)


def _lender(draft: Draft, path: Path, lender: Lender) -> Iterator[Problem]:
    for channel, name in lender.routes.items():
        at = (*path, "routes", channel.value)
        provider = draft.providers.get(name)
        adapter = draft.adapters.get(provider.adapter) if provider is not None else None
        if name not in draft.named:
            yield problem(at, ProblemReason.UNKNOWN_PROVIDER, "names no provider")
        elif adapter is not None and adapter.channel is not channel:
            yield problem(at, ProblemReason.WRONG_CHANNEL, f"names a provider for {adapter.channel}")
    locale = lender.default_locale
    if locale and draft.entries and not any(entry.resolve(locale, None) for entry in draft.entries.values()):
        yield problem((*path, "default_locale"), ProblemReason.UNKNOWN_LOCALE, "is spoken by no template")


def _cadences(draft: Draft, cadences: Cadences, path: Path, lender: Lender) -> Iterator[Problem]:
    """Every cadence that its plans may be made with is there, and there are words for all of it.

    Of what is due on one day one message tells, so its words must have a place for the rest.
    """
    named = {("cadence",): lender.cadence} | {("cadences", each): name for each, name in lender.cadences.items()}
    for at, name in named.items():
        versions = cadences.by_name.get(name)
        if versions is None:
            message = f"names no cadence; there are {', '.join(sorted(cadences.by_name))}"
            yield problem((*path, *at), ProblemReason.UNKNOWN_CADENCE, message)
            continue
        for cadence in versions if draft.entries is not None else ():
            for occasion in cadence.occasions:
                entry = None if draft.entries is None else draft.entries.get(occasion.template)
                spoken = entry is not None and occasion.stage in entry.stages
                if entry is None or not spoken or not entry.channels >= {rung.channel for rung in occasion.ladder}:
                    message = f"{cadence}, {occasion.name}: no template has words for it"
                    yield problem((*path, *at), ProblemReason.UNKNOWN_TEMPLATE, message)
                elif not entry.lists_others(occasion.stage):
                    message = f"{cadence}, {occasion.name}: an SMS of {occasion.template} has no slot also"
                    yield problem((*path, *at), ProblemReason.UNKNOWN_TEMPLATE, message)
            yield from _listing(draft, cadence, path[-1], lender.routes.get(Channel.SMS))


def _listing(draft: Draft, cadence: Cadence, ref: str | int, name: str | None) -> Iterator[Problem]:
    """A template of the provider's that stands for our SMS shows the rest of the day as well: the rest would count as
    told and never be.
    """
    provider = None if name is None else draft.providers.get(name)
    adapter = None if provider is None else draft.adapters.get(provider.adapter)
    if name is None or provider is None or adapter is None or not adapter.needs_template:
        return
    written = [each for each in cadence.occasions if any(rung.channel is Channel.SMS for rung in each.ladder)]
    spoken = {(each.template, each.stage.value) for each in written}
    for (template, stage, locale), code in provider.mappings().items():
        if "also" not in code.params.values() and any(template == of and stage in (ANY, at) for of, at in spoken):
            message = f"shows no slot also: lender {ref} tells of everything due on a day in one message ({cadence})"
            path = ("providers", name, "templates", template, stage, locale, "params")
            yield problem(path, ProblemReason.MISSING, message)


def _lease(dispatch: Dispatch | None, path: Path, provider: Provider) -> Iterator[Problem]:
    """A lease is renewed at each heartbeat, so just before one it is that much shorter."""
    if dispatch is None:
        return
    needed = dispatch.heartbeat_seconds + provider.total_timeout_seconds + LEASE_MARGIN_SECONDS
    if dispatch.lease_seconds <= needed:
        message = f"needs dispatch.lease_seconds above {needed:g}: heartbeat, this timeout and a margin"
        yield problem((*path, "total_timeout_seconds"), ProblemReason.LEASE_TOO_SHORT, message)


def _abilities(path: Path, provider: Provider, adapter: Adapter) -> Iterator[Problem]:
    stages = ((("on_unknown_stages", stage.value), what) for stage, what in provider.on_unknown_stages.items())
    for at, what in ((("on_unknown",), provider.on_unknown), *stages):
        if what is OnUnknown.RESEND and not adapter.replaces:
            message = f"with {adapter.name} a repeat would be a second message"
            yield problem((*path, *at), ProblemReason.CANNOT_RESEND, message)
        if what is OnUnknown.LOOKUP:
            message = f"{adapter.name} cannot ask what became of a message"
            yield problem((*path, *at), ProblemReason.CANNOT_LOOK_UP, message)
    if adapter.receipts and not provider.callback_tokens:
        message = f"{adapter.name} sends receipts: their path needs a token"
        yield problem((*path, "callback_tokens"), ProblemReason.NO_CALLBACK_TOKEN, message)


def _mappings(entries: Mapping[str, Entry], path: Path, provider: Provider, adapter: Adapter) -> Iterator[Problem]:
    """Every mapping is for a text that exists, signed where it must be, and its parameters are for slots that may be
    shown on the channel.
    """
    for (template, stage, locale), code in provider.mappings().items():
        at = (*path, template, stage, locale)
        entry = entries.get(template)
        if entry is None or adapter.channel not in entry.channels:
            yield problem((*path, template), ProblemReason.UNKNOWN_TEMPLATE, f"is no template for {adapter.channel}")
        elif stage not in (ANY, *entry.stages):
            yield problem(at[:-1], ProblemReason.UNKNOWN_TEMPLATE, "the template has no such stage")
        elif locale not in (ANY, *entry.locales):
            yield problem(at, ProblemReason.UNKNOWN_TEMPLATE, "the template has no such locale")
        else:
            if adapter.needs_sign and code.sign is None:
                message = f"{adapter.name} sends it under a signature: it is missing"
                yield problem((*at, "sign"), ProblemReason.MISSING, message)
            slots = _slots(entry, adapter.channel)
            for parameter, slot in code.params.items():
                if slot not in slots:
                    message = f"is no slot that may be shown on {adapter.channel}; there are {', '.join(sorted(slots))}"
                    yield problem((*at, "params", parameter), ProblemReason.UNKNOWN_SLOT, message)


def _slots(entry: Entry, channel: Channel) -> frozenset[str]:
    if channel in DISCREET_CHANNELS:
        return DISCREET_BUILT_IN | {name for name, slot in entry.slots.items() if slot.discreet}
    return BUILT_IN | entry.slots.keys()


def _gaps(entries: Mapping[str, Entry], path: Path, provider: Provider, adapter: Adapter) -> Iterator[Problem]:
    """Every text the adapter may be asked to send has a template of the provider's."""
    mapped = provider.mappings()
    for template, entry in entries.items():
        texts = [(stage, locale) for stage, locale, channel in entry.parts if channel is adapter.channel]
        missing = [(stage, locale) for stage, locale in texts if not _covers(mapped, template, stage, locale)]
        if missing and len(missing) == len(texts):
            message = f"{adapter.name} needs a template of the provider's for each text of ours"
            yield problem((*path, template), ProblemReason.UNMAPPED_TEMPLATE, message)
            continue
        for stage, locale in missing:
            at = (*path, template, stage.value, locale)
            yield problem(at, ProblemReason.UNMAPPED_TEMPLATE, f"{adapter.name} needs a template here")


def _covers(mapped: Collection[tuple[str, str, str]], template: str, stage: Stage, locale: str) -> bool:
    return any((template, s, w) in mapped for s in (stage.value, ANY) for w in (locale, ANY))
