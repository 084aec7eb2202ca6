"""Loading: read, put the secrets in, check each part and then all together.  All problems are told at once.

Loading again, for a gateway at work, takes what rotates as it is now, and everything else as it was at the start.
"""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

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
from gateway.config.references import replace
from gateway.config.rotation import Kinds, held_back, rotated
from gateway.config.secrets import Secrets
from gateway.config.sources import Tree, mapping, merge, read_variables, read_yaml
from gateway.content import DEFAULT_TEMPLATES, TemplateError
from gateway.content.entry import Entry
from gateway.content.loading import load_entries
from providers.catalog import discover
from providers.contract import Adapter, ProviderSettings
from schemas.vocabulary import Mode

T = TypeVar("T")


def load(path: pathlib.Path, environ: Mapping[str, str], adapters: Mapping[str, Adapter] | None = None) -> Config:
    """The configuration of the file under the environment's overrides, with every secret in place.

    `adapters` are those that may be named; all there are, when not given.  Raises ConfigError with every problem.
    """
    loading = _Loading(environ, discover() if adapters is None else adapters)
    config = loading.run(path)
    if config is None or loading.problems:
        raise ConfigError(loading.secrets.told())
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
        raise ConfigError(fresh.secrets.told())
    loading = _Loading(environ, adapters)
    found = loading.rotate(*whole, running)
    if found is None or loading.problems:
        raise ConfigError(loading.secrets.told())
    return found


class _Loading:
    def __init__(self, environ: Mapping[str, str], adapters: Mapping[str, Adapter]) -> None:
        self.problems: list[Problem] = []
        self.secrets = Secrets(environ, self.problems)
        self._environ = environ
        self._adapters = adapters
        self._settings: dict[str, ProviderSettings] = {}  # those that are valid

    def run(self, path: pathlib.Path) -> Config | None:
        tree = self._tree(path)
        if tree is None:
            return None
        kinds = dict(self._settings_types(tree))
        written = copy.deepcopy(tree)
        self.secrets.take_references(tree, kinds)
        self._take_settings(tree, kinds)
        self.problems += check(self._draft(tree, self._templates(tree.get("templates_path")), self._cadences(tree)))
        filed = self._filed(tree)
        config = self._valid(Config, tree, ())
        if config is None:
            return None
        return config.with_origins(self.secrets.origins).with_filed(filed).with_written(written)

    def whole(self, path: pathlib.Path) -> tuple[Tree, Config] | None:
        """The tree with its references, and what it says, checked as a whole."""
        tree = self._tree(path)
        if tree is None:
            return None
        written = copy.deepcopy(tree)
        config = self._checked(tree, dict(self._settings_types(tree)))
        return None if config is None else (written, config)

    def _checked(self, tree: Tree, kinds: Kinds) -> Config | None:
        self.secrets.take_references(tree, kinds)
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
            self.secrets.origins |= {at: origin for at, origin in running.origins.items() if at.startswith(below)}
        config = self._checked(tree, kinds)
        if config is None:
            return None
        self.problems += config.sealing.unlike(running.sealing)
        if not config.database.same_place(running.database):
            unapplied.add("database.dsn")
            config = config.model_copy(update={"database": running.database})
        config = config.with_origins(self.secrets.origins).with_filed(running.listed).with_written(written)
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
        self.secrets.take_literals(file, kinds, None)
        tree = file
        for name, over in variables:
            self.secrets.take_literals(over, kinds, f"env:{name}")
            tree = merge(tree, over)
        return tree

    # --- parts ----------------------------------------------------------------------------------------------------

    def _settings_types(self, tree: Tree) -> Iterator[tuple[str, type[ProviderSettings]]]:
        """Which adapter a provider has decides which of its settings are secrets, so this comes first."""
        for name, provider in mapping(tree.get("providers")).items():
            adapter = self._adapters.get(str(mapping(provider).get("adapter")))
            if adapter is not None:
                yield name, adapter.settings_type

    def _take_settings(self, tree: Tree, kinds: Kinds) -> None:
        """Each provider's settings become what its adapter reads; a stand-in where they are wrong."""
        for name, provider in mapping(tree.get("providers")).items():
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
        providers = mapping(tree.get("providers"))
        return Draft(
            mode=_part(Mode, tree.get("mode")),
            settings=self._settings,
            outbound=_part(Outbound, tree.get("outbound", {})),
            dispatch=_part(Dispatch, tree.get("dispatch", {})),
            brakes=_part(Brakes, tree.get("brakes", {})),
            known=frozenset(mapping(tree.get("lenders"))),
            lenders=_parts(Lender, mapping(tree.get("lenders"))),
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
        makes_plans = mapping(tree.get("kafka")).get("repayments_topic") is not None
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
        path = mapping(tree.get("allowlist")).get("file")
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


def _part_of(config: Config, path: Path) -> Any:
    """None where there is no such part."""
    part: Any = config
    for each in path:
        part = part.get(each) if isinstance(part, Mapping) else getattr(part, str(each), None)
    return part


def _part(kind: type[T], value: Any) -> T | None:
    """A part that is valid by itself; what is wrong with others is told by the whole."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _parts(kind: type[T], values: Mapping[str, Any]) -> dict[str, T]:
    return {name: part for name, value in values.items() if (part := _part(kind, value)) is not None}
