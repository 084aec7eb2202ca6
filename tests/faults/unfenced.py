"""The gateway with some of its fences taken out, to show that the checker can fail.  Never installed, never imported by
the gateway.

`UNFENCED` names those that are out, comma-separated:

token  intend no longer asks whether the claim is still this worker's under this token
lease  intend no longer asks whether the worker's lease stands, by the database's clock
state  intend no longer asks whether the reminder is still to be sent, by this contact
clock  send no longer looks at the lease, by its own clock, before the first byte
listed decide no longer looks at the allowlist
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from msgspec.structs import replace

from gateway import policy
from gateway.cli import main
from gateway.ledger import intend
from gateway.worker import Lease

FENCES = {
    "token": (r"cross join lateral \(\s*select 1 from claim c .*?\) c\n", ""),
    "lease": (r"where exists \(select 1 from worker w [^\n]*\n", "where $1::bigint is not null\n"),
    "state": (r"l\.state = 'scheduled' and l\.closed is null and l\.rung = i\.rung", "true"),
}
CLOCK, LISTED = "clock", "listed"


def without_fences(sql: str, names: Collection[str]) -> str:
    """Intend's statement without these.  Raises ValueError when one is not where it was."""
    for name in names:
        fence, instead = FENCES[name]
        sql, n = re.subn(fence, instead, sql, flags=re.DOTALL)
        if n != 1:
            raise ValueError(f"{n} fences look like {name}")
    return sql


if __name__ == "__main__":
    out = set(filter(None, os.environ["UNFENCED"].split(",")))
    intend._INTEND = without_fences(intend._INTEND, out & FENCES.keys())  # type: ignore[misc]  # breaking it is the point
    if CLOCK in out:
        Lease.stands = lambda self, for_seconds=0.0: True  # type: ignore[method-assign]  # as above
    if LISTED in out:
        decide = policy.decide
        policy.decide = lambda now, facts: decide(now, replace(facts, listed=True))
    main()
