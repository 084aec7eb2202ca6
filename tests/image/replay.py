"""Replays the Dockerfile in a directory: its COPY and RUN steps, one by one, and what is left is what the image holds.

The base image is stood in for by a virtual environment of this machine's Python at `/usr/local`, which is where the
real one has its Python.  Every absolute path of a step is a path below the directory.  What that cannot show: the base
image's own files, another architecture, the layers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.image.dockerfile import Step, Unsupported, sent, steps

# Paths of the machine's own that a base image has as well.
_SHARED = ("/usr/bin", "/bin")


@dataclass
class Image:
    """A stage as it stands: its files below `root`, and what it says of its processes."""

    root: Path
    base: str
    environ: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    ports: list[int] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def here(self, path: str) -> Path:
        """Where a path of the image is."""
        return self.root / str(PurePosixPath(self.workdir, path)).lstrip("/")

    def environment(self) -> dict[str, str]:
        """What the image sets, with its paths below `root`."""
        found = {}
        for name, value in self.environ.items():
            parts = [str(self.here(part)) if part.startswith("/") and part not in _SHARED else part
                     for part in value.split(":")]  # fmt: skip
            found[name] = ":".join(parts)
        return found

    def process(self, command: list[str]) -> list[str]:
        """The words as they are, but for what is run, found by PATH as an engine would."""
        path = self.environment().get("PATH", str(self.root / "usr/local/bin"))
        program = command[0] if command[0].startswith("/") else shutil.which(command[0], path=path)
        if program is None:
            raise FileNotFoundError(command[0])
        return [str(program), *command[1:]]


class Replay:
    """One replay, at `place`, which must not exist.

    Paths are baked into what is installed, so every stage is built there and then moved aside.
    """

    def __init__(self, context: Path, place: Path) -> None:
        self._context = context
        self._place = place
        self._sent = set(sent(context))
        self._done: dict[str, Image] = {}
        self._stage = ""

    def run(self) -> Image:
        image: Image | None = None
        for step in steps(self._context / "Dockerfile"):
            if step.name == "FROM":
                image = self._begin(step, image)
            elif image is None:
                raise Unsupported(f"{step.name} before FROM")
            else:
                self._take(image, step)
        if image is None:
            raise Unsupported("no FROM")
        return image

    def _begin(self, step: Step, before: Image | None) -> Image:
        base, _, name = step.value.partition(" AS ")
        if before is not None:
            aside = self._place.with_name(f"{self._place.name}-{self._stage}")
            before.root = self._place.rename(aside)
            self._done[self._stage] = before
        self._stage = name
        self._lay_base()
        return Image(self._place, base, {"PATH": "/usr/local/bin:/usr/bin:/bin"})

    def _lay_base(self) -> None:
        """The same for every stage, at the same place, so that a copy will do."""
        kept = self._place.with_name(f"{self._place.name}-base")
        if not kept.exists():
            python = getattr(sys, "_base_executable", sys.executable)
            subprocess.run([python, "-m", "venv", self._place / "usr" / "local"], check=True)
            shutil.copytree(self._place, kept, symlinks=True)
        else:
            shutil.copytree(kept, self._place, symlinks=True)

    def _take(self, image: Image, step: Step) -> None:
        match step.name:
            case "ENV":
                image.environ |= step.pairs()
            case "LABEL":
                image.labels |= step.pairs()
            case "WORKDIR":
                image.workdir = step.value
                image.here(".").mkdir(parents=True, exist_ok=True)
            case "USER":
                image.user = step.value
            case "EXPOSE":
                image.ports = [int(port) for port in step.value.split()]
            case "ENTRYPOINT":
                image.entrypoint = step.words()
            case "CMD":
                image.command = step.words()
            case "COPY":
                self._copy(image, step.value.split())
            case "RUN":
                self._run(image, step.words())

    def _run(self, image: Image, words: list[str]) -> None:
        if image.user:
            raise Unsupported("RUN after USER")
        here = [str(image.here(word)) if word.startswith("/") else word for word in words]
        kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        done = subprocess.run(
            image.process(here),
            cwd=image.here("."),
            env=kept | image.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")

    def _copy(self, image: Image, words: list[str]) -> None:
        *sources, target = words
        if sources[0].startswith("--from="):
            stage = self._done[sources.pop(0).removeprefix("--from=")]
            for source in sources:
                shutil.copytree(stage.here(source), image.here(target), symlinks=True, dirs_exist_ok=True)
            return
        for source in sources:
            self._copy_from_context(PurePosixPath(source), image.here(target), into=target.endswith("/"))

    def _copy_from_context(self, source: PurePosixPath, target: Path, *, into: bool) -> None:
        """A directory's content, or a file; what .dockerignore keeps back is not there."""
        found = [path for path in self._sent if source in (path, *path.parents)]
        if not found:
            raise FileNotFoundError(f"COPY {source}: not sent to the builder")
        for path in found:
            inside = path.name if into else ""
            end = target / (inside if path == source else path.relative_to(source))
            end.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._context / path, end)
