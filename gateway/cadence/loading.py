"""Reads cadences from files.  One that contradicts itself, or that no template can speak for, does not load."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from gateway.cadence.model import Cadence, faults_of

PACKAGED: Final = Path(__file__).parent / "cadences"


class CadenceError(Exception):
    """The cadences cannot be used.  `problems` are all of them, each with its file below the cadences' folder."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Cadences:
    """Every version of every cadence; the versions of one are in the order of their effective dates.

    `kept` are versions without a file: no plan is made with them any more, those that were go on.
    """

    by_name: Mapping[str, tuple[Cadence, ...]]
    kept: Mapping[tuple[str, int], Cadence] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Cadence]:
        """With those that are only kept."""
        for versions in self.by_name.values():
            yield from versions
        yield from self.kept.values()

    def along_with(self, kept: Collection[Cadence]) -> Cadences:
        """Raises CadenceError for one that is here, too, but says something else of its plans."""
        problems = []
        more = dict(self.kept)
        for each in kept:
            here = self.version(each.name, each.version)
            if here is None:
                more[each.name, each.version] = each
            elif (here.occasions, here.grace_days) != (each.occasions, each.grace_days):
                problems.append(f"{each}: is not what its running plans were made with: it needs a new version")
        if problems:
            raise CadenceError(problems)
        return replace(self, kept=more)

    def in_force(self, name: str, on: dt.date) -> Cadence | None:
        """The latest version that is effective on that date; None before the first, or of a name nobody has."""
        versions = [each for each in self.by_name.get(name, ()) if each.effective <= on]
        return versions[-1] if versions else None

    def version(self, name: str, version: int) -> Cadence | None:
        """The one a plan was made with."""
        found = (each for each in self.by_name.get(name, ()) if each.version == version)
        return next(found, None) or self.kept.get((name, version))


def load(root: Path = PACKAGED) -> Cadences:
    """Every `<name>/<version>.yaml` below `root`.  Raises CadenceError."""
    problems = [f"{each.relative_to(root).as_posix()}: must end in .yaml" for each in sorted(root.glob("*/*.yml"))]
    found: dict[str, list[Cadence]] = {}
    for path in sorted(root.glob("*/*.yaml")):
        shown = path.relative_to(root).as_posix()
        cadence = _read(path, shown, problems)
        if cadence is not None:
            if shown != f"{cadence.name}/{cadence.version}.yaml":
                problems.append(f"{shown}: must be {cadence.name}/{cadence.version}.yaml, by its name and version")
            found.setdefault(cadence.name, []).append(cadence)
    for name, versions in found.items():
        versions.sort(key=lambda each: each.version)
        for older, newer in pairwise(versions):
            if newer.effective <= older.effective:
                problems.append(f"{name}/{newer.version}.yaml: effective: must be after that of {older.version}")
    if not found and not problems:
        problems.append("no cadence: */*.yaml is missing")
    if problems:
        raise CadenceError(problems)
    return Cadences({name: tuple(versions) for name, versions in found.items()})


def encode(cadence: Cadence) -> bytes:
    """As it is kept beside the plans that were made with it."""
    return msgspec.json.encode(cadence)


def decode(kept: bytes) -> Cadence:
    """Raises CadenceError for what this version of the service does not understand."""
    try:
        return msgspec.json.decode(kept, type=Cadence)
    except msgspec.MsgspecError as error:
        raise CadenceError([str(error)]) from None


def read(path: Path) -> Cadence:
    """One file by itself, wherever it lies.  Raises CadenceError."""
    problems: list[str] = []
    cadence = _read(path, path.name, problems)
    if cadence is None or problems:
        raise CadenceError(problems)
    return cadence


def _read(path: Path, shown: str, problems: list[str]) -> Cadence | None:
    try:
        cadence = msgspec.yaml.decode(path.read_bytes(), type=Cadence)
    except FileNotFoundError:
        problems.append(f"{shown}: is missing")
    except OSError as error:
        problems.append(f"{shown}: cannot be read: {error.strerror}")
    except (msgspec.MsgspecError, ValueError) as error:  # a date that there is none of is YAML's own ValueError
        problems.append(f"{shown}: {error}")
    else:
        problems += [f"{shown}: {fault}" for fault in faults_of(cadence)]
        return cadence
    return None
