"""Where values come from: one YAML file, and environment variables over it (`GATEWAY__KAFKA__BOOTSTRAP=...`).

Both become plain trees of text keys.  A mapping in the environment joins the file's; anything else replaces it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, Final

import yaml
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from gateway.config.model import Config
from gateway.config.problems import Path, Problem, ProblemReason, problem

Tree = dict[str, Any]

PREFIX: Final = "GATEWAY__"
_DELIMITER: Final = "__"


def read_yaml(path: pathlib.Path) -> tuple[Tree | None, list[Problem]]:
    """The file as a tree, None when it cannot be read at all.  Problems name places, never content."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except OSError as error:
        return None, [problem((), ProblemReason.UNREADABLE_FILE, f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError:
        return None, [problem((), ProblemReason.UNREADABLE_FILE, "is not UTF-8")]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        return None, [problem((), ProblemReason.NOT_YAML, f"is not one YAML document{where}")]
    except (yaml.YAMLError, RecursionError):
        return None, [problem((), ProblemReason.NOT_YAML, "is not one YAML document")]
    reader = _Reader()
    tree = {} if root is None else reader.value(root, ())
    if not isinstance(tree, dict):
        return None, [problem((), ProblemReason.NOT_YAML, "must be a mapping")]
    return tree, reader.problems


class _Reader:
    """Nodes to values.  Keys stay as written (`no` is a locale, `1` a key id) and may not come twice."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._scalars = yaml.SafeLoader("")
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._report(path, ProblemReason.NOT_YAML, "contains itself")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.remove(id(node))

    def _mapping(self, node: yaml.Node, path: Path) -> Tree:
        found: Tree = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._report(path, ProblemReason.NOT_YAML, "has a key that is not a plain text")
            elif key.value in found:
                self._report((*path, key.value), ProblemReason.DUPLICATE_KEY, "is written twice")
            else:
                found[key.value] = self.value(item, (*path, key.value))
        return found

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._report(path, ProblemReason.NOT_YAML, "has a tag or a form that is not supported")
            return None

    def _report(self, path: Path, reason: ProblemReason, message: str) -> None:
        self.problems.append(problem(path, reason, message))


class _Variables(Config, BaseSettings):
    """Tells pydantic-settings the shape of the variables; never made."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=_DELIMITER)


class _OneVariable(EnvSettingsSource):
    """One variable by itself, so that a fault is told of the variable that has it."""

    def __init__(self, name: str, text: str) -> None:
        self._one = {name.lower(): text}
        super().__init__(_Variables)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._one


def read_variables(environ: Mapping[str, str]) -> tuple[list[tuple[str, Tree]], list[Problem]]:
    """Each variable that begins with the prefix, with its tree; names count without their case."""
    found: list[tuple[str, Tree]] = []
    problems: list[Problem] = []
    for name, text in sorted(environ.items()):
        if not name.upper().startswith(PREFIX):
            continue
        path = tuple(name[len(PREFIX) :].lower().split(_DELIMITER))
        try:
            tree = _OneVariable(name, text)()
        except SettingsError:
            problems.append(problem(path, ProblemReason.WRONG_VALUE, f"{name} must be JSON"))
            continue
        if tree:
            found.append((name, _keep_text(tree, path, text)))
        else:
            problems.append(problem(path, ProblemReason.UNKNOWN_KEY, f"{name} is for no key"))
    return found, problems


def _keep_text(tree: Tree, path: tuple[str, ...], text: str) -> Tree:
    """Under free keys pydantic-settings reads any text as JSON; a scalar there stays the text it was: 00123, 1e9."""
    *parents, last = path
    inner = tree
    for key in parents:
        inner = inner[key]
    if not isinstance(inner[last], dict | list):
        inner[last] = text
    return tree


def mapping(value: Any) -> dict[str, Any]:
    """What should be one; empty where it is none, which is told elsewhere."""
    return value if isinstance(value, dict) else {}


def merge(base: Tree, over: Tree) -> Tree:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
