"""How a mistake is planted: a text changed in a function or a statement, another value for a name, a guard let go."""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest.mock import patch


@dataclass(frozen=True)
class Text:
    """What stands once in the source of a function (`Class.method`, too), or in a statement, and what stands there
    instead.
    """

    module: ModuleType
    name: str
    old: str
    new: str

    def planted(self) -> Any:
        owner: Any = self.module
        *classes, name = self.name.split(".")
        for each in classes:
            owner = getattr(owner, each)
        found = getattr(owner, name)
        source = found if isinstance(found, str) else textwrap.dedent(inspect.getsource(found))
        if source.count(self.old) != 1:
            raise ValueError(f"{self.module.__name__}.{self.name} has {source.count(self.old)} times: {self.old}")
        changed: Any = source.replace(self.old, self.new)
        if not isinstance(found, str):
            made: dict[str, Any] = {}
            flags = __future__.annotations.compiler_flag
            code = compile(changed, f"<mutant of {self.name}>", "exec", flags=flags, dont_inherit=True)
            exec(code, self.module.__dict__, made)
            changed = made[name]
        return patch.object(owner, name, changed)


@dataclass(frozen=True)
class Value:
    """Something else in the place of a name."""

    owner: Any
    name: str
    value: Any

    def planted(self) -> Any:
        return patch.object(self.owner, self.name, self.value)


@dataclass(frozen=True)
class Loose:
    """A guard of the schema that says yes to everything, so that only the machine's own table is left."""

    function: str

    @property
    def sql(self) -> str:
        kind = "attempt_state" if self.function == "attempt_moves" else "reminder_state"
        return (
            f"create or replace function {self.function}(was {kind}, becomes {kind}) returns boolean "
            "language sql immutable parallel safe as 'select true'"
        )


Change = Text | Value | Loose


@contextmanager
def planted(changes: Sequence[Change]) -> Iterator[None]:
    with ExitStack() as stack:
        for each in changes:
            if not isinstance(each, Loose):
                stack.enter_context(each.planted())
        yield


def loosened(changes: Sequence[Change]) -> list[str]:
    """What must be done to the database beside it."""
    return [each.sql for each in changes if isinstance(each, Loose)]
