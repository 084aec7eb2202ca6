"""`python -m tests.integration.machine.mutate [--examples 60] [--only WORD]`: what does the machine find?

The machine runs against each mutant with as many examples as in CI, under `wait` and then under `resend`, and has to
fail; then against the ledger as it is, and must not.  Exits with how many it has missed.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import traceback
from contextlib import nullcontext
from typing import Final, NamedTuple

import asyncpg
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.machine.model import rules
from tests.integration.machine.mutants import MUTANTS, loosened, planted
from tests.integration.machine.rules import Ledger
from tests.stack.postgres import PostgresServer

SOUND: Final = "the ledger as it is"
# Which of its mistakes is found must not depend on luck: what is missed once is missed again.
_SEEDED: Final = {"derandomize": True, "database": None}


class Ran(NamedTuple):
    found: bool
    seconds: float
    said: str


async def main(examples: int, word: str) -> int:
    wrong = 0
    async with PostgresServer() as postgres:
        for name in [each for each in (*MUTANTS, SOUND) if word in each]:
            database = await postgres.fresh_database()
            dsn = postgres.dsn(database)
            if name != SOUND:
                connection = await asyncpg.connect(dsn)
                for sql in loosened(name):
                    await connection.execute(sql)
                await connection.close()
            ran = await asyncio.to_thread(_run, dsn, name, examples)
            fits = ran.found is (name != SOUND)
            wrong += not fits
            said = "found" if ran.found else "nothing found" if fits else "MISSED"
            print(f"| {name} | {said} | {ran.seconds:.0f} | {ran.said} |", flush=True)
    return wrong


def _run(dsn: str, name: str, examples: int) -> Ran:
    how = settings(
        max_examples=examples, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,), print_blob=False, report_multiple_bugs=False, **_SEEDED,
    )  # fmt: skip
    start = time.monotonic()
    for resend in (False, True):
        machine = type("Ledger", (Ledger,), {"dsn": dsn, "numbers": rules(resend=resend)})
        with nullcontext() if name == SOUND else planted(name):
            try:
                run_state_machine_as_test(machine, settings=how)
            except Exception as error:
                lines = f"{type(error).__name__}: {error}".splitlines()
                [*_, last] = traceback.extract_tb(error.__traceback__)
                told = lines[0][:80].strip(" :") if str(error) else f"{lines[0].strip(' :')}, {last.line}"[:80]
                said = f"`{told}`, under {'resend' if resend else 'wait'}"
                return Ran(True, time.monotonic() - start, said)
    return Ran(False, time.monotonic() - start, f"{examples} examples each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=60)
    parser.add_argument("--only", default="", metavar="WORD")
    chosen = parser.parse_args()
    raise SystemExit(asyncio.run(main(chosen.examples, chosen.only)))
