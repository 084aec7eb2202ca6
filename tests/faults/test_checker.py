"""The judge itself: it shares no code with the judged, knows the same tables, and can say no."""

from __future__ import annotations

import ast
import datetime as dt
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.ledger import states, stops, subjects
from gateway.ledger.standing import Rules
from schemas.vocabulary import AttemptState, ReminderState
from tests.faults import tables, unfenced
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
    """The very story of `test_worker_wakes_after_its_lease`: its claim was rescued, and another has sent it.

    Every fence stands in the way of that by itself, so every one of them has to be out before a second message leaves:
    `test_which_fence_refuses_what` in tests/integration/test_fences.py goes through them one by one.
    """
    point = PAUSES[0].point
    silent = {"rules": [{"receipts": {"outcome": "none"}}]}
    async with stand(database, kafka.bootstrap, topics, tmp_path, script=silent) as here:
        sleeper, other = here.gateway, here.twin("other")
        await here.world.publish([requested(1)])
        spawn_unfenced(sleeper, [*unfenced.FENCES, unfenced.CLOCK], REMINDER_GATEWAY_PAUSE_AT=point)
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
        assert any("was sent under the claim" in each for each in report.broken("I4")), report


@pytest.mark.parametrize("out", [[], ["token"]], ids=["sound", "without-the-token-check"])
async def test_without_its_token_check_a_worker_sends_under_a_claim_that_was_taken_back(
    out: list[str], database: str, kafka: Any, topics: Any, tmp_path: Path
) -> None:
    """The one story in which nothing but the token check is in the way, told with it and without.

    A worker sleeps between reserve and intend, for less than its lease.  Meanwhile an unreadable stop takes its claim
    back and is lifted again; another worker claims the reminder, sends it, and is told to come back in eight seconds.
    When the sleeper goes on, the reminder is scheduled for the same contact again: its state, its contact and the
    sleeper's own lease are as they were.  Only the claim under the sleeper's token is gone.

    No second message can come of it: from `scheduled` nothing is sent that may have arrived, and intend makes it
    `sending` under the borrower's lock.  What goes wrong is that it is sent by one who has no claim to it, before the
    provider wanted to hear of it again.
    """
    quiet = 8.0
    patient = {
        "dispatch": {"lease_seconds": 60},
        "providers": {name: {"receipt_window_hours": 30 / 3600} for name in ("twilio", "fcm", "aliyun")},
    }
    busy = {"rules": [{"vendor": "twilio", "action": "error", "code": "20429", "retry_after": quiet, "times": 1}]}
    async with stand(database, kafka.bootstrap, topics, tmp_path, patient, script=busy) as here:
        sleeper, other = here.gateway, here.twin("other")
        await here.world.publish([requested(1)])
        spawn_unfenced(sleeper, out, REMINDER_GATEWAY_PAUSE_AT="after_reserve")
        await until_paused(sleeper)
        await _held_and_released(here)
        other.spawn()
        await other.ready()
        await eventually(lambda: _refused(here))
        assert await here.value("select state::text from live") == "scheduled"
        sleeper.child.resume()
        await here.quiet()

        [refused], [message] = (
            [each for each in _log(here) if each["kind"] == kind] for kind in ("refused", "accepted")
        )
        waited = dt.datetime.fromisoformat(message["at"]) - dt.datetime.fromisoformat(refused["at"])
        report = await here.check()
        assert report.endings == {"delivered": 1}, report
        if out:
            [broken] = report.violations
            assert broken.invariant == "I4", report
            assert "was sent under the claim" in broken.what, report
            assert waited.total_seconds() < quiet
        else:
            assert not report.violations, report
            assert waited.total_seconds() >= quiet


async def _held_and_released(here: Stand) -> None:
    """What an intake does about a stop it cannot read, and an operator after he has looked."""
    at_once = Rules(freeze_recheck=dt.timedelta(0))
    connection = await asyncpg.connect(here.world.dsn)
    try:
        async with connection.transaction():
            keys = [row[0] for row in await connection.fetch("select key from subject")]
            await subjects.lock(connection, keys)
            [move] = await stops.hold_unreadable(connection, keys, dt.datetime.now(dt.UTC), at_once)
            assert move.was.queue == "claim"
        async with connection.transaction():
            assert await stops.released(connection, keys[0])
    finally:
        await connection.close()


def _log(here: Stand) -> list[dict[str, Any]]:
    return here.world.simulator.journal.since(0)[0]


async def _refused(here: Stand) -> bool:
    return bool(await here.value("select count(*) from attempt where state = 'rejected'"))


async def _taken(here: Stand, n: int) -> bool:
    return len(here.accepted()) >= n
