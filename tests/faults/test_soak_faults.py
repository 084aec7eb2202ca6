"""What a fault of the soak leaves behind when it did not come about."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from gateway.dev.host import StackError
from tests.faults.soak import faults


def stage() -> Any:
    """Of the victim only whether a point is armed in it; nobody else works, so it is never reached."""

    async def kill() -> None:
        victim.armed = False

    def spawn(_: Any, **environ: str) -> None:
        victim.armed = bool(environ)

    async def bring_up(_: Any) -> None:
        assert not victim.armed, "it stops by itself, and nobody looks"

    child = SimpleNamespace(kill=kill, wait=AsyncMock(side_effect=StackError("it lives")), resume=lambda: None)
    victim = SimpleNamespace(child=child, armed=False)
    here = SimpleNamespace(world=SimpleNamespace(publish=AsyncMock()))
    return SimpleNamespace(victim=victim, here=here, spawn=spawn, bring_up=bring_up)


@pytest.mark.parametrize("fault", ["sleep_at", "crash_at"])
async def test_a_point_that_is_never_reached_is_armed_no_more(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "until_paused", AsyncMock(side_effect=AssertionError("it is awake")))
    run: Any = SimpleNamespace(stage=stage(), load=SimpleNamespace(burst=lambda _: []), chance=random.Random(1))
    assert await getattr(faults, fault)(run) in ("not asleep", "killed idle")
    run.stage.here.world.publish.assert_awaited()
