"""The gateway without its fences, to show that the checker can fail.  Never installed, never imported.

`intend` no longer asks whether the claim is still this worker's under this token, whether its lease stands, or whether
the reminder is still to be sent; and `send` no longer looks at the lease before the first byte.  A worker that slept
past its lease then does what it was about to do.
"""

from __future__ import annotations

import re

from gateway.cli import main
from gateway.ledger import intend
from gateway.worker import Lease

_FENCES = (
    r"cross join lateral \(\s*select 1 from claim c .*?\) c\n",  # claim and token
    r"where exists \(select 1 from worker w [^\n]*\n",  # the lease, by the database's clock
    r"l\.state = 'scheduled' and l\.closed is null and l\.rung = i\.rung",  # what the reminder is doing
)


def without_fences(sql: str) -> str:
    """The statement with every fence taken out.  Raises ValueError when one is not where it was."""
    for fence, instead in zip(_FENCES, ("", "where $1::bigint is not null\n", "true"), strict=True):
        sql, n = re.subn(fence, instead, sql, flags=re.DOTALL)
        if n != 1:
            raise ValueError(f"{n} fences look like {fence}")
    return sql


if __name__ == "__main__":
    intend._INTEND = without_fences(intend._INTEND)  # type: ignore[misc]  # breaking it is the point
    Lease.stands = lambda self, for_seconds=0.0: True  # type: ignore[method-assign]  # as above
    main()
