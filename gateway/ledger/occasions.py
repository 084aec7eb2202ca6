"""What became of every occasion of every plan, for an account of them.  A full scan: on demand, never in a loop."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gateway.ledger.database import Connection

# Of a business key the reminder that was made last stands for it; those before it were made anew.
_STANDING: Final = """
select distinct on (r.borrower, k.debt, k.instalment, r.stage, r.step)
       r.borrower, k.debt, k.instalment, r.stage, r.step, coalesce(l.state, e.state)::text,
       coalesce(l.reason, e.reason), count(*) over (partition by r.borrower, k.debt, k.instalment, r.stage, r.step)
from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id
cross join lateral (
    select case when r.stage <> 'education' then r.debt else '' end as debt,
           case when r.stage <> 'education' then r.instalment end as instalment
) k
order by r.borrower, k.debt, k.instalment, r.stage, r.step, r.id desc
"""


class Standing(Struct, frozen=True):
    """How the last reminder of one business key stands; `made` is how many there were, one after the other.

    A lesson is of no debt and no instalment.
    """

    borrower: str
    debt: str
    instalment: int | None
    stage: str
    step: str
    state: str
    reason: str | None
    made: int


async def standing(connection: Connection) -> list[Standing]:
    """Of one lender: borrowers are told apart by their references alone."""
    return [Standing(*row) for row in await connection.fetch(_STANDING)]
