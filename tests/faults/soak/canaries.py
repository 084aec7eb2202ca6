"""I7: what is personal or secret stands sealed, or at a provider, and nowhere else."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from tests.faults.checker import Found
from tests.faults.load import PLANTED
from tests.faults.soak.run import Run
from tests.stack.canaries import found

# The numbers and device tokens of `address`, with their country or without; no id of ours looks like that.
_NUMBERS: Final = re.compile(rb"(?<![0-9A-Za-z])(?:\+?86)?13[89]00\d{6}(?!\d)|token-\d{8}-abcdef")


@dataclass
class Sweep:
    """Looks through what is new since the last time."""

    checks: int = 0
    swept: int = 0  # bytes
    said: Counter[str] = field(default_factory=Counter)  # what the gateways logged, by level and event
    _read: dict[Path, int] = field(default_factory=dict)
    _offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    async def __call__(self, run: Run, told: Found) -> None:
        words = [*PLANTED, *_secrets(run)]
        for where, text in [*self._logs(run), *await self._metrics(run), *self._topics(told)]:
            self.checks += 1
            self.swept += len(text)
            for word in found(words, text):
                run.blame("I7", f"{where} has {word if word in PLANTED else 'a secret'}")
            for hit in _NUMBERS.findall(text)[:3]:
                run.blame("I7", f"{where} has {hit!r}")

    def _logs(self, run: Run) -> Iterator[tuple[str, bytes]]:
        stage = run.stage
        gateways = [each.log for each in (stage.victim, stage.survivor, stage.guest)]
        for path in (*gateways, stage.postgres.process.log):
            if path.exists():
                with path.open("rb") as log:
                    log.seek(self._read.get(path, 0))
                    text = log.read()
                    self._read[path] = log.tell()
                if path != stage.postgres.process.log:
                    self._hear(run, path.name, text)
                yield path.name, text

    def _hear(self, run: Run, name: str, text: bytes) -> None:
        """Every line is one of our own making: whatever else speaks on standard error was not expected to."""
        for line in text.splitlines():
            try:
                said = json.loads(line)
                what = (
                    f"of {said['logger']}: {said.get('message', '')}" if said["event"] == "library" else said["event"]
                )
                self.said[f"{said['level']} {what}"] += 1
            except (ValueError, KeyError, TypeError):
                run.blame("I8", f"{name} has a line that is no event: {line[:300]!r}")

    async def _metrics(self, run: Run) -> list[tuple[str, bytes]]:
        told = []
        for each in run.stage.alive:
            try:
                told.append((f"metrics of {each.log.stem}", (await each.metrics()).encode()))
            except aiohttp.ClientError:
                run.blame("I8", f"no metrics of {each.log.stem} in the quiet")
        return told

    def _topics(self, told: Found) -> Iterator[tuple[str, bytes]]:
        for name, topic in (("events", told.events), ("dead letters", told.letters)):
            new = [each for each in topic.records if each.offset >= self._offsets.get((name, each.partition), 0)]
            for each in new:
                self._offsets[name, each.partition] = each.offset + 1
            yield name, b"\n".join(part for each in new for part in (*each.beside, each.value or b""))


def _secrets(run: Run) -> list[str]:
    environ, vault = run.stage.victim.settings.environ, run.stage.vault.files
    kept = [environ[name] for name in ("GATEWAY_INDEX_KEY", "GATEWAY_APP_TOKEN", "ALIYUN_ACCESS_KEY_SECRET")]
    return [*kept, *(part for content in vault.values() for part in content.split())]
