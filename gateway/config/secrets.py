"""The secrets of a configuration that is being loaded: put in place of their references, and kept out of every word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import SecretStr

from gateway.config.model import Config
from gateway.config.problems import Path, Problem, ProblemReason, dotted, problem
from gateway.config.references import Unavailable, is_reference, references_in, replace, resolve, secrets_of
from gateway.config.rotation import Kinds, public_halves_of
from gateway.config.sources import Tree, mapping

_SHORTEST_HIDDEN: Final = 4  # a shorter secret would blank out half of every message


class Secrets:
    """`origins` is where each secret has come from, by its path."""

    def __init__(self, environ: Mapping[str, str], problems: list[Problem]) -> None:
        """What is wrong with them is added to `problems`, to what is wrong besides."""
        self.origins: dict[str, str] = {}
        self._environ = environ
        self._problems = problems
        self._spoiled: dict[str, ProblemReason] = {}  # what else is wrong at these paths follows from the reason
        self._known: set[str] = set()

    def take_literals(self, tree: Tree, kinds: Kinds, origin: str | None) -> None:
        """A secret may stand in a variable, which is its `origin`, but never in the file."""
        for path, value in _secrets_of(tree, kinds):
            if is_reference(value):
                continue
            if origin is None:
                self._spoil(path, ProblemReason.LITERAL_SECRET, "write env:NAME or file:/path, never the secret itself")
            else:
                self.origins[dotted(path)] = origin
            self._put(tree, path, str(value))

    def take_references(self, tree: Tree, kinds: Kinds) -> None:
        """Only those that no variable has overridden are followed."""
        self._spread(tree, kinds)
        for path, reference in _secrets_of(tree, kinds):
            self.origins[dotted(path)] = reference
            try:
                self._put(tree, path, resolve(reference, self._environ))
            except Unavailable as error:
                self._spoil(path, ProblemReason.SECRET_UNAVAILABLE, str(error))
        for path, reference in _public_halves_of(tree, kinds):
            try:
                replace(tree, path, resolve(reference, self._environ))
            except Unavailable as error:
                self._spoil(path, ProblemReason.SECRET_UNAVAILABLE, str(error))
        for path in references_in(tree):
            if not _is_unknowable(path, kinds):
                message = "only a secret, or what goes with one, is read by reference; set the key itself"
                self._spoil(path, ProblemReason.NOT_A_SECRET, message)

    def told(self) -> Iterator[Problem]:
        """Every problem that is not the mere consequence of another, with no secret in it whoever wrote the text."""
        for each in self._problems:
            if self._spoiled.get(each.path, each.reason) is each.reason:
                yield Problem(self._without_secrets(each.path), each.reason, self._without_secrets(each.message))

    def _spread(self, tree: Tree, kinds: Kinds) -> None:
        """In a list of secrets one file may hold several, one a line: so that one file is all there is to rotate."""
        lists = {path[:-1]: None for path, _ in _secrets_of(tree, kinds) if isinstance(path[-1], int)}
        for path in lists:
            spread: list[Any] = []
            for each in _at(tree, path):
                lines = self._lines(each)
                if len(lines) > 1:
                    for line in lines:
                        self.origins[dotted((*path, len(spread)))] = each
                        self._known.add(line)
                        spread.append(SecretStr(line))
                else:
                    spread.append(each)
            replace(tree, path, spread)

    def _lines(self, reference: Any) -> list[str]:
        """None for what is no file, or cannot be read: that is told when the reference is followed."""
        if not is_reference(reference) or not reference.startswith("file:"):
            return []
        try:
            return [line.strip() for line in resolve(reference, self._environ).splitlines() if line.strip()]
        except Unavailable:
            return []

    def _put(self, tree: Tree, path: Path, secret: str) -> None:
        replace(tree, path, SecretStr(secret))
        self._known.add(secret)

    def _spoil(self, path: Path, reason: ProblemReason, message: str) -> None:
        if self._spoiled.setdefault(dotted(path), reason) is reason:
            self._problems.append(problem(path, reason, message))

    def _without_secrets(self, text: str) -> str:
        for secret in sorted(self._known, key=len, reverse=True):
            if len(secret) >= _SHORTEST_HIDDEN:
                text = text.replace(secret, "***")
        return text


def _secrets_of(tree: Tree, kinds: Kinds) -> list[tuple[Path, Any]]:
    places = list(secrets_of(Config, tree))
    for name, kind in kinds.items():
        path = ("providers", name, "settings")
        settings = mapping(mapping(mapping(tree.get("providers")).get(name)).get("settings"))
        places += [((*path, *below), value) for below, value in secrets_of(kind, settings)]
    return places


def _public_halves_of(tree: Tree, kinds: Kinds) -> list[tuple[Path, str]]:
    places = list(public_halves_of(Config, tree))
    for name, kind in kinds.items():
        settings = mapping(mapping(tree.get("providers")).get(name)).get("settings")
        places += public_halves_of(kind, settings, ("providers", name, "settings"))
    return places


def _at(tree: Any, path: Path) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _is_unknowable(path: Path, kinds: Kinds) -> bool:
    """Nobody can say what the settings of an unknown adapter mean."""
    return path[:1] == ("providers",) and path[2:3] == ("settings",) and path[1] not in kinds
