"""Any order of facts, requests, two workers' steps and time keeps what `docs/cadences.md` promises, on a real Postgres.

`plan_machine/truth.py` is what the lender has said, asked anew each time, and `brakes.py` what is frozen; `work.py`
compares what may leave with them; `invariants.py` is what must hold in the tables after every operation.  After each
few operations all that was ever told is told again, and changes nothing.  With freezes (`freezing.py`) there are
stories of their own: what a freeze lets go comes to its turn, and nothing else does.

It tells the same stories in every run.  Those that CI hears, 36 without freezes and 11 with them, find each mistake of
`tests/mutants/plans.py` whose check they are; the others are found by hand.  `PLAN_MACHINE_EXAMPLES=300` tells more.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.plan_machine.freezing import Freezing
from tests.integration.plan_machine.rules import Plans


@pytest.mark.timeout(600)
def test_any_order_keeps_what_plans_promise(database: str) -> None:
    tell(type("Plans", (Plans,), {"dsn": database}), stories=36)


@pytest.mark.timeout(600)
def test_any_order_keeps_what_brakes_promise(database: str) -> None:
    """The same with freezes: they would leave little for the stories above to find."""
    tell(type("Freezing", (Freezing,), {"dsn": database}), stories=11)


def tell(machine: type[Plans], stories: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("PLAN_MACHINE_EXAMPLES", stories)),
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # A story is shortened where somebody asks for it: that takes minutes.
            phases=(Phase.generate, Phase.shrink) if "PLAN_MACHINE_SHRINK" in os.environ else (Phase.generate,),
            derandomize=True,
            database=None,
        ),
    )
