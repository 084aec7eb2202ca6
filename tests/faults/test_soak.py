"""The soak in short: it does what it says, counts what it did, and can say no."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.faults.soak.play import Orders, play
from tests.faults.soak.report import verdict
from tests.faults.soak.slopes import line, second_half
from tests.faults.soak.stage import Stage, staged
from tests.faults.soak.table import FAULTS

# Those that take no seconds of waiting, each once.
CHEAP = (
    "kill", "stutter", "link", "cut", "lost_commits", "providers_gone", "providers_misbehave", "strangers", "freeze",
)  # fmt: skip
BURST = 25


@pytest.mark.real_kafka
@pytest.mark.timeout(420)
async def test_a_short_soak_counts_what_it_did_and_finds_what_is_planted(tmp_path: Path, summary: Any) -> None:
    orders = Orders(minutes=0, seed=5, burst=BURST, pause=0.2, drain=0, only=CHEAP, each_once=True)
    async with staged(tmp_path, orders.seed) as stage:
        found = await play(stage, orders)
        summary("a short soak", {name: found[name] for name in ("faults", "requests", "checks", "healed_seconds")})
        assert (found["violations"], found["beyond_bounds"], verdict(found)) == ([], [], 0)
        assert sum(found["faults"].values()) == len(CHEAP)
        assert found["kills"] == 1
        assert found["requests"] >= BURST * len(CHEAP)
        assert found["counts"]["reminders"] == await _count(stage, "reminder")
        assert sum(found["ended"].values()) == found["counts"]["reminders"]
        assert found["checkpoints"] == len(found["healed_seconds"]) == 1
        assert {name for name, n in found["checks"].items() if n} == {"I1", "I2", "I3", "I4", "I7", "I8", "I9"}
        assert found["answers_to_strangers"].keys() - {"stranger cut off"}
        assert not found["answers_to_strangers"].get("stranger 500")
        assert found["survivor"]["most"]["rss_mib"] > 20
        assert found["tables"]["queues_kib"].keys() >= {"live", "due", "outbox"}

        # A message that left and is not written anywhere, a number in a log, a death: each is told and fails the run.
        await _tamper(stage)
        with stage.survivor.log.open("a") as log:
            log.write('{"event": "to +8613900000101"}\n')
        await stage.survivor.child.kill()
        found = await play(stage, Orders(minutes=0, seed=5, drain=0))
        assert verdict(found) == 1
        told = "\n".join(found["violations"])
        assert "I3 message" in told
        assert "left without an intent" in told
        assert "I7 survivor.log has" in told
        assert "I8 the survivor ended with -9" in told


async def _count(stage: Stage, table: str) -> int:
    return int(await stage.here.value(f"select count(*) from {table}"))


async def _tamper(stage: Stage) -> None:
    """Forgets one attempt that a provider has taken, behind the back of every rule."""
    connection = await asyncpg.connect(stage.here.world.dsn)
    try:
        await connection.execute("set session_replication_role = replica")
        await connection.execute(
            "delete from attempt where id = (select min(id) from attempt where state = 'delivered')"
        )
    finally:
        await connection.close()


def test_every_fault_has_its_own_name_and_a_weight() -> None:
    assert len({each.name for each in FAULTS}) == len(FAULTS)
    assert all(each.weight > 0 for each in FAULTS)


def test_a_line_says_how_sure_it_is() -> None:
    straight = line([(float(x), 3.0 * x + 1) for x in range(10)])
    assert straight.value == pytest.approx(3.0)
    assert straight.plus_minus == pytest.approx(0.0)
    # By hand: residuals -0.4, 0.95, -0.7 and 0.15, whose squares sum up to 1.575; spread 5; t of two degrees 4.30.
    crooked = line([(0.0, 1.0), (1.0, 3.0), (2.0, 2.0), (3.0, 3.5)])
    assert crooked.value == pytest.approx(0.65)
    assert crooked.plus_minus == pytest.approx(4.30 * math.sqrt(1.575 / 2 / 5), rel=1e-3)
    assert math.isinf(line([(0.0, 1.0), (1.0, 2.0)]).plus_minus)
    assert line([]).value == 0.0


def test_only_the_second_half_counts() -> None:
    points = [(x / 100, 100.0 + x) for x in range(100)] + [(1 + x / 100, 200.0) for x in range(101)]
    flat = second_half(points)
    assert flat.value == pytest.approx(0.0)
    assert flat.at_least <= 0.0
