"""One process from its start to its exit code, without anything in it."""

import asyncio
import signal

import pytest

from gateway.internal import Health
from gateway.life import Life
from gateway.lifecycle import Lifecycle, Phase, at_once

SECONDS = {Phase.DRAIN: 1.0, Phase.FLUSH: 1.0, Phase.LEAVE: 1.0}


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def lifecycle() -> Lifecycle:
    return Lifecycle(SECONDS)


@pytest.fixture
def life(lifecycle: Lifecycle, health: Health) -> Life:
    return Life(lifecycle, health, not_ready_seconds=0)


async def at_once_started() -> None: ...


async def test_it_is_ready_only_after_it_has_announced_it(life: Life, health: Health) -> None:
    seen: list[dict[str, str]] = []

    async def start() -> None:
        seen.append(health.unready())

    def announce() -> None:
        seen.append(health.unready())
        asyncio.get_running_loop().call_soon(look_and_stop)

    def look_and_stop() -> None:
        seen.append(health.unready())
        life.stop()

    assert await life.run(start, lambda: None, announce) == 0
    assert seen == [{"process": "starting"}, {"process": "starting"}, {}]
    assert health.unready() == {"process": "stopping"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly(life: Life, lifecycle: Lifecycle, number: signal.Signals) -> None:
    ended: list[str] = []
    lifecycle.on_stop("thing", at_once(lambda: ended.append("thing")))
    assert await life.run(at_once_started, lambda: None, lambda: signal.raise_signal(number)) == 0
    assert ended == ["thing"]


async def test_a_hangup_is_told_and_ends_nothing(life: Life) -> None:
    told: list[str] = []

    def hangup() -> None:
        told.append("hangup")
        life.stop()

    assert await life.run(at_once_started, hangup, lambda: signal.raise_signal(signal.SIGHUP)) == 0
    assert told == ["hangup"]


async def test_what_cannot_start_is_stopped_and_said_with_the_exit_code(
    life: Life, lifecycle: Lifecycle, health: Health
) -> None:
    ended: list[str] = []
    announced: list[str] = []

    async def start() -> None:
        lifecycle.on_stop("half", at_once(lambda: ended.append("half")))
        raise OSError("no")

    assert await life.run(start, lambda: None, lambda: announced.append("ready")) == 1
    assert (ended, announced) == (["half"], [])
    assert health.unready() == {"process": "stopping"}


async def test_a_stop_while_it_starts_waits_for_nothing(life: Life, lifecycle: Lifecycle) -> None:
    ended: list[str] = []
    announced: list[str] = []

    async def start() -> None:
        lifecycle.on_stop("half", at_once(lambda: ended.append("half")))
        life.stop()
        await asyncio.Event().wait()  # a server that does not answer

    assert await life.run(start, lambda: None, lambda: announced.append("ready")) == 0
    assert (ended, announced) == (["half"], [])


async def test_a_component_at_its_end_takes_the_process_with_it(life: Life) -> None:
    assert await life.run(at_once_started, lambda: None, lambda: life.fatal("lost")) == 1
