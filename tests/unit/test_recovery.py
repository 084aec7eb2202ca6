"""Which rounds a process makes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.ledger.standing import Rules
from gateway.recovery import Recovery

ROUNDS = (
    "_set_clock", "_rescue_dead", "_give_back_forgotten", "_fire_timers", "_plan_anew", "_refresh", "_release",
    "_make_partitions",
)  # fmt: skip
OF_SENDERS = ("_refresh", "_release")


@pytest.mark.parametrize("sends", [True, False])
async def test_only_a_process_that_sends_gives_what_was_frozen_its_turn(
    sends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While none does, the turns of all of it would pass, and it would leave at once when one does again."""
    made: list[str] = []
    for name in ROUNDS:

        async def made_one(recovery: Recovery, name: str = name) -> None:
            made.append(name)

        monkeypatch.setattr(Recovery, name, made_one)
    nobody: Any = SimpleNamespace()
    recovery = Recovery(nobody, nobody, nobody, Rules(), frozenset, nobody, lambda: None, sends=sends, seconds=60)
    await recovery.start()
    await asyncio.sleep(0.01)
    await recovery.stop()
    assert made == [name for name in ROUNDS if sends or name not in OF_SENDERS]


async def test_who_wakes_it_does_not_wait_for_its_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: asyncio.Queue[None] = asyncio.Queue()

    async def made_one(recovery: Recovery) -> None:
        rounds.put_nowait(None)

    for name in ROUNDS:
        monkeypatch.setattr(Recovery, name, made_one)
    nobody: Any = SimpleNamespace()
    recovery = Recovery(nobody, nobody, nobody, Rules(), frozenset, nobody, lambda: None, seconds=3600)
    await recovery.start()
    try:
        for _ in range(3):
            for _ in ROUNDS:
                await asyncio.wait_for(rounds.get(), 10)
            recovery.wake()
    finally:
        await recovery.stop()
