"""What another version of a cadence would change: in its words, and for the plans it would be kept for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from gateway.cadence.model import Cadence, Occasion
from gateway.cadence.rehearsal import Fate, Line

_SAYS_NOTHING = frozenset({"name", "version", "effective", "about", "occasions"})


class Change(Struct, frozen=True):
    """A value of an occasion (or of the cadence, where `occasion` is empty) that is another; None is no value."""

    occasion: str
    field: str
    was: Any
    becomes: Any


class Move(Struct, frozen=True):
    """One occasion of one instalment that another fate or moment awaits; None where there is no such occasion."""

    was: Line | None
    becomes: Line | None


def changes(old: Cadence, new: Cadence) -> list[Change]:
    """Field by field; an occasion that is only in one of them is one change of its whole."""
    was, becomes = msgspec.to_builtins(old), msgspec.to_builtins(new)
    found = [
        Change("", field, was[field], becomes[field])
        for field in was
        if field not in _SAYS_NOTHING and was[field] != becomes[field]
    ]
    olds, news = _by_name(old.occasions), _by_name(new.occasions)
    for name in [*olds, *(name for name in news if name not in olds)]:
        before, after = olds.get(name), news.get(name)
        if before is None or after is None:
            found.append(Change(name, "", before and before["days"], after and after["days"]))
        else:
            found += [Change(name, each, before[each], after[each]) for each in before if before[each] != after[each]]
    return found


def moves(old: Iterable[Line], new: Iterable[Line]) -> list[Move]:
    """Those of the same facts that are not the same in both rehearsals, in the order of their dates."""
    was = {_identity(each): each for each in old}
    becomes = {_identity(each): each for each in new}
    found = [Move(was.get(each), becomes.get(each)) for each in {**was, **becomes}]
    return sorted((each for each in found if _seen(each.was) != _seen(each.becomes)), key=_when)


def _by_name(occasions: Iterable[Occasion]) -> dict[str, dict[str, Any]]:
    return {each.name: msgspec.to_builtins(each) for each in occasions}


def _identity(line: Line) -> tuple[str, str, str, int, str]:
    return (line.lender, line.borrower, line.debt, line.instalment, line.occasion)


def _seen(line: Line | None) -> tuple[Fate | None, dt.datetime | None, tuple[str, ...], str | None]:
    """What somebody notices of it."""
    return (None, None, (), None) if line is None else (line.fate, line.at, line.channels, line.reason)


def _when(move: Move) -> tuple[dt.date, tuple[str, str, str, int, str]]:
    line = move.becomes or move.was
    assert line is not None
    return (line.date, _identity(line))
