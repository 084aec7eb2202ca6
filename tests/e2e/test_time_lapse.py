"""`reminder-gateway demo --time-lapse --once` as a user runs it, and with a gateway that makes mistakes."""

import asyncio
import json
import sys
from typing import Any

SMALL = ("--loans", "24", "--days", "18", "--seed", "2")


async def ended(*command: str) -> tuple[int | None, list[str], dict[str, Any]]:
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, stderr=both)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    lines = output.decode().strip().splitlines()
    assert lines[-1].startswith("{"), "\n".join(lines[-40:])
    return process.returncode, lines, json.loads(lines[-1])


async def test_weeks_pass_and_everything_adds_up() -> None:
    code, lines, sums = await ended("-m", "gateway", "demo", "--time-lapse", "--once", *SMALL)
    assert code == 0, "\n".join(lines[-40:])
    assert sums["problems"] == sums["violations"] == 0
    assert sums["occasions"] == sums["reminders"] + sum(sums["skips"].values()) >= 8 * sums["instalments"] > 300
    assert sums["reminders"] == sum(sums["ends"].values())
    assert sums["ends"]["delivered"] > 50
    assert sums["contacts"] >= sums["ends"]["delivered"]
    table = [" ".join(line.split()) for line in lines]
    assert any(line.startswith("cancelled: paid ") for line in table)
    assert any(
        line.startswith(f"= {sums['instalments']} instalments × 8 occasions") and line.endswith(f" {sums['occasions']}")
        for line in table
    )


# Payments are read as if nothing had been paid, the reminders of one occasion are lost, and another is forgotten by the
# planner, in which both sides of the funnel believe.
DEAF = """
import sys
from msgspec.structs import replace
from gateway.cadence import planning
from gateway.dev import lapse
from gateway.intake import facts
from gateway.ledger import accept
from schemas.repayments import RepaymentPaid

read, bear = facts.read, accept.bear

def misread(*record):
    fact = read(*record)
    return replace(fact, outstanding="99999") if isinstance(fact, RepaymentPaid) else fact

async def without_d3(connection, requests, *others):
    return await bear(connection, [each for each in requests if each.stage != "d3"], *others)

outcome = planning._Planner.outcome

def without_d7(planner, instalment, occasion):
    found = outcome(planner, instalment, occasion)
    if occasion.name != "d7":
        return found
    return planning.Skip(found.key, found.occasion, found.date, planning.Skipped.PAST)

facts.read, accept.bear, planning._Planner.outcome = misread, without_d3, without_d7
sys.exit(lapse.run(lapse.Size(seed=2, loans=24, days=18), once=True))
"""


async def test_what_goes_on_after_a_payment_and_what_is_lost_is_found() -> None:
    code, lines, sums = await ended("-c", DEAF)
    assert code == 1
    found = "\n".join(lines)
    assert sums["violations"] > 0
    assert "after_payment" in found
    assert "d3: was to be a reminder, and there is none" in found
    assert "/d7: nobody_was_told" in found
