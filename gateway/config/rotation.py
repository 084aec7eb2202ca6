"""What of a configuration may change while the gateway runs: secrets, their lists, and what goes with them.

Found by type, as secrets are, in the trees before any reference is followed: a part that rotates is taken as it is
written now, and everything else stays as it was when the gateway started.  A secret is good for one account at
one place: where the place waits for a restart, its secrets wait with it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr

from gateway.config.connections import Kafka
from gateway.config.outbound import Outbound
from gateway.config.problems import Path
from gateway.config.provider import Provider
from gateway.config.question import Question
from gateway.config.references import is_reference
from gateway.config.sources import Tree
from gateway.config.tracing import Tracing
from providers.contract import PUBLIC_HALF, ProviderSettings

Kinds = Mapping[str, type[ProviderSettings]]

_ABSENT: Final = object()

# What says where secrets go, and these secrets.  They change as one: else the key of a new account would go with the
# name of the old one, or to a host that it is not for.
_TOGETHER: Final[Mapping[type[BaseModel], tuple[str, ...]]] = {
    Provider: ("adapter", "settings"),
    Kafka: ("bootstrap", "security"),
    Tracing: ("endpoint", "ca_file", "headers"),
    Outbound: ("proxy_url", "proxy_credentials"),
    Question: ("url", "token"),
}
_TOKENS: Final = "callback_tokens"


@dataclass(frozen=True, slots=True)
class Mixed:
    """`others` differ and wait for a restart.  `held` are the places whose secrets wait too: what is in force there
    counts, not what its references lead to by now.
    """

    tree: Tree
    others: list[Path]
    held: list[Path]


def rotated(kind: type[BaseModel], was: Tree, now: Tree, kinds: Kinds) -> Mixed:
    """`was` with the rotating parts of `now`.

    `now` is valid by itself; `kinds` are the settings of each provider of `was`.
    """
    rotation = _Rotation(kinds)
    tree = rotation.section(kind, was, now, ())
    return Mixed(copy.deepcopy(tree), sorted(set(rotation.others), key=str), rotation.held)


def held_back(was: Any, now: Any) -> Iterator[str]:
    """Of a part that is held, the rotating keys that have another value in `now`."""
    if isinstance(was, BaseModel) and isinstance(now, BaseModel):
        for name, field in type(was).model_fields.items():
            known = name in type(now).model_fields and _rotates(field.annotation, field.metadata)
            if known and getattr(was, name) != getattr(now, name):
                yield name


class _Rotation:
    def __init__(self, kinds: Kinds) -> None:
        self.others: list[Path] = []
        self.held: list[Path] = []
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
        together = _TOGETHER.get(kind, ())
        if any(other[: len(path) + 1] == (*path, name) for other in self.others for name in together):
            self._hold(mixed, was, together, path)
            # Callback tokens are ours, whatever account they stand beside; but the adapter of before may need one.
            if kind is Provider and not mixed.get(_TOKENS):
                self._kept(was.get(_TOKENS), mixed.get(_TOKENS), (*path, _TOKENS))
                self._hold(mixed, was, (_TOKENS,), path)
        return mixed

    def _hold(self, mixed: Tree, was: Tree, names: Iterable[str], path: Path) -> None:
        for name in names:
            self.held.append((*path, name))
            mixed.pop(name, None)
            if name in was:
                mixed[name] = was[name]

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
        if kind is Provider:  # one that is gone from the file took its secrets along
            self.held += [(*path, name) for name in was if name not in now]
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
