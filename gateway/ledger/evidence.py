"""The exact words of an attempt, as they were sealed before it was made."""

from __future__ import annotations

from typing import Final

from gateway.ledger.database import Connection

_WORDS: Final = """
select d.sealed from attempt a join decision d on d.reminder = a.reminder and d.attempt = a.id
where a.id = $1 and a.provider = $2 and d.sealed is not null limit 1
"""


async def words(connection: Connection, provider: str, attempt: int) -> bytes | None:
    """The sealed words of an attempt made through `provider`; None when there is none."""
    found: bytes | None = await connection.fetchval(_WORDS, attempt, provider)
    return found
