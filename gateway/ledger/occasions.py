"""What became of every occasion of every plan, for an account of them.  A full scan: on demand, never in a loop."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gateway.ledger.database import Connection

# Of a business key the reminder that was made last stands for it; those before it were made anew.
_STANDING: Final = """
select distinct on (r.debt, r.instalment, r.stage, r.step)
       r.debt, r.instalment, r.stage, r.step, coalesce(l.state, e.state)::text, coalesce(l.reason, e.reason),
       count(*) over (partition by r.debt, r.instalment, r.stage, r.step)
from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id
order by r.debt, r.instalment, r.stage, r.step, r.id desc
"""


class Standing(Struct, frozen=True):
    """How the last reminder of one business key stands; `made` is how many there were, one after the other."""

    debt: str
    instalment: int | None
    stage: str
    step: str
    state: str
    reason: str | None
    made: int


async def standing(connection: Connection) -> list[Standing]:
    return [Standing(*row) for row in await connection.fetch(_STANDING)]
