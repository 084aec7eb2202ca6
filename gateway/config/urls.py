"""Where a provider's settings lead: every `Url`, found by the types of its adapter, ours or a third party's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from gateway.config.problems import Path
from providers.contract import Url

_MARK: Final = get_args(Url)[1]


def urls_of(settings: BaseModel) -> Iterator[tuple[Path, str]]:
    """Every text that stands where the type of `settings` has a Url, with its path; defaults too.

    A type that is made of Url, with checks of its own, is one.
    """
    for name, field in type(settings).model_fields.items():
        yield from _found(field.annotation, field.metadata, getattr(settings, name), (name,))


def _found(kind: Any, marks: Iterable[Any], value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    origin, args = get_origin(kind), get_args(kind)
    if hasattr(kind, "__value__"):  # of a `type` statement
        yield from _found(kind.__value__, marks, value, path)
    elif origin is Annotated:
        yield from _found(args[0], (*marks, *args[1:]), value, path)
    elif origin in (Union, UnionType):
        for arg in args:
            yield from _found(arg, marks, value, path)
    elif isinstance(value, BaseModel):
        for below, url in urls_of(value):
            yield (*path, *below), url
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _found(args[-1] if args else Any, (), item, (*path, key))
    elif isinstance(value, str):
        if _MARK in marks:
            yield path, value
    elif isinstance(value, Sequence | frozenset | set):
        by_place = origin is tuple and ... not in args
        for index, item in enumerate(value):
            for arg in args[index : index + 1] if by_place else args:
                yield from _found(arg, (), item, (*path, index))
