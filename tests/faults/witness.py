"""A witness inside Postgres: triggers that write down every state a reminder or an attempt takes, and every brake.

The gateway does not know of it.  Each line commits or vanishes with the move it tells of.  `n` is drawn while the
writer holds the lock that orders the two things which are compared: the borrower's lock for states, stops and holds,
the freezes' own lock for a freeze and an intent, the claim's row for claims of one reminder.  So what comes after a
stop in this order came after it in truth, whatever the clocks say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
    key bytea,
    token bigint,
    until timestamptz
);

create function witness.note() returns trigger language plpgsql as $$
begin
    case TG_TABLE_NAME
    when 'live' then
        insert into witness.seen (what, id, state, token) values ('reminder', NEW.id, NEW.state::text, NEW.token);
    when 'ending' then
        insert into witness.seen (what, id, state) values ('reminder', NEW.reminder, NEW.state::text);
    when 'attempt' then
        insert into witness.seen (what, id, state) values ('attempt', NEW.id, NEW.state::text);
    when 'tombstone' then
        insert into witness.seen (what, state, key) values ('stop', NEW.kind || ':' || NEW.value, NEW.subject);
    when 'paid_instalment' then
        insert into witness.seen (what, state, key)
        values ('stop', 'paid:' || NEW.debt || ':' || NEW.instalment, NEW.subject);
    when 'subject' then
        insert into witness.seen (what, key)
        values (case when NEW.unreadable_stop_at is null then 'released' else 'held' end, NEW.key);
    when 'freeze' then
        if TG_OP = 'DELETE' then
            insert into witness.seen (what, state) values ('unfrozen', OLD.kind || ':' || OLD.value);
        else
            insert into witness.seen (what, state, until) values ('frozen', NEW.kind || ':' || NEW.value, NEW.until);
        end if;
    when 'claim' then
        if TG_OP = 'DELETE' then
            insert into witness.seen (what, id) values ('unclaimed', OLD.id);
        else
            insert into witness.seen (what, id, token) values ('claimed', NEW.id, NEW.token);
        end if;
    end case;
    return null;
end $$;

create trigger witness after insert or update on public.live for each row execute function witness.note();
create trigger witness after insert or update on public.ending for each row execute function witness.note();
create trigger witness after insert or update of state on public.attempt
    for each row execute function witness.note();
create trigger witness after insert or update on public.tombstone for each row execute function witness.note();
create trigger witness after insert or update on public.paid_instalment
    for each row execute function witness.note();
create trigger witness after update of unreadable_stop_at on public.subject
    for each row execute function witness.note();
create trigger witness after insert or update or delete on public."freeze"
    for each row execute function witness.note();
create trigger witness after insert or update or delete on public.claim for each row execute function witness.note();
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


def table(moves: Moves, allowed: Mapping[str, frozenset[str]]) -> str:
    """How often each move of a table was made, those that never were included."""
    rows = [(was, to, moves[was, to]) for was, becomes in allowed.items() for to in sorted(becomes)]
    return "\n".join(f"{n:6}  {was or '(born)'} -> {to}" for was, to, n in rows)
