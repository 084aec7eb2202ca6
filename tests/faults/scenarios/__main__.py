"""`python -m tests.faults.scenarios NAME…`: scenarios in full, on servers of their own, one after the other.

After each comes one line of JSON with what was counted; the exit status is 0 only if all of them ended as they must.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
import traceback
from collections.abc import Sequence

from gateway.dev.host import Home
from tests.faults.scenarios import SCENARIOS, Ground
from tests.stack.linked_kafka import LinkedKafka
from tests.stack.postgres import PostgresServer


async def tell(name: str, seconds: float) -> bool:
    """Tells one; whether it ended well."""
    if why := SCENARIOS[name].missing():
        print(json.dumps({"scenario": name, "missing": why}), flush=True)
        return False
    began = time.monotonic()
    with contextlib.closing(Home("scenario")) as home:
        async with PostgresServer() as postgres, LinkedKafka() as kafka:
            try:
                found = await SCENARIOS[name].tell(Ground(postgres, kafka, home.path), seconds)
            except Exception:  # whatever it was: it is told, and the next one has its turn
                traceback.print_exc()
                found = {"failed": True}
    minutes = round((time.monotonic() - began) / 60, 1)
    print(json.dumps({"scenario": name, "seconds": seconds, "minutes": minutes, **found}), flush=True)
    return "failed" not in found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.scenarios", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *SCENARIOS], help="all of them by default")
    parser.add_argument("--seconds", type=float, help="how long each disturbs; its full length by default")
    parser.add_argument("--short", action="store_true", help="as the tests tell them")
    given = parser.parse_args(arguments)
    ended_well = True
    for name in given.names or SCENARIOS:
        scenario = SCENARIOS[name]
        seconds = given.seconds or (scenario.short if given.short else scenario.full)
        ended_well &= asyncio.run(tell(name, seconds))
    return 0 if ended_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
