"""A reload: taken as a whole when it is good; else nothing changes, it is said once, counted each time, tried again."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from gateway.config import Config, Source
from gateway.inforce import InForce
from gateway.observability import logs
from gateway.observability.reloads import Reloads
from gateway.reload import Reload
from tests.stack.scene import value_in
from tests.unit.config.case import SECRETS, Case, key

KEY = "canary-text-key"
NEW = "canary-new-text-key"


class Bench:
    """A configuration in files, in force, and everything a reload tells."""

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        self.folder = folder
        self.case = Case(folder)
        self.write(KEY)
        self.case.put("providers/texts/settings/key", f"file:{folder / 'key'}")
        self.in_force = InForce(self.case.load())
        self.registry = CollectorRegistry()
        reloads = Reloads(self.registry)
        reloads.started(self.in_force.config, 1.0)
        self.taken: list[str] = []
        self.in_force.taken_by(lambda was, now: self.taken.append(key_of(now)))
        self.now = 100.0
        self.source = Slow(self.case.path, self.case.environ, self.case.adapters)
        self.reload = Reload(self.source, self.in_force, reloads, seconds, lambda: self.now, settle_seconds=0.0)
        self.stream = io.StringIO()
        logs.setup("info", self.stream)

    def write(self, content: str | bytes) -> None:
        (self.folder / "key").write_bytes(content if isinstance(content, bytes) else content.encode())

    def save(self) -> None:
        self.case.path.write_text(yaml.safe_dump(self.case.tree), encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        self.stream.truncate(0)
        self.stream.seek(0)
        assert "canary" not in json.dumps(found)
        return found

    def events(self) -> list[str]:
        return [each["event"] for each in self.lines()]

    def metric(self, name: str, **labels: str) -> float:
        return value_in(generate_latest(self.registry).decode(), name, **labels)


class Slow(Source):
    """Lets a test write between a look and what is read after it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.meanwhile: Any = None

    def look(self) -> bytes:
        found = super().look()
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return found


def key_of(config: Config) -> str:
    value: str = config.providers["texts"].settings.model_dump()["key"].get_secret_value()
    return value


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)
    logs.setup()


async def test_what_is_new_is_taken_and_told(bench: Bench) -> None:
    await bench.reload.once()
    assert bench.taken == []
    bench.write(NEW)
    bench.now = 200.0
    await bench.reload.once()
    assert bench.taken == [NEW]
    assert key_of(bench.in_force.config) == NEW
    assert bench.events() == ["secrets_reloaded"]
    assert bench.metric("secrets_reloaded_timestamp_seconds") == 200.0
    await bench.reload.once()
    assert bench.taken == [NEW]
    assert bench.lines() == []


async def test_what_is_unchanged_is_not_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.reload.once()
    monkeypatch.setattr(bench.source, "rotate", None)  # would fail, and be told
    await bench.reload.once()
    assert bench.lines() == []
    await bench.reload.once(asked=True)
    assert bench.events() == ["secrets_unchanged"]


@pytest.mark.parametrize("content", [None, "", "\n", b"\xff canary"])
async def test_what_is_wrong_changes_nothing_and_is_said_once(bench: Bench, content: str | bytes | None) -> None:
    if content is None:
        (bench.folder / "key").unlink()
    else:
        bench.write(content)
    for _ in range(3):
        await bench.reload.once()
    (line,) = bench.lines()
    assert (line["event"], line["level"]) == ("secrets_not_reloaded", "error")
    assert line["keys"] == ["providers.texts.settings.key: secret_unavailable"]
    assert bench.taken == []
    assert bench.metric("secrets_reload_failed") == 1
    assert bench.metric("secrets_reloads_total", outcome="failed") == 3
    assert bench.metric("secrets_reloaded_timestamp_seconds") == 1.0
    await bench.reload.once(asked=True)
    assert bench.events() == ["secrets_not_reloaded"]  # who asks is answered
    bench.write(NEW)
    await bench.reload.once()
    assert (bench.taken, bench.events()) == ([NEW], ["secrets_reloaded"])
    assert bench.metric("secrets_reload_failed") == 0


async def test_a_file_that_comes_back_as_it_was_ends_the_trouble(bench: Bench) -> None:
    await bench.reload.once()
    bench.write("")
    await bench.reload.once()
    bench.write(KEY)
    await bench.reload.once()
    assert bench.events() == ["secrets_not_reloaded", "secrets_as_before"]
    assert bench.metric("secrets_reload_failed") == 0
    assert bench.taken == []


async def test_another_fault_is_said_anew(bench: Bench) -> None:
    bench.write("")
    await bench.reload.once()
    bench.case.put("http/app_tokens", ["env:NOBODY"])
    bench.save()
    await bench.reload.once()
    first, second = bench.lines()
    assert first["keys"] == ["providers.texts.settings.key: secret_unavailable"]
    assert second["keys"] == [
        "http.app_tokens.0: secret_unavailable", "providers.texts.settings.key: secret_unavailable",
    ]  # fmt: skip


async def test_a_bad_sealing_key_keeps_the_old_ones(bench: Bench) -> None:
    bench.case.environ["SEALING_2"] = key(b"2")[:-8]
    bench.case.put("sealing/keys/2", "env:SEALING_2")
    bench.case.put("sealing/current", 2)
    bench.save()
    await bench.reload.once()
    assert bench.lines()[0]["keys"] == ["sealing.keys.2: bad_key"]
    assert (bench.metric("sealing_key_current"), bench.metric("sealing_keys_known")) == (1, 1)
    bench.case.environ["SEALING_2"] = key(b"2")
    await bench.reload.once()
    assert (bench.metric("sealing_key_current"), bench.metric("sealing_keys_known")) == (2, 2)


async def test_a_name_that_is_no_key_is_not_repeated(bench: Bench) -> None:
    bench.case.put("kafka/canary-in-the-wrong-place", 1)
    bench.case.put("sealing/keys/canary-id", "env:SEALING_1")
    bench.save()
    await bench.reload.once()
    assert set(bench.lines()[0]["keys"]) == {"kafka: unknown_key", "sealing.keys: wrong_value"}


async def test_what_is_written_under_our_eyes_is_read_again(bench: Bench) -> None:
    """Half of two versions is never taken: what was read is what was seen before and after."""
    bench.write("canary-half-written")
    bench.source.meanwhile = lambda: bench.write(NEW)
    await bench.reload.once()
    assert bench.taken == [NEW]
    assert bench.events() == ["secrets_reloaded"]


async def test_a_file_that_never_rests_is_a_failure(bench: Bench) -> None:
    count = 0

    def write() -> None:
        nonlocal count
        count += 1
        bench.write(f"canary-{count}")
        bench.source.meanwhile = write

    bench.source.meanwhile = write
    await bench.reload.once()
    assert bench.taken == []
    (line,) = bench.lines()
    assert (line["event"], line["error"]) == ("secrets_not_reloaded", "TimeoutError")


async def test_the_rest_waits_for_a_restart_and_is_said_once(bench: Bench) -> None:
    bench.case.put("kafka/bootstrap", "other:9092")
    bench.save()
    await bench.reload.once()
    bench.write(NEW)
    await bench.reload.once()
    first, second = bench.lines()
    assert (first["event"], first["keys"]) == ("restart_needed", ["kafka.bootstrap"])
    assert second["event"] == "secrets_reloaded"
    assert bench.in_force.config.kafka.bootstrap == "localhost:9092"
    assert bench.metric("config_unapplied_keys") == 1
    bench.case.put("kafka/bootstrap", "localhost:9092")
    bench.save()
    await bench.reload.once()
    assert bench.metric("config_unapplied_keys") == 0


async def test_one_who_cannot_take_it_does_not_keep_it_from_the_others(bench: Bench) -> None:
    faults = [1, 2]

    def broken(was: Config | None, now: Config) -> None:
        if faults:
            faults.pop()
            raise ValueError(key_of(now))
        assert (was, key_of(now)) == (None, NEW)  # who raised may have a part of it: all is to be taken

    bench.in_force.taken_by(broken)
    bench.in_force.taken_by(lambda was, now: bench.taken.append(key_of(now)))
    bench.write(NEW)
    await bench.reload.once()
    assert bench.taken == [NEW, NEW]
    (line,) = bench.lines()
    assert (line["event"], line["causes"]) == ("secrets_not_reloaded", ["ValueError"])
    await bench.reload.once()
    assert key_of(bench.in_force.config) == KEY
    await bench.reload.once()
    assert key_of(bench.in_force.config) == NEW
    assert bench.events() == ["secrets_reloaded"]
    assert bench.metric("secrets_reload_failed") == 0


async def test_what_some_have_taken_is_undone_when_the_file_comes_back(bench: Bench) -> None:
    """Nothing differs from what counts, and yet some have something else."""
    moves: list[tuple[str, str]] = []
    broken: list[str | None] = []

    def note(was: Config | None, now: Config) -> None:
        assert was is not None
        moves.append((key_of(was), key_of(now)))

    def fail(was: Config | None, now: Config) -> None:
        broken.append(None if was is None else key_of(was))
        if len(broken) < 4:
            raise ValueError

    bench.in_force.taken_by(note)
    bench.in_force.taken_by(fail)
    await bench.reload.once()
    bench.write(NEW)
    await bench.reload.once()
    bench.write(KEY)
    await bench.reload.once()
    assert bench.metric("secrets_reload_failed") == 1  # no success is told while somebody has not taken it
    await bench.reload.once()
    await bench.reload.once()
    # Each hears what it has itself: who compares finds what to undo, and nothing to do once it is done.
    assert moves == [(KEY, NEW), (NEW, KEY), (KEY, KEY), (KEY, KEY)]
    assert broken == [KEY, None, None, None]
    assert bench.metric("secrets_reload_failed") == 0
    assert bench.events() == ["secrets_not_reloaded", "secrets_reloaded"]
    await bench.reload.once()
    assert len(moves) == 4


@pytest.mark.parametrize(("seconds", "asks"), [(60, True), (0.05, False)])
async def test_a_signal_is_answered_at_once_and_without_one_a_look_comes_by_itself(
    tmp_path: Path, seconds: float, asks: bool
) -> None:
    bench = Bench(tmp_path, seconds)
    running = asyncio.create_task(bench.reload.run())
    try:
        async with asyncio.timeout(5):
            while bench.metric("secrets_reloads_total", outcome="good") < 1:
                await asyncio.sleep(0.01)
        bench.write(NEW)
        if asks:
            bench.reload.ask()
        async with asyncio.timeout(5):
            while bench.taken != [NEW]:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        logs.setup()


def test_a_missing_key_is_counted_and_said_once_a_minute(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    registry = CollectorRegistry()
    reloads = Reloads(registry, iter((0.0, 1.0, 59.0, 60.0)).__next__)
    for _ in range(4):
        reloads.key_unknown(7)
    logs.setup()
    lines = bench.lines()
    assert [(each["event"], each["key"]) for each in lines] == [("sealing_key_unknown", 7)] * 2
    assert value_in(generate_latest(registry).decode(), "sealing_key_unknown_total") == 4


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    logs.setup()
    shown = repr([bench.in_force, bench.in_force.config, bench.source, bench.reload, vars(bench.reload)])
    assert not [each for each in SECRETS.values() if each in shown]
