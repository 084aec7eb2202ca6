"""Any interleaving of the ledger's operations by two workers keeps the promise, against real Postgres.

The machine (`tests/integration/machine`) plays upstream, two workers (one may be paused past its lease and go on), the
provider, the people with their hands on it, and the clock.  It keeps its own truth of what the provider took and
compares with what the ledger allowed.  Read `rules.py` for what may happen, `invariants.py` and the assertions of
`work.py` for what must hold.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.machine.model import rules
from tests.integration.machine.planned import Planned
from tests.integration.machine.rules import Ledger


def test_what_cannot_be_healed_is_closed_all_the_same(database: str) -> None:
    class Broken(Ledger):
        dsn = database

        async def heal(self) -> None:
            raise AssertionError("it does not end")

    example = Broken()
    example.start()
    with pytest.raises(AssertionError, match="it does not end"):
        example.teardown()
    assert example.connection.is_closed()
    assert example.loop.is_closed()


def machine(dsn: str, resend: bool) -> type[Ledger]:
    return type("Ledger", (Ledger,), {"dsn": dsn, "numbers": rules(resend=resend)})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("resend", [False, True], ids=["wait", "resend"])
def test_every_interleaving_keeps_the_promise(database: str, resend: bool) -> None:
    run(machine(database, resend), 60)


@pytest.mark.timeout(600)
def test_every_interleaving_of_planned_ladders_keeps_the_promise(database: str) -> None:
    run(type("Ladders", (Planned,), {"dsn": database}), 25)


def run(machine: type[Ledger], examples: int) -> None:
    examples = int(os.environ.get("MACHINE_EXAMPLES", examples))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
