"""Loading: read, put the secrets in, check each part and then all together.  All problems are told at once.

Loading again, for a gateway at work, takes what rotates as it is now, and everything else as it was at the start.
"""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import SecretStr, TypeAdapter, ValidationError

from gateway.cadence.loading import PACKAGED, CadenceError, Cadences
from gateway.cadence.loading import load as load_cadences
from gateway.config.allowlist import read_indexes
from gateway.config.brakes import Brakes
from gateway.config.checks import Draft, check
from gateway.config.model import Config, Dispatch, Lender
from gateway.config.outbound import Outbound
from gateway.config.problems import ConfigError, Path, Problem, ProblemReason, dotted, from_validation, problem
from gateway.config.provider import Provider
from gateway.config.references import Unavailable, is_reference, references_in, replace, resolve, secrets_of
from gateway.config.rotation import Kinds, held_back, public_halves_of, rotated
from gateway.config.sources import Tree, merge, read_variables, read_yaml
from gateway.content import DEFAULT_TEMPLATES, TemplateError
from gateway.content.entry import Entry
from gateway.content.loading import load_entries
from providers.catalog import discover
from providers.contract import Adapter, ProviderSettings
from schemas.vocabulary import Mode

T = TypeVar("T")

_SHORTEST_HIDDEN: Final = 4  # a shorter secret would blank out half of every message


def load(path: pathlib.Path, environ: Mapping[str, str], adapters: Mapping[str, Adapter] | None = None) -> Config:
    """The configuration of the file under the environment's overrides, with every secret in place.

    `adapters` are those that may be named; all there are, when not given.  Raises ConfigError with every problem.
    """
    loading = _Loading(environ, discover() if adapters is None else adapters)
    config = loading.run(path)
    if config is None or loading.problems:
        raise ConfigError(loading.told())
    return config


@dataclass(frozen=True, slots=True)
class Rotated:
    """A configuration with the secrets of now.  `unapplied` are the keys that differ as well and wait for a restart."""

    config: Config
    unapplied: tuple[str, ...]


def rotate(
    running: Config, path: pathlib.Path, environ: Mapping[str, str], adapters: Mapping[str, Adapter] | None = None
) -> Rotated:
    """`running` with the secrets of now.  Raises ConfigError with every problem.

    The file must be good by itself, else half a file would pass for one with fewer secrets; texts and the allowlist are
    not looked at again.  Where another account or host waits for a restart, its secrets wait too.  A sealing key that
    is another under its old id is a problem, and so is another index key.
    """
    adapters = discover() if adapters is None else adapters
    fresh = _Loading(environ, adapters)
    whole = fresh.whole(path)
    if whole is None or fresh.problems:
        raise ConfigError(fresh.told())
    loading = _Loading(environ, adapters)
    found = loading.rotate(*whole, running)
    if found is None or loading.problems:
        raise ConfigError(loading.told())
    return found


class _Loading:
    def __init__(self, environ: Mapping[str, str], adapters: Mapping[str, Adapter]) -> None:
        self.problems: list[Problem] = []
        self._environ = environ
        self._adapters = adapters
        self._spoiled: dict[str, ProblemReason] = {}  # what else is wrong at these paths follows from the reason
        self._secrets: set[str] = set()
        self._origins: dict[str, str] = {}
        self._settings: dict[str, ProviderSettings] = {}  # those that are valid

    def run(self, path: pathlib.Path) -> Config | None:
        tree = self._tree(path)
        if tree is None:
            return None
        kinds = dict(self._settings_types(tree))
        written = copy.deepcopy(tree)
        self._take_references(tree, kinds)
        self._take_settings(tree, kinds)
        self.problems += check(self._draft(tree, self._templates(tree.get("templates_path")), self._cadences(tree)))
        filed = self._filed(tree)
        config = self._valid(Config, tree, ())
        return None if config is None else config.with_origins(self._origins).with_filed(filed).with_written(written)

    def whole(self, path: pathlib.Path) -> tuple[Tree, Config] | None:
        """The tree with its references, and what it says, checked as a whole."""
        tree = self._tree(path)
        if tree is None:
            return None
        written = copy.deepcopy(tree)
        config = self._checked(tree, dict(self._settings_types(tree)))
        return None if config is None else (written, config)

    def _checked(self, tree: Tree, kinds: Kinds) -> Config | None:
        self._take_references(tree, kinds)
        self._take_settings(tree, kinds)
        self.problems += check(self._draft(tree, None))
        return self._valid(Config, tree, ())

    def rotate(self, now: Tree, meant: Config, running: Config) -> Rotated | None:
        """`meant` is what `now` would be after a restart."""
        kinds = dict(self._settings_types(dict(running.written)))
        mixed = rotated(Config, dict(running.written), now, kinds)
        tree, unapplied = mixed.tree, {dotted(each) for each in mixed.others}
        written = copy.deepcopy(tree)
        for path in mixed.held:
            part = _part_of(running, path)
            if path not in mixed.others:  # else it is told as a whole
                waiting = _part_of(meant, path)
                unapplied.update(dotted((*path, name)) for name in held_back(part, waiting))
                if isinstance(part, SecretStr) and part != waiting:
                    unapplied.add(dotted(path))
            replace(tree, path, part)
            below = dotted(path) + "."
            self._origins |= {at: origin for at, origin in running.origins.items() if at.startswith(below)}
        config = self._checked(tree, kinds)
        if config is None:
            return None
        self.problems += config.sealing.unlike(running.sealing)
        if not config.database.same_place(running.database):
            unapplied.add("database.dsn")
            config = config.model_copy(update={"database": running.database})
        config = config.with_origins(self._origins).with_filed(running.listed).with_written(written)
        return Rotated(config, tuple(sorted(unapplied)))

    def _tree(self, path: pathlib.Path) -> Tree | None:
        """The file under the variables, with no secret left in the open."""
        file, problems = read_yaml(path)
        variables, more = read_variables(self._environ)
        self.problems += problems + more
        if file is None:
            return None
        tree = file
        for _, over in variables:
            tree = merge(tree, over)
        kinds = dict(self._settings_types(tree))
        self._take_literals(file, kinds, None)
        tree = file
        for name, over in variables:
            self._take_literals(over, kinds, f"env:{name}")
            tree = merge(tree, over)
        return tree

    def told(self) -> Iterator[Problem]:
        """Every problem that is not the mere consequence of another, with no secret in it whoever wrote the text."""
        for each in self.problems:
            if self._spoiled.get(each.path, each.reason) is each.reason:
                yield Problem(self._without_secrets(each.path), each.reason, self._without_secrets(each.message))

    # --- secrets --------------------------------------------------------------------------------------------------

    def _settings_types(self, tree: Tree) -> Iterator[tuple[str, type[ProviderSettings]]]:
        """Which adapter a provider has decides which of its settings are secrets, so this comes first."""
        for name, provider in _mapping(tree.get("providers")).items():
            adapter = self._adapters.get(str(_mapping(provider).get("adapter")))
            if adapter is not None:
                yield name, adapter.settings_type

    def _take_literals(self, tree: Tree, kinds: Kinds, origin: str | None) -> None:
        """A secret may stand in a variable, which is its `origin`, but never in the file."""
        for path, value in _secrets_of(tree, kinds):
            if is_reference(value):
                continue
            if origin is None:
                self._spoil(path, ProblemReason.LITERAL_SECRET, "write env:NAME or file:/path, never the secret itself")
            else:
                self._origins[dotted(path)] = origin
            self._put(tree, path, str(value))

    def _take_references(self, tree: Tree, kinds: Kinds) -> None:
        """Only those that no variable has overridden are followed."""
        self._spread(tree, kinds)
        for path, reference in _secrets_of(tree, kinds):
            self._origins[dotted(path)] = reference
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

    def _spread(self, tree: Tree, kinds: Kinds) -> None:
        """In a list of secrets one file may hold several, one a line: so that one file is all there is to rotate."""
        lists = {path[:-1]: None for path, _ in _secrets_of(tree, kinds) if isinstance(path[-1], int)}
        for path in lists:
            spread: list[Any] = []
            for each in _at(tree, path):
                lines = self._lines(each)
                if len(lines) > 1:
                    for line in lines:
                        self._origins[dotted((*path, len(spread)))] = each
                        self._secrets.add(line)
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
        self._secrets.add(secret)

    def _spoil(self, path: Path, reason: ProblemReason, message: str) -> None:
        if self._spoiled.setdefault(dotted(path), reason) is reason:
            self.problems.append(problem(path, reason, message))

    def _without_secrets(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_HIDDEN:
                text = text.replace(secret, "***")
        return text

    # --- parts ----------------------------------------------------------------------------------------------------

    def _take_settings(self, tree: Tree, kinds: Kinds) -> None:
        """Each provider's settings become what its adapter reads; a stand-in where they are wrong."""
        for name, provider in _mapping(tree.get("providers")).items():
            if not isinstance(provider, dict):
                continue
            path: Path = ("providers", name)
            settings = None
            if name in kinds:
                settings = self._valid(kinds[name], provider.get("settings", {}), (*path, "settings"))
                if settings is not None:
                    self._settings[name] = settings
            elif "adapter" in provider:
                message = f"must be one of {', '.join(self._adapters) or 'none'}"
                self.problems.append(problem((*path, "adapter"), ProblemReason.UNKNOWN_ADAPTER, message))
            provider["settings"] = settings or ProviderSettings.model_construct()

    def _draft(self, tree: Tree, entries: Mapping[str, Entry] | None, cadences: Cadences | None = None) -> Draft:
        providers = _mapping(tree.get("providers"))
        return Draft(
            mode=_part(Mode, tree.get("mode")),
            settings=self._settings,
            outbound=_part(Outbound, tree.get("outbound", {})),
            dispatch=_part(Dispatch, tree.get("dispatch", {})),
            brakes=_part(Brakes, tree.get("brakes", {})),
            known=frozenset(_mapping(tree.get("lenders"))),
            lenders=_parts(Lender, _mapping(tree.get("lenders"))),
            providers=_parts(Provider, providers),
            named=frozenset(providers),
            adapters=self._adapters,
            entries=entries,
            cadences=cadences,
        )

    def _templates(self, path: Any) -> Mapping[str, Entry] | None:
        root = DEFAULT_TEMPLATES if path is None else pathlib.Path(str(path))
        if not root.is_dir():
            return None  # the model says so
        try:
            return load_entries(root)
        except TemplateError as error:
            self.problems += [
                problem(("templates_path",), ProblemReason.BAD_TEMPLATES, fault) for fault in error.problems
            ]
        except OSError as error:
            message = f"cannot be read: {error.strerror}"
            self.problems.append(problem(("templates_path",), ProblemReason.BAD_TEMPLATES, message))
        return None

    def _cadences(self, tree: Tree) -> Cadences | None:
        """Those that plans are made with; None where none are made.  They are read in any case: plans may be there."""
        makes_plans = _mapping(tree.get("kafka")).get("repayments_topic") is not None
        path = tree.get("cadences_path")
        root = PACKAGED if path is None else pathlib.Path(str(path))
        if not root.is_dir():
            return None  # the model says so
        try:
            found = load_cadences(root)
            return found if makes_plans else None
        except CadenceError as error:
            self.problems += [
                problem(("cadences_path",), ProblemReason.BAD_CADENCES, fault) for fault in error.problems
            ]
        return None

    def _filed(self, tree: Tree) -> Collection[str]:
        """What the allowlist's file holds."""
        path = _mapping(tree.get("allowlist")).get("file")
        if not isinstance(path, str) or not pathlib.Path(path).is_file():
            return ()  # the model says so
        indexes, problems = read_indexes(pathlib.Path(path))
        self.problems += problems
        return indexes

    def _valid(self, kind: type[T], value: Any, path: Path) -> T | None:
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            self.problems += from_validation(error, path)
            return None


def _secrets_of(tree: Tree, kinds: Kinds) -> list[tuple[Path, Any]]:
    places = list(secrets_of(Config, tree))
    for name, kind in kinds.items():
        path = ("providers", name, "settings")
        settings = _mapping(_mapping(_mapping(tree.get("providers")).get(name)).get("settings"))
        places += [((*path, *below), value) for below, value in secrets_of(kind, settings)]
    return places


def _public_halves_of(tree: Tree, kinds: Kinds) -> list[tuple[Path, str]]:
    places = list(public_halves_of(Config, tree))
    for name, kind in kinds.items():
        settings = _mapping(_mapping(tree.get("providers")).get(name)).get("settings")
        places += public_halves_of(kind, settings, ("providers", name, "settings"))
    return places


def _part_of(config: Config, path: Path) -> Any:
    """None where there is no such part."""
    part: Any = config
    for each in path:
        part = part.get(each) if isinstance(part, Mapping) else getattr(part, str(each), None)
    return part


def _at(tree: Any, path: Path) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _is_unknowable(path: Path, kinds: Kinds) -> bool:
    """Nobody can say what the settings of an unknown adapter mean."""
    return path[:1] == ("providers",) and path[2:3] == ("settings",) and path[1] not in kinds


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _part(kind: type[T], value: Any) -> T | None:
    """A part that is valid by itself; what is wrong with others is told by the whole."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _parts(kind: type[T], values: Mapping[str, Any]) -> dict[str, T]:
    return {name: part for name, value in values.items() if (part := _part(kind, value)) is not None}
