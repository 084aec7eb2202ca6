"""docs/guarantees.md names the tests that provoke each fault: they exist, and no fault is without one."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.faults.scenarios import SCENARIOS

TESTS: Final = Path(__file__).parents[1]
GUARANTEES: Final = TESTS.parent / "docs" / "guarantees.md"
COLUMNS: Final = 5
STORY: Final = re.compile(r"faults/test_scenarios\.py::test_scenario\[(.+)\]")
LIST: Final = [f"K{number}" for number in range(1, 35)]


@dataclass(frozen=True)
class Row:
    number: str
    fault: str
    expected: str
    tests: tuple[str, ...]  # file::test
    runs_in: str


def rows(text: str) -> list[Row]:
    """The table of faults; raises ValueError where a row is not whole."""
    _, heading, section = text.partition("\n## Faults, in words\n")
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    if not heading or not lines:
        raise ValueError("no table")
    return [row(line) for line in lines]


def row(line: str) -> Row:
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if len(cells) != COLUMNS:
        raise ValueError(f"{len(cells)} columns: {line}")
    number, fault, expected, shown_by, runs_in = cells
    tests, file = [], ""
    for name in re.findall(r"`([^`]*::[^`]+)`", shown_by):
        file, _, test = (name if not name.startswith("::") else f"{file}{name}").partition("::")
        tests.append(f"{file}::{test}")
    return Row(number, fault, expected, tuple(tests), runs_in)


@cache
def named_in(file: str) -> frozenset[str]:
    """Names of the tests in a file below `tests/`, those in classes included."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(each.name for each in functions if each.name.startswith("test_"))


def missing(each: Row) -> list[str]:
    """What the row names and is not there."""
    found = []
    for test in each.tests:
        file, _, name = test.partition("::")
        story = STORY.fullmatch(test)
        known = (TESTS / file).is_file() and name.partition("[")[0] in named_in(file)
        if not known or ("[" in name and (story is None or story[1] not in SCENARIOS)):
            found.append(test)
    return found


ROWS: Final = rows(GUARANTEES.read_text(encoding="utf-8"))


@pytest.mark.parametrize("each", ROWS, ids=[each.number or each.fault[:40] for each in ROWS])
def test_every_fault_has_its_tests(each: Row) -> None:
    assert each.fault
    assert each.expected
    assert each.tests
    assert missing(each) == []
    assert each.runs_in in ("test", "test, soak", "soak")
    stories = [story[1] for test in each.tests if (story := STORY.fullmatch(test))]
    # A story is told in full by the soak, and what has no other test only there.
    in_test = len(stories) < len(each.tests) or any(SCENARIOS[name].in_test for name in stories)
    assert each.runs_in == "soak" or in_test
    assert each.runs_in == "test" or stories or "soak" in str(each.tests)
    assert each.runs_in != "test" or not stories


def test_no_fault_of_the_list_is_without_a_row() -> None:
    assert [each.number for each in ROWS if each.number] == LIST


def test_every_story_is_some_faults() -> None:
    told = Counter(story[1] for each in ROWS for test in each.tests if (story := STORY.fullmatch(test)))
    assert told == Counter(list(SCENARIOS))


@pytest.mark.parametrize(
    "shown_by",
    [
        "`unit/test_guarantees.py::test_that_is_not_there`",
        "`unit/no_such_file.py::test_every_fault_has_its_tests`",
        "`faults/test_scenarios.py::test_scenario[no-such-story]`",
        "`unit/test_guarantees.py::test_every_story_is_some_faults`, `::test_that_is_not_there`",
    ],
)
def test_what_is_not_there_is_found(shown_by: str) -> None:
    assert missing(row(f"| K1 | a | b | {shown_by} | test |")) != []
