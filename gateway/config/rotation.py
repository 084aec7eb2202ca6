"""What of a configuration may change while the gateway runs: secrets, their lists, and what goes with them.

Found by type, as secrets are, in the trees before any reference is followed: a part that rotates is taken as it is
written now, and everything else stays as it was when the gateway started.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr

from gateway.config.problems import Path
from gateway.config.provider import Provider
from gateway.config.references import is_reference
from gateway.config.sources import Tree
from providers.contract import PUBLIC_HALF, ProviderSettings

Kinds = Mapping[str, type[ProviderSettings]]

_ABSENT: Final = object()


def rotated(kind: type[BaseModel], was: Tree, now: Tree, kinds: Kinds) -> tuple[Tree, list[Path]]:
    """`was` with the rotating parts of `now`, and the paths of all else that differs.

    `now` is valid by itself; `kinds` are the settings of each provider of `was`.
    """
    rotation = _Rotation(kinds)
    tree = rotation.section(kind, was, now, ())
    return copy.deepcopy(tree), sorted(set(rotation.others), key=str)


class _Rotation:
    def __init__(self, kinds: Kinds) -> None:
        self.others: list[Path] = []
        self._kinds = kinds

    def section(self, kind: type[BaseModel], was: Tree, now: Tree, path: Path) -> Tree:
        mixed: Tree = {}
        for name in {**was, **now}:
            field = kind.model_fields.get(name)
            before, after, at = was.get(name, _ABSENT), now.get(name, _ABSENT), (*path, name)
            if field is None:
                value = self._kept(before, after, at)
            elif kind is Provider and name == "settings" and path[-1] in self._kinds:
                value = self._value(self._kinds[str(path[-1])], before, after, at)
            elif _rotates(field.annotation, field.metadata):
                value = after
            else:
                value = self._value(field.annotation, before, after, at)
            if value is not _ABSENT:
                mixed[name] = value
        return mixed

    def _value(self, kind: Any, was: Any, now: Any, path: Path) -> Any:
        for each in _plain(kind):
            if isinstance(was, dict) and isinstance(now, dict):
                if isinstance(each, type) and issubclass(each, BaseModel):
                    return self.section(each, was, now, path)
                if get_origin(each) is dict:
                    return self._mapping(get_args(each)[-1], was, now, path)
        return self._kept(was, now, path)

    def _mapping(self, kind: Any, was: Tree, now: Tree, path: Path) -> Tree:
        if was.keys() != now.keys():
            self.others.append(path)
        return {name: self._value(kind, was[name], now.get(name, was[name]), (*path, name)) for name in was}

    def _kept(self, was: Any, now: Any, path: Path) -> Any:
        if was != now:
            self.others.append(path)
        return was


def _plain(kind: Any) -> Iterator[Any]:
    """The types a value may have, without what stands around them."""
    if get_origin(kind) in (Union, UnionType):
        for arg in get_args(kind):
            yield from _plain(arg)
    elif get_origin(kind) is Annotated:
        yield from _plain(get_args(kind)[0])
    else:
        yield kind


def _rotates(kind: Any, marks: Iterable[Any] = ()) -> bool:
    """Whether it is a secret, the public half of one, or nothing but secrets."""
    origin, args = get_origin(kind), get_args(kind)
    if any(mark is PUBLIC_HALF for mark in marks):
        return True
    if origin is Annotated:
        return _rotates(args[0], args[1:])
    if origin in (Union, UnionType):
        return all(_rotates(arg) for arg in args if arg is not type(None))
    if origin is dict:
        return _rotates(args[-1])
    if origin in (tuple, list, set, frozenset):
        return all(_rotates(arg) for arg in args if arg is not ...)
    return isinstance(kind, type) and issubclass(kind, SecretStr | SecretBytes)


def public_halves_of(kind: type[BaseModel], tree: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every reference that stands where the type `kind` has the public half of a secret."""
    if not isinstance(tree, dict):
        return
    for name, field in kind.model_fields.items():
        value = tree.get(name)
        if is_reference(value) and _rotates(field.annotation, field.metadata) and not _is_secret(field.annotation):
            yield (*path, name), str(value)
        for each in _plain(field.annotation):
            if isinstance(each, type) and issubclass(each, BaseModel):
                yield from public_halves_of(each, value, (*path, name))


def _is_secret(kind: Any) -> bool:
    return any(isinstance(each, type) and issubclass(each, SecretStr | SecretBytes) for each in _plain(kind))
