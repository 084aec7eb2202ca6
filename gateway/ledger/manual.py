"""What hands have done to reminders, counted: the counters of no process have it, and the sums must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from gateway.ledger.accept import Accepted
from gateway.ledger.database import Connection
from gateway.ledger.standing import Move

BORN: Final = "born"
PLANNED: Final = "planned"

_ADD: Final = """
insert into manual_count (term, n) select * from unnest($1::text[], $2::bigint[])
on conflict (term) do update set n = manual_count.n + excluded.n
"""


async def count(
    connection: Connection, accepted: Iterable[Accepted], moves: Iterable[Move], planned: Iterable[Accepted] = ()
) -> None:
    """Counts what the command line has made and moved, in the transaction that did it; last, since all who do it meet
    in these few rows.  `planned` are those of `accepted`'s kind that facts have made."""
    n: Counter[str] = Counter()
    for term, made in ((BORN, accepted), (PLANNED, planned)):
        for each in made:
            n[term] += 1
            if each.state.final:
                n[each.state] += 1
    for move in moves:
        if move.correction:
            n[move.was.state] -= 1
        if move.state.final:
            n[move.state] += 1
    terms = sorted(term for term, by in n.items() if by)
    if terms:
        await connection.execute(_ADD, terms, [n[each] for each in terms])
