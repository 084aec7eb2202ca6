"""What the Dockerfile and .dockerignore say.  Only what ours uses is understood; anything else is an error."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from dockerfile_parse import DockerfileParser

KNOWN = {"FROM", "ENV", "LABEL", "WORKDIR", "RUN", "COPY", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}


class Unsupported(ValueError):
    """A step that cannot be replayed."""


@dataclass(frozen=True)
class Step:
    name: str
    value: str

    def words(self) -> list[str]:
        """The arguments of a step in exec form.  Raises Unsupported for one that needs a shell."""
        try:
            words = json.loads(self.value)
        except ValueError:
            raise Unsupported(f"{self.name} in shell form: {self.value}") from None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise Unsupported(f"{self.name}: {self.value}")
        return words

    def pairs(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in shlex.split(self.value))


def steps(path: Path, arguments: Mapping[str, str] | None = None) -> Iterator[Step]:
    """The steps, with the build arguments that stand before the first FROM put in."""
    known = {}
    parser = DockerfileParser(fileobj=io.BytesIO(path.read_bytes()))
    for each in parser.structure:
        name, value = each["instruction"], each["value"]
        if name == "COMMENT":
            continue
        if name == "ARG":
            argument, _, default = value.partition("=")
            known[argument] = (arguments or {}).get(argument, default)
        elif name in KNOWN:
            yield Step(name, re.sub(r"\$\{(\w+)\}", lambda match: known[match[1]], value) if name == "FROM" else value)
        else:
            raise Unsupported(name)


def sent(context: Path) -> Iterator[PurePosixPath]:
    """The files of the context that .dockerignore lets through; the last pattern that matches decides."""
    patterns = [
        line.strip()
        for line in (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    named = {pattern[1:].split("/")[0] for pattern in patterns if pattern.startswith("!")}
    for top in sorted(named):
        for path in [context / top, *sorted((context / top).rglob("*"))]:
            relative = PurePosixPath(path.relative_to(context).as_posix())
            if path.is_file() and not _ignored(relative, patterns):
                yield relative


def _ignored(path: PurePosixPath, patterns: list[str]) -> bool:
    ignored = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        if any(_matches(str(part), wanted) for part in (path, *path.parents)):
            ignored = not pattern.startswith("!")
    return ignored


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(path.rpartition("/")[2], pattern[3:])
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)
