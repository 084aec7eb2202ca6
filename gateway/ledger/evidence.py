"""Exact words, sealed: what an attempt said, as it stood before it was made, and what a borrower wrote back."""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

from gateway.ledger.database import Connection

_WORDS: Final = """
select d.sealed from attempt a join decision d on d.reminder = a.reminder and d.attempt = a.id
where a.id = $1 and a.provider = $2 and d.sealed is not null limit 1
"""

_REPLY: Final = """
select p.sealed, r.received_at, r.provider, r.attempt, a.reminder from reply p join receipt r on r.id = p.id
left join attempt a on a.id = r.attempt where p.id = $1
"""


async def words(connection: Connection, provider: str, attempt: int) -> bytes | None:
    """The sealed words of an attempt made through `provider`; None when there is none."""
    found: bytes | None = await connection.fetchval(_WORDS, attempt, provider)
    return found


class Written(NamedTuple):
    """A borrower's reply: the sealed words, when and through whom they came, and what they answer, if that is known."""

    sealed: bytes
    received_at: dt.datetime
    provider: str
    attempt: int | None
    reminder: int | None


async def reply(connection: Connection, reference: int) -> Written | None:
    """A reply by the id that its event names; None when there is none."""
    row = await connection.fetchrow(_REPLY, reference)
    return None if row is None else Written(*row)
