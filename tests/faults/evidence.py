"""What the judge looks at (Postgres at one moment, the simulator's log, events by id) and the report it writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.faults import tables, witness
from tests.faults.topics import Topic

_BASE32: Final = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True)
class Violation:
    """A broken invariant and the ids that show it."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.what}"


@dataclass
class Report:
    """What was found.  `counts` has the size of the run, the two counters how often each move was made."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    reminder_moves: witness.Moves = field(default_factory=Counter)
    attempt_moves: witness.Moves = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)

    def broken(self, invariant: str) -> list[str]:
        return [each.what for each in self.violations if each.invariant == invariant]

    def blame(self, invariant: str, what: str) -> None:
        self.violations.append(Violation(invariant, what))

    def __str__(self) -> str:
        lines = [f"{name}: {n}" for name, n in sorted(self.counts.items())]
        lines += [f"ended {name}: {n}" for name, n in sorted(self.endings.items())]
        lines += [witness.table(self.reminder_moves, tables.REMINDERS)]
        lines += [witness.table(self.attempt_moves, tables.ATTEMPTS)]
        return "\n".join([*lines, *map(str, self.violations)])


# (provider, stage) as the configuration of a run names them.
Resends = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Evidence:
    """Where to look.  `resends` says which providers the run was configured to send to again, and at which stages."""

    dsn: str
    bootstrap: str
    requests: str
    events: str
    deadletters: str
    log: Path
    resends: Resends = frozenset()


@dataclass
class Ledger:
    """Postgres at one moment.  `topic` is where the requests are; other reminders are made by plans."""

    reminders: dict[int, asyncpg.Record]
    live: dict[int, asyncpg.Record]
    endings: dict[int, asyncpg.Record]
    attempts: dict[int, asyncpg.Record]
    deadletters: list[asyncpg.Record]
    counted: Counter[tuple[int, str]]
    left: dict[str, int]
    stopped: list[asyncpg.Record]
    tombstones: list[asyncpg.Record]
    reminder_steps: list[witness.Step]
    attempt_steps: list[witness.Step]
    seen: list[asyncpg.Record]  # everything the witness saw, in its order
    topic: str
    redriven: list[asyncpg.Record] = field(default_factory=list)  # which dead letters left the dead


_LEFT: Final = ("live", "due", "claim", "timer", "outbox", "parked", "unsettled")
_REDRIVEN: Final = """
select d.partition, d."offset", r.outcome, r.reminder from redrive r join deadletter d on d.id = r.letter
"""
# The stops and the intents they should have prevented.
_STOPPED: Final = """
with t as (
    select subject, kind, value, null::int as instalment, as_of, kind || ':' || value as note from tombstone
    union all
    select subject, 'paid', debt, instalment, as_of, 'paid:' || debt || ':' || instalment from paid_instalment
)
select a.id as attempt, a.reminder, t.kind
from t
join witness.seen s on s.what = 'stop' and s.key = t.subject and s.state = t.note
join reminder r on r.subject = t.subject and case t.kind
    when 'request' then exists (select 1 from inbox i where encode(i.key, 'hex') = t.value and i.reminder = r.id)
    when 'debt' then r.debt = t.value and r.state_as_of <= t.as_of
    when 'paid' then r.debt = t.value and r.state_as_of <= t.as_of
        and (t.instalment is null or t.instalment = r.instalment)
    when 'stopped' then t.value in ('', r.debt)
    when 'opted_in' then false
    when 'channel_out' then false
    else r.state_as_of <= t.as_of end
join attempt a on a.reminder = r.id
join witness.seen w on w.what = 'attempt' and w.id = a.id and w.state = 'intended' and w.n > s.n
"""


async def read(dsn: str, topic: str) -> Ledger:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await look(connection, topic)
    finally:
        await connection.close()


async def look(connection: Any, topic: str) -> Ledger:
    """What a transaction sees."""
    fetch = connection.fetch
    counts = await fetch("select partition, outcome, n from intake_count where topic = $1", topic)
    return Ledger(
        reminders={row["id"]: row for row in await fetch("select * from reminder")},
        live={row["id"]: row for row in await fetch("select * from live")},
        endings={row["reminder"]: row for row in await fetch("select * from ending")},
        attempts={row["id"]: row for row in await fetch("select * from attempt")},
        deadletters=list(await fetch("select * from deadletter")),
        counted=Counter({(row["partition"], row["outcome"]): row["n"] for row in counts}),
        left={name: await connection.fetchval(f'select count(*) from "{name}"') for name in _LEFT},
        stopped=list(await fetch(_STOPPED)),
        tombstones=list(
            await fetch("select s.lender, s.borrower, t.* from tombstone t join subject s on s.key = t.subject")
        ),
        reminder_steps=await witness.steps(connection, "reminder"),
        attempt_steps=await witness.steps(connection, "attempt"),
        seen=list(await fetch("select * from witness.seen order by n")),
        topic=topic,
        redriven=list(await fetch(_REDRIVEN)),
    )


def lines(log: Path) -> Iterator[dict[str, Any]]:
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue  # torn by the end of the simulator: never answered


def parsed(value: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def events_by_id(events: Topic) -> dict[str, dict[str, Any]]:
    """Events by id; a repetition must say the same."""
    return {event["id"]: event["data"] for event in map(parsed, events.values())}


def id_of(reference: str) -> int:
    """The number behind 13 base32 characters; -1 when it is none."""
    value = 0
    for char in reference:
        if char not in _BASE32:
            return -1
        value = value * 32 + _BASE32.index(char)
    return value if len(reference) == 13 else -1
