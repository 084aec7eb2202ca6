"""How time passes in a time-lapse: where the clock stops, and who sleeps until when."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.clock import VirtualClock
from gateway.dev.host import StackError
from gateway.dev.lapse import play
from gateway.dev.lapse.pace import VirtualPace
from gateway.dev.lapse.play import Interrupted, Play, apart, jump
from gateway.ledger.rest import Rest

START = dt.datetime(2027, 3, 5, 6, tzinfo=dt.UTC)


def at(time: str) -> dt.datetime:
    return dt.datetime.combine(START.date(), dt.time.fromisoformat(time), dt.UTC)


@pytest.mark.parametrize(
    ("due", "stops"),
    [
        ("09:00", "09:14"),
        ("09:07:31", "09:14"),
        ("09:14", "09:14"),
        ("09:14:20.5", "09:14:20.5"),  # else it would be before what is due
        ("09:15", "09:29"),
        ("19:59:59", "19:59:59"),  # within the hours, as it was to be
    ],
)
def test_the_clock_stops_at_the_last_minute_of_a_quarter(due: str, stops: str) -> None:
    assert jump(at(due)) == at(stops)


def test_a_receipt_and_a_timer_do_not_come_to_their_turn_together() -> None:
    to, just_before = at("09:14"), dt.timedelta(microseconds=1)
    assert apart(to, at("09:01"), at("09:05")) == at("09:05") - just_before
    assert apart(to, at("09:05"), at("09:01")) == at("09:05") - just_before
    assert apart(to, at("09:01"), at("09:20")) == to
    assert apart(to, None, at("09:05")) == apart(to, at("09:05"), None) == to
    assert apart(to, at("09:05"), at("09:05")) == to


async def test_who_sleeps_wakes_when_the_clock_has_come_there() -> None:
    clock = VirtualClock(START)
    pace = VirtualPace(clock)
    woken: list[float] = []

    async def sleeper(seconds: float) -> None:
        await pace.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(each)) for each in (90.0, 30.0, 0.0)]
    await asyncio.wait(tasks[2:])
    assert (woken, pace.asleep, pace.next()) == ([0.0], 2, START + dt.timedelta(seconds=30))
    clock.advance(dt.timedelta(seconds=60))
    assert (pace.asleep, pace.now(), pace.next()) == (1, clock.now(), START + dt.timedelta(seconds=90))
    await asyncio.wait(tasks[1:2])
    assert woken == [0.0, 30.0]
    clock.advance(dt.timedelta(seconds=30))
    await asyncio.gather(*tasks)
    assert (woken, pace.asleep, pace.next()) == ([0.0, 30.0, 90.0], 0, None)


async def test_who_gives_up_sleeping_does_not_hold_up_the_others() -> None:
    clock = VirtualClock(START)
    pace = VirtualPace(clock)
    first, second = (asyncio.create_task(pace.sleep(each)) for each in (10, 20))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    clock.advance(dt.timedelta(seconds=20))
    await second


class Still:
    """A stage on which nothing moves; `owed` receipts are awake."""

    def __init__(self, folder: Path, owed: int = 0, due: dt.datetime | None = None, ended: int | None = None) -> None:
        (folder / "log").touch()
        self.config = SimpleNamespace(kafka=SimpleNamespace(repayments_topic="t"))
        self.simulator = SimpleNamespace(journal=SimpleNamespace(path=folder / "log"), pending_receipts=3 + owed)
        self.pace = SimpleNamespace(asleep=3)
        self.running = SimpleNamespace(done=lambda: ended is not None, result=lambda: ended)
        self.ledger = None
        self.clock = VirtualClock(START)
        self.rest = Rest(due, None, None, 0, 0, 0, {})

    async def at(self, now: dt.datetime, monkeypatch: pytest.MonkeyPatch) -> Rest:
        async def read(*_: Any) -> Rest:
            return self.rest

        monkeypatch.setattr(play.rest, "read", read)
        monkeypatch.setattr(play, "_QUIET_WITHIN", 0.05)
        here: Any = self
        nobody: Any = SimpleNamespace(people={})
        return await Play(here, nobody, nobody, now)._rest(now)


async def test_quiet_is_when_nothing_is_due_and_every_receipt_sleeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = START + dt.timedelta(seconds=1)
    assert (await Still(tmp_path, due=later).at(START, monkeypatch)).next == later
    with pytest.raises(StackError, match=r"does not come to rest.*'due': 1"):
        await Still(tmp_path, due=START).at(START, monkeypatch)
    with pytest.raises(StackError, match=r"does not come to rest.*'receipts': 2"):
        await Still(tmp_path, owed=2).at(START, monkeypatch)


async def test_it_ends_with_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StackError, match="the gateway has ended"):
        await Still(tmp_path, ended=1).at(START, monkeypatch)
    with pytest.raises(Interrupted):
        await Still(tmp_path, ended=0).at(START, monkeypatch)
