"""Reading files of requests: JSON (one object or an array of them), JSON lines, CSV with dotted column names.

Every row keeps its file and line, so that a problem can be found, and no content of a file raises: what cannot be read
is a problem.  Nothing here knows what a request is.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LINES: Final = frozenset({".jsonl", ".ndjson"})
_BLANK: Final = " \t\r\n"
_MOST_DOTS: Final = 31  # in a column's name
_TOO_DEEP: Final = "is nested too deeply"
_INDEX: Final = re.compile(r"[0-9]{1,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a file, or why it is none: exactly one of `value` and `problem` is there."""

    file: Path
    line: int
    value: dict[str, Any] | None = None
    problem: str | None = None

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def rows(file: Path) -> Iterator[Row]:
    """The rows of a file, by its ending.  A file that cannot be read is one problem at its line 0."""
    suffix = file.suffix.lower()
    try:
        if suffix in LINES:
            yield from _lines(file)
        elif suffix == ".csv":
            yield from _table(file)
        elif suffix == ".json":
            yield from _document(file)
        else:
            yield Row(file, 0, problem="must end in .json, .jsonl, .ndjson or .csv")
    except OSError as error:
        yield Row(file, 0, problem=f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        yield Row(file, 0, problem="is not UTF-8")


def _lines(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, text in enumerate(lines, 1):
            if text.strip():
                yield _row(file, number, text)


def _row(file: Path, line: int, text: str) -> Row:
    try:
        return _object(file, line, _JSON.decode(text))
    except (ValueError, RecursionError) as error:
        return Row(file, line, problem=_why(error))


def _document(file: Path) -> Iterator[Row]:
    """Walks an array element by element, because the decoder alone would not tell where each begins."""
    text = file.read_text(encoding="utf-8-sig")
    at = _skip(text, 0)
    many = text[at : at + 1] == "["
    line, counted = 1, 0
    at = _skip(text, at + 1) if many else at
    if many and text[at : at + 1] == "]":
        return
    while True:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            wrong = error.lineno if isinstance(error, json.JSONDecodeError) else line
            yield Row(file, wrong, problem=_why(error))
            return
        yield _object(file, line, value)
        at = _skip(text, at)
        if not many or text[at : at + 1] != ",":
            break
        at = _skip(text, at + 1)
    end = _skip(text, at + 1) if many else at
    if (many and text[at : at + 1] != "]") or end < len(text):
        yield Row(file, text.count("\n", 0, at) + 1, problem="is not JSON: an array that ends, or one object")


def _table(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            names = next(reader, [])
            if len(set(names)) < len(names) or not all(names):
                yield Row(file, 1, problem="every column needs a name of its own")
                return
            if below := next((name for name in names if any(name.startswith(f"{each}.") for each in names)), None):
                yield Row(file, 1, problem=f"column {below} is part of another column")
                return
            if any(name.count(".") > _MOST_DOTS for name in names):
                yield Row(file, 1, problem=_TOO_DEEP)
                return
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(names):
                    yield Row(file, reader.line_num, problem=f"has {len(cells)} cells, the header {len(names)}")
                    continue
                value: dict[str, Any] = {}
                for name, cell in zip(names, cells, strict=True):
                    if cell != "":
                        _put(value, name.split("."), cell)
                yield Row(file, reader.line_num, _arrays(value))
        except csv.Error as error:
            yield Row(file, reader.line_num, problem=f"is not CSV: {error}")


def _put(tree: dict[str, Any], path: list[str], cell: str) -> None:
    *parents, last = path
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = cell


def _arrays(value: Any) -> Any:
    """Objects whose keys are 0, 1, 2... become arrays: contacts.0.channel, contacts.1.channel."""
    if not isinstance(value, dict):
        return value
    made = {name: _arrays(item) for name, item in value.items()}
    if made and all(_INDEX.fullmatch(name) for name in made):
        return [made[name] for name in sorted(made, key=int)]
    return made


def _object(file: Path, line: int, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(file, line, value)
    return Row(file, line, problem="is not a JSON object")


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _BLANK:
        at += 1
    return at


def _why(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    return f"is not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("has a key twice in one object")
    return made


def _no_number(name: str) -> Any:
    """Python would take NaN and Infinity, which no other reader does."""
    raise ValueError(f"is not JSON: {name}")


_JSON: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
