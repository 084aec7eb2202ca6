"""Reads templates from files.  A template that could say something wrong, too much or too long does not load.

locales.yaml                                     how each locale writes dates and amounts, greets and tells to stop
wording.yaml                                     more words that may not be used (optional)
<template>/template.yaml                         version, stages, channels, locales, slots
<template>/<stage>/<locale>/<channel>.j2         one line; a push has its title above it and `---` between them
<template>/<stage>/<locale>/voice.debt.j2        with `dialogue: true`: what a call tells who has said that it is him,
<template>/<stage>/<locale>/voice.ways.j2        and the ways to pay
"""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.content.entry import Entry, Part, Told
from gateway.content.formats import Locale
from gateway.content.grammar import Text, compile_text
from gateway.content.proof import faults_of, faults_of_locale, faults_of_told
from gateway.content.slots import BUILT_IN, Slot, SlotSpec
from gateway.content.wording import SEED, WordLists, Words, compile_words
from schemas.vocabulary import Channel, Stage

T = TypeVar("T")


class TemplateError(Exception):
    """The templates cannot be used.  `problems` are all of them, each with its file below the templates' folder."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class TemplateSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """template.yaml.  `max_segments` bounds every SMS of the template, whatever its slots hold.

    With `dialogue` a call may ask who listens, by a provider that can, and tell him more than the channel's own text.
    """

    version: Annotated[int, Meta(ge=1)]
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]
    channels: Annotated[tuple[Channel, ...], Meta(min_length=1)]
    locales: Annotated[tuple[str, ...], Meta(min_length=1)]
    max_segments: Annotated[int, Meta(ge=1, le=10)]
    dialogue: bool = False
    slots: dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")], SlotSpec] = {}


def load_entries(root: Path) -> dict[str, Entry]:
    """Every template below `root` by name.  Raises TemplateError."""
    loader = _Loader(root)
    entries = {
        path.parent.name: entry
        for path in sorted(root.glob("*/template.yaml"))
        if (entry := loader.template(path.parent)) is not None
    }
    if not entries and not loader.problems:
        loader.problems.append("no template: */template.yaml is missing")
    if loader.problems:
        raise TemplateError(loader.problems)
    return entries


class _Loader:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self.locales = self._yaml(root / "locales.yaml", dict[str, Locale]) or {}
        lists = [WordLists()]
        for path in (SEED, root / "wording.yaml"):
            if path is SEED or path.exists():
                lists.append(self._yaml(path, WordLists) or WordLists())
        self.forbidden, self.telling = compile_words(lists)

    def template(self, folder: Path) -> Entry | None:
        spec = self._yaml(folder / "template.yaml", TemplateSpec)
        if spec is None:
            return None
        before = len(self.problems)
        known = self._known_locales(folder, spec)
        slots = self._slots(folder, spec)
        parts = {}
        used: set[str] = set()
        expected = {folder / "template.yaml"}
        for stage, locale, channel in product(spec.stages, known, spec.channels):
            path = folder / stage / locale / f"{channel}.j2"
            expected.add(path)
            part = self._part(path, channel)
            if part is None:
                continue
            faults = faults_of(part, stage, channel, known[locale], slots, self._words(channel), spec.max_segments)
            for fault in faults:
                self._report(path, fault)
            parts[stage, locale, channel] = part
            used |= part.slots
        told = {}
        for stage, locale in product(spec.stages, known) if spec.dialogue else ():
            pieces = [
                self._told(folder / stage / locale / name, stage, known[locale], slots, expected, used)
                for name in ("voice.debt.j2", "voice.ways.j2")
            ]
            debt, ways = pieces
            if debt is not None and ways is not None:
                told[stage, locale] = Told(debt, ways)
        if spec.dialogue and Channel.VOICE not in spec.channels:
            self._report(folder / "template.yaml", "has a dialogue and no channel voice")
        for path in sorted(set(folder.rglob("*.j2")) - expected):
            self._report(path, "is for a stage, locale or channel that template.yaml does not list")
        if len(self.problems) == before:  # else the text that uses it may be the one with a fault
            for name in sorted(spec.slots.keys() - used):
                self._report(folder / "template.yaml", f"slot {name} is used by no text")
        names = {other.lower(): name for name, locale in known.items() for other in (*locale.also, name)}
        return Entry(
            version=f"{spec.version}-{self._digest(expected)}",
            stages=frozenset(spec.stages),
            channels=frozenset(spec.channels),
            max_segments=spec.max_segments,
            slots=slots,
            required=frozenset(name for name, slot in spec.slots.items() if not slot.optional),
            locales=known,
            names=names,
            parts=parts,
            told=told,
            words={channel: self._words(channel) for channel in spec.channels},
        )

    def _known_locales(self, folder: Path, spec: TemplateSpec) -> dict[str, Locale]:
        known = {}
        for name in spec.locales:
            locale = self.locales.get(name)
            if locale is None:
                self._report(folder / "template.yaml", f"locale {name} is not in locales.yaml")
            elif faults := faults_of_locale(locale, spec.channels, self.telling if spec.dialogue else None):
                for fault in faults:
                    self._report(self.root / "locales.yaml", f"{name}: {fault}")
            else:
                known[name] = locale
        return known

    def _slots(self, folder: Path, spec: TemplateSpec) -> dict[str, Slot]:
        for name in sorted(spec.slots.keys() & BUILT_IN):
            self._report(folder / "template.yaml", f"slot {name} is built in and cannot be declared")
        # A value may stand in any text of the template, so the strictest list that applies to one applies to all.
        words = self.telling if set(spec.channels) - {Channel.SMS} else self.forbidden
        return {name: Slot(slot, words) for name, slot in spec.slots.items()}

    def _part(self, path: Path, channel: Channel) -> Part | None:
        source = self._read(path)
        if source is None:
            return None
        pieces = source.removesuffix("\n").split("\n---\n")
        if len(pieces) != (2 if channel is Channel.PUSH else 1):
            self._report(path, "a push needs a title, a line `---` and a text; other channels have one text only")
            return None
        texts: list[Text] = []
        for piece in pieces:
            compiled = compile_text(piece)
            if isinstance(compiled, str):
                self._report(path, compiled)
                return None
            texts.append(compiled)
        title = texts[0] if len(texts) == 2 else None
        return Part(texts[-1], title, frozenset().union(*(text.slots for text in texts)))

    def _told(
        self, path: Path, stage: Stage, locale: Locale, slots: dict[str, Slot], expected: set[Path], used: set[str]
    ) -> Part | None:
        """A text for the borrower's own ears: it may tell of the debt."""
        expected.add(path)
        part = self._part(path, Channel.VOICE)
        if part is not None:
            used |= part.slots
            for fault in faults_of_told(part, stage, locale, slots, self.forbidden):
                self._report(path, fault)
        return part

    def _words(self, channel: Channel) -> Words:
        return self.forbidden if channel is Channel.SMS else self.telling

    def _digest(self, paths: set[Path]) -> str:
        digest = hashlib.sha256()
        for path in sorted({*paths, self.root / "locales.yaml"}):
            if path.exists():
                content = path.read_bytes()
                digest.update(f"{path.relative_to(self.root).as_posix()} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:8]

    def _yaml(self, path: Path, type_: type[T]) -> T | None:
        source = self._read(path)
        if source is None:
            return None
        try:
            return msgspec.yaml.decode(source, type=type_)
        except msgspec.MsgspecError as error:
            self._report(path, str(error))
            return None

    def _read(self, path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._report(path, "is missing")
        except UnicodeDecodeError:
            self._report(path, "is not UTF-8")
        return None

    def _report(self, path: Path, fault: str) -> None:
        shown = path.relative_to(self.root) if path.is_relative_to(self.root) else path.name
        line = f"{shown}: {fault}"
        if line not in self.problems:  # two templates may share a file's fault
            self.problems.append(line)
