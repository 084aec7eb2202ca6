"""Receipts: stored once, applied once, in whatever order they come.

`store` is all a provider waits for.  `apply` moves attempts by their rank and reminders by `follow`; what matches
nothing stays parked and is swept again, since a receipt can arrive before our own record of the attempt's id.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.ledger import follow, moves, situations, subjects
from gateway.ledger.database import Connection
from gateway.ledger.follow import Move, Rules
from gateway.ledger.outcomes import Jitter
from gateway.ledger.situations import ATTEMPT_STATE, FAILURE
from gateway.ledger.states import receipt_disposition
from schemas.vocabulary import AttemptState, Disposition, Failure

_REPLAY: Final = """
insert into replay (key, at) select distinct key, $2::timestamptz from unnest($1::bytea[]) as i(key) order by 1
on conflict (key) do nothing returning key
"""
_STORE: Final = """
with i as (
    select * from unnest($1::receipt_row[])
), kept as (
    insert into receipt (id, provider, attempt, ref, kind, state, failure, code, occurred_at, received_at, sealed,
                         disposition)
    select id, provider, attempt, ref, kind, state, failure, code, occurred_at, received_at, sealed, disposition from i
)
insert into parked (sweep_at, receipt) select sweep_at, id from i where disposition is null
"""
_BY_REF: Final = """
select r.provider, r.ref, r.attempt from unnest($1::text[], $2::text[]) as i(provider, ref)
join provider_ref r on r.provider = i.provider and r.ref = i.ref
"""
_ATTEMPTS: Final = "select id, reminder, subject, provider from attempt where id = any($1::bigint[])"
_DISPOSE: Final = """
with i as (
    select * from unnest($1::disposed_row[])
), disposed as (
    update receipt r set disposition = s.disposition, attempt = coalesce(s.attempt, r.attempt)
    from (select i.*, x.row from i cross join lateral (
        select r.ctid as row from receipt r where r.id = i.id limit 1) x) s
    where r.ctid = s.row and (r.disposition is null or r.disposition = 'unmatched')
), unparked as (
    delete from parked where ctid = any (array(
        select x.row from i cross join lateral (
            select p.ctid as row from parked p where p.sweep_at = i.swept and p.receipt = i.id limit 1) x))
)
insert into parked (sweep_at, receipt) select again, id from i where again is not null on conflict do nothing
"""
_ENGAGE: Final = """
insert into engagement (id, attempt, kind, occurred_at)
select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[])
on conflict on constraint engagement_once do nothing
"""
_RIPE: Final = """
select p.sweep_at, r.id, r.provider, r.attempt, r.ref, r.kind, r.state, r.failure, r.code, r.occurred_at, r.received_at
from parked p join receipt r on r.id = p.receipt
where p.sweep_at <= $1 order by p.sweep_at, p.receipt limit $2
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """One event of a callback as it is kept.  `sweep_at` is where its parked row stands; `sealed` the raw bytes."""

    id: int
    provider: str
    kind: str
    code: str
    received_at: dt.datetime
    sweep_at: dt.datetime
    attempt: int | None = None
    ref: str | None = None
    state: AttemptState | None = None
    failure: Failure | None = None
    occurred_at: dt.datetime | None = None
    sealed: bytes | None = field(default=None, repr=False)
    disposition: Disposition | None = None


@dataclass(frozen=True, slots=True)
class CallbackToStore:
    """One authentic callback: its replay key and its events."""

    replay_key: bytes | None
    events: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Disposed:
    """What became of one receipt; `handed_over_at` is when the attempt it settles was intended."""

    receipt: Stored
    disposition: Disposition
    handed_over_at: dt.datetime | None = None


async def store(connection: Connection, callbacks: Sequence[CallbackToStore], now: dt.datetime) -> list[bool]:
    """Keeps callbacks; False for those seen before (their replay key is known), which are not kept again."""
    keys = [each.replay_key for each in callbacks if each.replay_key is not None]
    new = {row[0] for row in await connection.fetch(_REPLAY, keys, now)} if keys else set()
    kept = []
    for each in callbacks:
        first = each.replay_key is None or each.replay_key in new
        new.discard(each.replay_key)
        kept.append(first)
    rows = [_row(event) for each, first in zip(callbacks, kept, strict=True) if first for event in each.events]
    if rows:
        await connection.execute(_STORE, rows)
    return kept


async def ripe(connection: Connection, now: dt.datetime, limit: int = 500) -> list[Stored]:
    """Parked receipts whose sweep is due."""
    return [
        Stored(
            id=row[1],
            provider=row[2],
            kind=row[5],
            code=row[8],
            received_at=row[10],
            sweep_at=row[0],
            attempt=row[3],
            ref=row[4],
            state=None if row[6] is None else ATTEMPT_STATE[row[6]],
            failure=FAILURE[row[7]],
            occurred_at=row[9],
        )
        for row in await connection.fetch(_RIPE, now, limit)
    ]


async def apply(
    connection: Connection,
    receipts: Sequence[Stored],
    now: dt.datetime,
    rules: Rules,
    jitter: Jitter,
    keep_parked: dt.timedelta,
) -> tuple[list[Disposed], list[Move]]:
    """Applies receipts in the order given.  Repeatable: what was applied comes out as a duplicate and moves nothing."""
    owners = await _owners(connection, receipts)
    await subjects.lock(connection, {owner[1] for owner in owners.values()})
    found = await situations.read(connection, {owner[0] for owner in owners.values()})
    disposed: list[Disposed] = []
    planned: dict[int, Move] = {}
    changes: dict[int, moves.AttemptChange] = {}
    engaged = []
    settled: list[tuple[Any, ...]] = []
    for receipt in receipts:
        owner = owners.get(receipt.id)
        if owner is None:
            waited = now - receipt.received_at
            again = now + max(dt.timedelta(seconds=2), waited) if waited < keep_parked else None
            settled.append((receipt.id, Disposition.UNMATCHED, None, receipt.sweep_at, again))
            disposed.append(Disposed(receipt, Disposition.UNMATCHED))
            continue
        reminder, _, attempt_id = owner
        disposition = Disposition.APPLIED
        since = None
        if receipt.kind == "engaged":
            engaged.append((receipt.id, attempt_id, receipt.code, receipt.occurred_at))
        elif receipt.state is not None:
            was = found[reminder]
            attempt = was.find(attempt_id)
            assert attempt is not None
            disposition = receipt_disposition(attempt.state, receipt.state)
            if disposition is Disposition.APPLIED:
                since = attempt.intended_at
                if was.queue is None:
                    disposition = Disposition.LATE
                attempt.become(receipt.state, receipt.failure, now)
                changes[attempt_id] = (attempt_id, receipt.state, receipt.failure, receipt.code, now)
                move = follow.after_attempt(was, attempt, now, rules, jitter=jitter())
                if move is not None:
                    planned[reminder] = move
        settled.append((receipt.id, disposition, attempt_id, receipt.sweep_at, None))
        disposed.append(Disposed(receipt, disposition, since))
    await moves.move_attempts(connection, list(changes.values()))
    await moves.apply(connection, planned.values())
    if engaged:
        await connection.execute(_ENGAGE, *_columns(engaged))
    await connection.execute(_DISPOSE, settled)
    return disposed, list(planned.values())


async def _owners(connection: Connection, receipts: Sequence[Stored]) -> dict[int, tuple[int, bytes, int]]:
    """(reminder, subject, attempt) by receipt, for those that match an attempt made through the same provider."""
    by_ref = {(each.provider, each.ref) for each in receipts if each.attempt is None and each.ref is not None}
    refs: dict[tuple[str, str], int] = {}
    if by_ref:
        refs = {(row[0], row[1]): row[2] for row in await connection.fetch(_BY_REF, *_columns(sorted(by_ref)))}
    wanted = {}
    for each in receipts:
        attempt = each.attempt if each.attempt is not None else refs.get((each.provider, each.ref or ""))
        if attempt is not None:
            wanted[each.id] = attempt
    rows = await connection.fetch(_ATTEMPTS, list(set(wanted.values())))
    attempts = {row[0]: row for row in rows}
    owners = {}
    for each in receipts:
        row = attempts.get(wanted.get(each.id, -1))
        if row is not None and row[3] == each.provider:
            owners[each.id] = (row[1], row[2], row[0])
    await moves.keep_refs(
        connection,
        sorted({(each.provider, each.ref, owners[each.id][2]) for each in receipts if each.ref and each.id in owners}),
    )
    return owners


def _row(each: Stored) -> tuple[Any, ...]:
    return (
        each.id, each.provider, each.attempt, each.ref, each.kind, each.state, each.failure, each.code,
        each.occurred_at, each.received_at, each.sealed, each.sweep_at, each.disposition,
    )  # fmt: skip


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
