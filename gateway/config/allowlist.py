"""Who may be reached in mode allowlist, as it is written: blind indexes, never addresses."""

from __future__ import annotations

import pathlib
from typing import Annotated, Final

from pydantic import AfterValidator, FilePath

from gateway.allowlist import is_index
from gateway.config.base import Section
from gateway.config.problems import Problem, ProblemReason, misfit, problem

_COMMAND: Final = "`reminder-gateway allowlist` makes them"


def _written(index: str) -> str:
    if not is_index(index):
        raise misfit(ProblemReason.WRONG_VALUE, f"is no index of an address; {_COMMAND}")
    return index


class Allowlist(Section):
    """`indexes` and what stands in `file`, one a line, are listed; # begins a comment.  Nothing listed: nobody."""

    indexes: tuple[Annotated[str, AfterValidator(_written)], ...] = ()
    file: FilePath | None = None


def read_indexes(path: pathlib.Path) -> tuple[frozenset[str], list[Problem]]:
    """What a file lists, and what is wrong with it, by its first such line: what stands there may be an address."""
    at = ("allowlist", "file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        return frozenset(), [problem(at, ProblemReason.UNREADABLE_FILE, f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError:
        return frozenset(), [problem(at, ProblemReason.UNREADABLE_FILE, "is not UTF-8")]
    found = {number: text for number, line in enumerate(lines, 1) if (text := line.partition("#")[0].strip())}
    wrong = [number for number, text in found.items() if not is_index(text)]
    if wrong:
        more = f", nor are {len(wrong) - 1} more" if len(wrong) > 1 else ""
        message = f"line {wrong[0]} is no index of an address{more}; {_COMMAND}"
        return frozenset(), [problem(at, ProblemReason.WRONG_VALUE, message)]
    return frozenset(found.values()), []
