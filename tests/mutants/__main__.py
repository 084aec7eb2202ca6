"""`python -m tests.mutants [--only WORD] [--every-check]`: does each mistake's check find it?

The ledger machine runs in here, with as many examples as in CI, under `wait` and then under `resend`; all else is a run
of pytest.  Each check has to fail with the mistake, and to pass without any.  With `--every-check` all the checks of an
area are tried on each of its mistakes.  Exits with how many of them are not as they should be.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
import traceback
from contextlib import nullcontext
from typing import Final, NamedTuple

import asyncpg
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.machine.model import rules
from tests.integration.machine.rules import Ledger
from tests.mutants.planting import loosened, planted
from tests.mutants.table import AREAS, EVERY, LEDGER_MACHINE, Check
from tests.stack.postgres import PostgresServer

SOUND: Final = "nothing is wrong"
_EXAMPLES: Final = 60
_FAILED: Final = 1  # pytest's own; anything else but 0 is no answer


class Ran(NamedTuple):
    found: bool
    seconds: float
    said: str


async def main(word: str, every_check: bool) -> int:
    wrong = 0
    async with PostgresServer() as postgres:
        for checks in AREAS:
            mine = [name for name, each in EVERY.items() if each.check in checks and word in name]
            if not mine:
                continue
            for name in (*mine, SOUND):
                tried = checks if every_check or name == SOUND else [EVERY[name].check]
                ran = {check: await _run(postgres, check, name) for check in tried}
                owed = [] if name == SOUND else [EVERY[name].check]
                fits = [each.found is (check in owed) for check, each in ran.items() if name == SOUND or check in owed]
                wrong += not all(fits)
                for check, each in ran.items():
                    said = "found" if each.found else "passed" if check not in owed else "MISSED"
                    print(f"| {name} | {check.name} | {said} | {each.seconds:.0f} | {each.said} |", flush=True)
    return wrong


async def _run(postgres: PostgresServer, check: Check, name: str) -> Ran:
    if check is not LEDGER_MACHINE:
        return await asyncio.to_thread(_pytest, check, name)
    dsn = postgres.dsn(await postgres.fresh_database())
    if name != SOUND:
        connection = await asyncpg.connect(dsn)
        for sql in loosened(EVERY[name].changes):
            await connection.execute(sql)
        await connection.close()
    return await asyncio.to_thread(_ledger_machine, dsn, name)


def _pytest(check: Check, name: str) -> Ran:
    start = time.monotonic()
    with_it = () if name == SOUND else ("--mutant", name)
    how = ("-q", "-x", "--tb=short", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin", *with_it)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *how, *check.tests],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode not in (0, _FAILED):
        raise RuntimeError(ran.stdout + ran.stderr)
    test = re.search(r"^(?:FAILED|ERROR) \S*/(\S+)", ran.stdout, re.MULTILINE)
    error = re.search(r"^E +(\S*(?:Error|Exception|Lost\w+).*)$", ran.stdout, re.MULTILINE)
    said = f"`{test[1] if test else ''}`: `{error[1][:80] if error else ''}`" if ran.returncode else ""
    return Ran(bool(ran.returncode), time.monotonic() - start, said)


def _ledger_machine(dsn: str, name: str) -> Ran:
    # Which of its mistakes is found must not depend on luck: what is missed once is missed again.
    how = settings(
        max_examples=_EXAMPLES, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,), print_blob=False, report_multiple_bugs=False, derandomize=True, database=None,
    )  # fmt: skip
    start = time.monotonic()
    for resend in (False, True):
        machine = type("Ledger", (Ledger,), {"dsn": dsn, "numbers": rules(resend=resend)})
        with nullcontext() if name == SOUND else planted(EVERY[name].changes):
            try:
                run_state_machine_as_test(machine, settings=how)
            except Exception as error:
                lines = f"{type(error).__name__}: {error}".splitlines()
                [*_, last] = traceback.extract_tb(error.__traceback__)
                told = lines[0][:80].strip(" :") if str(error) else f"{lines[0].strip(' :')}, {last.line}"[:80]
                said = f"`{told}`, under {'resend' if resend else 'wait'}"
                return Ran(True, time.monotonic() - start, said)
    return Ran(False, time.monotonic() - start, f"{_EXAMPLES} examples each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--every-check", action="store_true")
    chosen = parser.parse_args()
    raise SystemExit(asyncio.run(main(chosen.only, chosen.every_check)))
