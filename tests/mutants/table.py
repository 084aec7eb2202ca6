"""Which check has to find which mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.mutants.ladders import LADDERS
from tests.mutants.ledger import LEDGER
from tests.mutants.plans import PLANS
from tests.mutants.planting import Change


@dataclass(frozen=True, eq=False)
class Check:
    name: str
    tests: Sequence[str] = ()


@dataclass(frozen=True)
class Mutant:
    check: Check
    changes: Sequence[Change]


_PLANS_BY_HAND: Final = (
    "plans",
    "plan_stops",
    "plan_races",
    "plan_clocks",
    "replan",
    "merging",
    "merging_meanwhile",
    "freshness",
)

_LEDGER_BY_HAND: Final = ("unknowns", "releases", "redrive", "every_move")

LEDGER_MACHINE: Final = Check("ledger machine")
LEDGER_BY_HAND: Final = Check(
    "ledger by hand", ["tests/unit/ledger", *(f"tests/integration/test_{each}.py" for each in _LEDGER_BY_HAND)]
)
PLAN_MACHINE: Final = Check("plan machine", ["tests/integration/test_plan_machine.py"])
BY_HAND: Final = Check("plans by hand", [f"tests/integration/test_{each}.py" for each in _PLANS_BY_HAND])
PROMISES: Final = Check("ladder's promises", ["tests/unit/ledger/test_ladder_promises.py"])
TABLES: Final = Check("ladder's tables", ["tests/unit/ledger/test_climbing.py"])

# Each with the checks that are tried on its mistakes.
AREAS: Final = ([PROMISES, TABLES], [PLAN_MACHINE, BY_HAND], [LEDGER_MACHINE, LEDGER_BY_HAND])

# What the first check of an area does not find.
_BY_ANOTHER: Final = {
    "what is closed is tried again, and intend does not ask": LEDGER_BY_HAND,
    "what a freeze has held leaves into another": LEDGER_BY_HAND,
    "what a freeze has held leaves after its not_after": LEDGER_BY_HAND,
    "a redrive counts what was refused as done": LEDGER_BY_HAND,
    "what nobody will ever know is taken for not sent": LEDGER_BY_HAND,
    "a rescue takes what may have left for unsent": LEDGER_BY_HAND,
    "the next contact does not wait for an earlier attempt": LEDGER_BY_HAND,
    "what was taken is sent again": LEDGER_BY_HAND,
    "a delivery is one word among others": LEDGER_BY_HAND,
    "an end may be lowered": LEDGER_BY_HAND,
    "who has corrected a dead address hears nothing": BY_HAND,
    "a dead address is tried at every fact": BY_HAND,
    "who corrects an address while it is tried hears nothing": BY_HAND,
    "every debt has lessons of its own": BY_HAND,
    "what was taught is taught again for another debt": BY_HAND,
    "a message in other hands is not taken back when one more joins it": BY_HAND,
    "another due date is not seen": BY_HAND,
    "what another plan made past goes out": BY_HAND,
    "what is planned leaves at any hour": BY_HAND,
    "who has asked for it first is asked for again": BY_HAND,
    "a lesson yields to nothing": BY_HAND,
    "what waits for a message under way joins another": BY_HAND,
    "who has opted out has his plans born suppressed": BY_HAND,
    "a next contact tells of what was paid meanwhile": BY_HAND,
    "what was contacted for joins a message": BY_HAND,
    "who is frozen while he waits is not let go": BY_HAND,
    "who waits for another goes when one that he was to tell of is let go": BY_HAND,
    "a late word is no confirmation": TABLES,
    "silence leads on though one is unknown": TABLES,
    "every rung asks for receipts before its time": TABLES,
    "what is held for receipts outlives its not_after": TABLES,
    "what is held for receipts is moved by every word": TABLES,
    "what nobody has heard of is waited for until its windows close": TABLES,
    "a failure leads on though an earlier one is unknown": TABLES,
    "a contact decided against leads on past what is out": TABLES,
    "what is planned repeats where nothing replaces the first": TABLES,
    "a refusal by an earlier rung is one word among others": TABLES,
    "a late failure of one rung lowers what another may still raise": TABLES,
    "given up by hand, what has arrived is forgotten": TABLES,
}

EVERY: Final[Mapping[str, Mutant]] = {
    name: Mutant(_BY_ANOTHER.get(name, check), changes)
    for check, mutants in ((LEDGER_MACHINE, LEDGER), (PLAN_MACHINE, PLANS), (PROMISES, LADDERS))
    for name, changes in mutants.items()
}
