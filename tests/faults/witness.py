"""A witness inside Postgres: triggers that write down every state a reminder or an attempt takes.

The gateway does not know of it.  Each line commits or vanishes with the move it tells of.  `n` is drawn while the
writer holds the borrower's lock, so for one borrower the order of `n` is the order of the locks: what comes after a
stop in this order came after it in truth.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

Moves = Counter[tuple[str, str]]

_INSTALL: Final = """
create schema witness;
create table witness.seen (
    n bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    what text not null,
    id bigint,
    state text,
    key bytea
);

create function witness.note() returns trigger language plpgsql as $$
begin
    if TG_TABLE_NAME = 'tombstone' then
        insert into witness.seen (what, state, key) values ('stop', NEW.kind || ':' || NEW.value, NEW.subject);
    elsif TG_TABLE_NAME = 'ending' then
        insert into witness.seen (what, id, state) values ('reminder', NEW.reminder, NEW.state::text);
    else
        insert into witness.seen (what, id, state)
        values (case when TG_TABLE_NAME = 'live' then 'reminder' else 'attempt' end, NEW.id, NEW.state::text);
    end if;
    return null;
end $$;

create trigger witness after insert or update on public.live for each row execute function witness.note();
create trigger witness after insert or update on public.ending for each row execute function witness.note();
create trigger witness after insert or update of state on public.attempt
    for each row execute function witness.note();
create trigger witness after insert or update on public.tombstone for each row execute function witness.note();
"""
_MOVES: Final = """
select id, coalesce(lag(state) over (partition by id order by n), '') as was, state, n
from witness.seen where what = $1
"""


async def install(dsn: str) -> None:
    """Puts the witness into a migrated, empty database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_INSTALL)
    finally:
        await connection.close()


@dataclass(frozen=True)
class Step:
    """One state taken: `was` is empty for the first."""

    id: int
    was: str
    state: str
    n: int


async def steps(connection: Any, what: str) -> list[Step]:
    """Every state each `reminder` or `attempt` took."""
    return [Step(*row) for row in await connection.fetch(_MOVES, what)]


def counted(found: list[Step]) -> Moves:
    """How often each move was made; staying in a state counts as a move to itself."""
    return Counter((step.was, step.state) for step in found)
