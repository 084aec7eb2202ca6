"""Freezes: slices of the work that must not leave.  Rows, so they hold across restarts and replicas.

Ordered with intend by a transaction-level advisory lock: intend and intake share it, freeze and unfreeze exclude.
So a freeze that has committed is seen by every later intend.  Each freeze and unfreeze leaves a row in `freeze_audit`,
which a trigger writes in the same transaction and nobody can change.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.ledger import volume
from gateway.ledger.database import Connection
from gateway.ledger.standing import LADDER_CHANNEL, Rules, Situation


class FreezeKind(StrEnum):
    """What a freeze can name; the same list as the constraint `freeze_kind_known`."""

    ALL = "all"
    SOURCE = "source"
    LENDER = "lender"
    PRODUCT = "product"
    STAGE = "stage"
    CHANNEL = "channel"
    PROVIDER = "provider"
    TEMPLATE = "template"


EVERYTHING: Final = "*"  # the value of the kind `all`
OF_NONE: Final = 0  # in the place of a freeze's id: it has ended, what it held waits for its turn
HELD_CAP: Final = 10_001
# Authors of the gateway's own freezes.
VOLUME_BRAKE: Final = "volume brake"
INTAKE: Final = "intake"
OURS: Final = frozenset({VOLUME_BRAKE, INTAKE})

_LOCK_KEY: Final = 7_214_002
_SHARED: Final = f"select pg_advisory_xact_lock_shared({_LOCK_KEY})"
_EXCLUSIVE: Final = f"select pg_advisory_xact_lock({_LOCK_KEY})"
_READ: Final = 'select kind, value, id from "freeze" where until is null or until > $1'
# A freeze in force gives way to a longer one only.  One that was
# lifted is over, whatever the clock of who freezes says.
_ADD: Final = """
insert into "freeze" (kind, value, reason, author, created_at, until) values ($1, $2, $3, $4, $5, $6)
on conflict on constraint freeze_once do update set reason = excluded.reason, author = excluded.author,
    created_at = excluded.created_at, until = excluded.until, lifted_at = null, lifted_by = null, lift_reason = null
    where "freeze".until <= excluded.created_at or "freeze".until = "freeze".lifted_at
       or (excluded.until is null and "freeze".until is not null) or excluded.until > "freeze".until
returning id
"""
_LIFT: Final = """
update "freeze" set until = $3, lifted_at = $3, lifted_by = $4, lift_reason = $5
where kind = $1 and value = $2 and (until is null or until > $3) returning id
"""
# What a source sent before is no reason to freeze it again the moment somebody has lifted it.
_FORGET: Final = "delete from source_health where source = $1"

_FACTS: Final = """
select id, source, lender, product, stage, template from reminder where id = any($1::bigint[])
"""

# `HELD_CAP` is written out: the planner would take the limit for a large one if it were a parameter.
_LIST: Final = """
select f.kind, f.value, f.reason, f.author, f.created_at, f.until,
       (select count(*) from (select from frozen w where w.held_by = f.id limit 10001) as first)
from "freeze" f where f.until is null or f.until > $1 order by f.created_at desc, f.id desc limit 1000
"""
_AUDIT: Final = "select at, act, kind, value, author, reason, until from freeze_audit order by id desc limit $1"
_KNOWN_SOURCE: Final = "select exists (select 1 from source_health where source = $1)"


@dataclass(frozen=True, slots=True)
class Freezes:
    """The freezes in force at one moment: their ids by slice."""

    slices: Mapping[tuple[str, str], int]

    def covers(self, facts: Mapping[str, str | None]) -> bool:
        """Whether anything with these facts (kind -> value) must not leave."""
        return self.holder(facts) is not None

    def holder(self, facts: Mapping[str, str | None]) -> int | None:
        """The id of a freeze that holds what has these facts; None when none does."""
        if not self.slices:
            return None
        named = ((kind, value) for kind, value in facts.items() if value is not None)
        found = (self.slices.get(each) for each in ((FreezeKind.ALL.value, EVERYTHING), *named))
        return next((each for each in found if each is not None), None)

    @property
    def ids(self) -> list[int]:
        return list(self.slices.values())


@dataclass(frozen=True, slots=True)
class Freeze:
    """A freeze in force, and how many reminders are held under it (at most `HELD_CAP`)."""

    kind: str
    value: str
    reason: str
    author: str
    since: dt.datetime
    until: dt.datetime | None
    holds: int


@dataclass(frozen=True, slots=True)
class Act:
    """Somebody has frozen or unfrozen something; `at` is the database's time."""

    at: dt.datetime
    act: str
    kind: str
    value: str
    author: str
    reason: str
    until: dt.datetime | None


async def read_shared(connection: Connection, now: dt.datetime) -> Freezes:
    """Takes the shared lock until the transaction ends, then reads: nothing can be frozen behind our back."""
    await connection.execute(_SHARED)
    return await read(connection, now)


async def read(connection: Connection, now: dt.datetime) -> Freezes:
    return Freezes({(row[0], row[1]): row[2] for row in await connection.fetch(_READ, now)})


async def holders(
    connection: Connection, found: Mapping[int, Situation], in_force: Freezes, rules: Rules
) -> dict[int, int]:
    """By reminder, the id of a freeze in force that covers its current contact; who is not named is free to go."""
    if not in_force.slices or not found:
        return {}
    held = {}
    for row in await connection.fetch(_FACTS, list(found)):
        holder = in_force.holder(_facts(row, found[row[0]], rules))
        if holder is not None:
            held[row[0]] = holder
    return held


def _facts(row: Any, was: Situation, rules: Rules) -> dict[str, str | None]:
    _, source, lender, product, stage, template = row
    channel = LADDER_CHANNEL[was.ladder[was.rung]]
    return {
        "source": source, "lender": lender, "product": product, "stage": stage, "template": template,
        "channel": channel, "provider": rules.route(lender, channel),
    }  # fmt: skip


async def exclude(connection: Connection) -> None:
    """Waits until nobody shares the lock; from then on until the transaction ends nothing is intended or read in."""
    await connection.execute(_EXCLUSIVE)


async def add(
    connection: Connection,
    kind: str,
    value: str,
    *,
    reason: str,
    author: str,
    now: dt.datetime,
    until: dt.datetime | None = None,
) -> bool:
    """Freezes a slice, for every intend after the commit.

    One that is in force is only made longer; False where it lasts as long already.  One that is over counts no more.
    """
    await connection.execute(_EXCLUSIVE)
    return await connection.fetchval(_ADD, kind, value, reason, author, now, until) is not None


async def lift(connection: Connection, kind: str, value: str, *, reason: str, author: str, now: dt.datetime) -> bool:
    """Lifts a freeze; False when there was none in force.

    What it held leaves by and by.  Of a source or lender, the quotas that had run out begin anew.
    """
    await connection.execute(_EXCLUSIVE)
    if await connection.fetchval(_LIFT, kind, value, now, author, reason) is None:
        return False
    if kind == FreezeKind.SOURCE:
        await connection.execute(_FORGET, value)
    await volume.begin_anew(connection, kind, value)
    return True


async def in_force(connection: Connection, now: dt.datetime) -> list[Freeze]:
    """Every freeze in force, the newest first, a thousand at most."""
    return [Freeze(*row) for row in await connection.fetch(_LIST, now)]


async def audit(connection: Connection, limit: int) -> list[Act]:
    """What was frozen and unfrozen last, the newest first."""
    return [Act(*row) for row in await connection.fetch(_AUDIT, limit)]


async def is_heard(connection: Connection, source: str) -> bool:
    """Whether anything of this source has been read lately: a name nobody knows may be a slip."""
    return bool(await connection.fetchval(_KNOWN_SOURCE, source))
