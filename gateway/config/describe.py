"""The configuration in force, line by line, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, SecretBytes, SecretStr

from gateway.config.model import Config
from schemas.vocabulary import Mode

_INDEXES: Final = "allowlist.indexes"
_INDEX_KEY: Final = "sealing.index_key"


def describe(config: Config) -> list[tuple[str, str]]:
    """Every key in force, defaults too, with its value; of a secret only where it came from.

    And whether a new one is taken while the gateway runs.
    """
    return list(_rows(config, config, ""))


def reach(config: Config) -> str:
    """Whom this gateway would reach, in words."""
    match config.mode:
        case Mode.SIMULATE:
            return "mode simulate: nobody is reached, every provider is on loopback"
        case Mode.ALLOWLIST:
            return f"mode allowlist: only the addresses listed are reached, {len(config.listed)} of them"
        case Mode.LIVE:
            return "mode live: REAL PEOPLE are reached, every borrower a request names"


def _rows(config: Config, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, SecretStr | SecretBytes):
        origin = config.origin(path)
        yield path, f"*** ({origin}), {_when(path, origin)}"
    elif path == _INDEXES:
        yield path, f"{len(value)} listed"  # as many lines would hide the rest
    elif isinstance(value, BaseModel) or (isinstance(value, dict | tuple | list) and value):
        for name, item in _items(value):
            yield from _rows(config, item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, frozenset | set):
        yield path, ", ".join(sorted(map(str, value)))
    else:
        yield path, "none" if value is None or value in ((), [], {}) else str(value)


def _when(path: str, origin: str) -> str:
    """When another value of a secret is taken; a variable of a living process never changes."""
    if path == _INDEX_KEY:
        return "never changes"
    return "reloads" if origin.startswith("file:") else "needs a restart"


def _items(value: Any) -> Iterator[tuple[object, Any]]:
    if isinstance(value, BaseModel):
        return iter(value)
    return iter(value.items() if isinstance(value, dict) else enumerate(value))
