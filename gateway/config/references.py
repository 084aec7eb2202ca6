"""Secrets by reference: `env:NAME` or `file:/path`, read at every load."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr

from gateway.config.problems import Path

_REFERENCE: Final = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|file:(?P<path>/.+)")
_LARGEST_FILE: Final = 64 * 1024


def is_reference(value: object) -> bool:
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


class Unavailable(Exception):
    """The reference leads nowhere; the message says why and holds no content."""


def resolve(reference: str, environ: Mapping[str, str]) -> str:
    """What `reference` stands for; a file's last line ends are not part of it.  Raises Unavailable."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise Unavailable("is not a reference")
    if match["name"] is not None:
        found = environ.get(match["name"])
        if found is None:
            raise Unavailable(f"the variable {match['name']} is not set")
    else:
        found = _read(pathlib.Path(match["path"]))
    if not found.strip():
        raise Unavailable("is empty")
    return found


def _read(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise Unavailable("the file is larger than 64 KiB")
        return content.decode().rstrip("\r\n")
    except OSError as error:
        raise Unavailable(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unavailable("the file is not UTF-8") from None


def file_of(reference: str) -> pathlib.Path | None:
    """The file that a reference names, None when it names a variable."""
    match = _REFERENCE.fullmatch(reference)
    return None if match is None or match["path"] is None else pathlib.Path(match["path"])


def secrets_of(kind: Any, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every scalar of the tree `value` that stands where the type `kind` has a secret."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType, Annotated):
        for arg in args:
            yield from secrets_of(arg, value, path)
    elif isinstance(value, list) and origin is not None:
        for index, item in enumerate(value):
            for arg in args:
                yield from secrets_of(arg, item, (*path, index))
    elif isinstance(value, dict) and origin is not None:
        for key, item in value.items():
            yield from secrets_of(args[-1], item, (*path, key))
    elif isinstance(kind, type) and issubclass(kind, SecretStr | SecretBytes):
        if isinstance(value, str | int | float):
            yield path, value
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, dict):
        for name, field in kind.model_fields.items():
            if name in value:
                yield from secrets_of(field.annotation, value[name], (*path, name))


def replace(tree: Any, path: Path, value: Any) -> None:
    """Puts `value` into the tree at a path that `secrets_of` gave."""
    *parents, last = path
    for part in parents:
        tree = tree[part]
    tree[last] = value


def references_in(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of the references that are left."""
    if is_reference(value):
        yield path
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from references_in(item, (*path, key))
