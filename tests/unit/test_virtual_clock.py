"""Business time that is moved by hand, and who may move it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from gateway.app import Application
from gateway.clock import VirtualClock
from schemas.vocabulary import Mode
from tests.unit.config.case import Case

START = dt.datetime(2027, 3, 5, 6, tzinfo=dt.UTC)


def test_it_stands_still_until_it_is_moved_and_no_database_moves_it() -> None:
    clock, woken = VirtualClock(START), list[dt.datetime]()
    clock.on_move(lambda: woken.append(clock.now()))
    clock.anchor(START + dt.timedelta(days=300))
    assert (clock.now(), woken) == (START, [])
    clock.advance(dt.timedelta(minutes=15))
    assert clock.now() == START + dt.timedelta(minutes=15)
    assert clock.milliseconds() == int(clock.now().timestamp() * 1000)
    assert woken == [clock.now()]  # told once it is so


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.ALLOWLIST])
def test_only_a_gateway_that_simulates_is_given_one(mode: Mode, tmp_path: Path) -> None:
    config = Case(tmp_path).load().model_copy(update={"mode": mode})
    with pytest.raises(ValueError, match="simulate"):
        Application(config, virtual=VirtualClock(START))


async def test_no_configuration_can_ask_for_one(tmp_path: Path) -> None:
    """It is an object that a caller hands over: nothing of a file is looked at for it."""
    case = Case(tmp_path)
    case.put("clock", {"virtual": True})
    assert [problem.path for problem in case.problems()] == ["clock"]
