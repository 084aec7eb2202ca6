"""The judge itself: it shares no code with the judged, knows the same tables, and can say no."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import states
from schemas.vocabulary import AttemptState, ReminderState
from tests.faults import tables
from tests.faults.harness import Stand, eventually, spawn_unfenced, stand, until_paused
from tests.faults.test_kills import PAUSES
from tests.stack.gateway import requested

JUDGE = (
    "brakes_check.py", "checker.py", "evidence.py", "messages_check.py", "requests_check.py", "states_check.py",
    "tables.py", "topics.py", "witness.py",
)  # fmt: skip


@pytest.mark.parametrize("name", JUDGE)
def test_the_judge_imports_nothing_of_the_gateway(name: str) -> None:
    source = Path(__file__).with_name(name).read_text(encoding="utf-8")
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{each.name}" for each in node.names}
    ours = [each for each in modules if each.split(".")[0] in ("gateway", "providers", "schemas", "tests")]
    judges = tuple(f"tests.faults.{each.removesuffix('.py')}" for each in JUDGE)
    assert all(each.startswith(judges) for each in ours), ours


def test_the_documented_tables_are_the_gateways() -> None:
    assert {state.value for state in ReminderState} == tables.REMINDERS.keys() - {""}
    for was in ReminderState:
        assert {each.value for each in states.REMINDER_MOVES[was]} == tables.REMINDERS[was.value], was
    assert {state.value for state in AttemptState} == tables.ATTEMPTS.keys() - {""}
    for before in AttemptState:
        allowed = {each.value for each in AttemptState if states.attempt_moves(before, each)}
        assert allowed == tables.ATTEMPTS[before.value], before


async def test_without_its_fences_a_worker_that_wakes_sends_again(
    database: str, kafka: Any, topics: Any, tmp_path: Path
) -> None:
    """The very story of `test_worker_wakes_after_its_lease`, with a build whose intend asks for no token."""
    point = PAUSES[0].point
    silent = {"rules": [{"receipts": {"outcome": "none"}}]}
    async with stand(database, kafka.bootstrap, topics, tmp_path, script=silent) as here:
        sleeper, other = here.gateway, here.twin("other")
        await here.world.publish([requested(1)])
        spawn_unfenced(sleeper, REMINDER_GATEWAY_PAUSE_AT=point)
        await until_paused(sleeper)
        other.spawn()
        await other.ready()
        await eventually(lambda: _taken(here, 1))
        sleeper.child.resume()
        await eventually(lambda: _taken(here, 2))
        await here.quiet()
        report = await here.check()
        assert len(report.broken("I3")) == 1, report
        assert any("awaiting to sending" in each for each in report.broken("I4")), report


async def _taken(here: Stand, n: int) -> bool:
    return len(here.accepted()) >= n
