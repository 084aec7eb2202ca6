"""Receipts: stored once, applied once, in whatever order they come.

`take` stores and applies in one transaction: attempts move by their rank, reminders by `follow`.  Where a borrower is
locked too long for a provider that waits, `store` keeps the receipts parked and `sweep` applies them later; so it does
with what matches nothing yet, since a receipt can arrive before our own record of the attempt's id.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from gateway.ledger import contacts, follow, freezes, matching, moves, situations, subjects, writing
from gateway.ledger.database import Connection
from gateway.ledger.outcomes import Jitter
from gateway.ledger.received import Disposed, Stored
from gateway.ledger.situations import ATTEMPT_STATE, FAILURE
from gateway.ledger.standing import Attempt, Move, Rules, Situation
from gateway.ledger.states import receipt_disposition
from schemas.vocabulary import AttemptState, Choice, Disposition, Engagement

# A callback waits no longer than this for a borrower's lock; then it is only stored.
_PATIENCE: Final = "set local lock_timeout = '250ms'"
# Nor for the intends under way, where a borrower wants no more.  They take milliseconds; where one hangs, to store the
# stop beside it is better than to lose it.
_ORDER_PATIENCE: Final = "set local lock_timeout = '1s'"
# What cannot be applied now is parked in the same statement.
_STORE: Final = """
with i as (
    select * from unnest($1::kept_row[])
), kept as (
    insert into receipt (id, replay, provider, attempt, ref, kind, state, failure, code, occurred_at, received_at,
                         sealed, disposition, address)
    select id, replay, provider, attempt, ref, kind, state, failure, code, occurred_at, received_at, sealed,
           disposition, address from i
    on conflict (replay) do nothing returning id
), replies as (
    insert into reply (id, address, sealed)
    select i.id, i.address, i.reply from i join kept using (id) where i.reply is not null
), parked as (
    insert into parked (sweep_at, receipt)
    select i.sweep_at, i.id from i join kept using (id) where i.sweep_at is not null
)
select id from kept
"""
# Without the borrower's lock, which somebody else has: intend looks for it, and is kept out meanwhile.
_STOP_AT_ONCE: Final = """
insert into tombstone (subject, kind, value, as_of)
select distinct a.subject, 'opted_out', '', $3::timestamptz
from unnest($1::bigint[], $2::text[]) as i(attempt, provider)
cross join lateral (
    select a.subject from attempt a where a.id = i.attempt and a.provider = i.provider offset 0
) a
order by 1 on conflict (subject, kind, value) do update set as_of = greatest(tombstone.as_of, excluded.as_of)
"""
# Parked anew only where it was parked: of two sweepers that hold the same receipt one finds nothing.
_SWEPT: Final = """
with i as (
    select * from unnest($1::disposed_row[])
), unparked as (
    delete from parked where ctid = any (array(
        select x.row from i cross join lateral (
            select p.ctid as row from parked p where p.sweep_at = i.swept and p.receipt = i.id limit 1) x))
    returning receipt
), disposed as (
    update receipt r set disposition = s.disposition, attempt = coalesce(s.attempt, r.attempt)
    from (select i.*, x.row from i join unparked u on u.receipt = i.id cross join lateral (
        select r.ctid as row from receipt r where r.id = i.id limit 1) x) s
    where r.ctid = s.row
), again as (
    insert into parked (sweep_at, receipt)
    select i.again, i.id from i join unparked u on u.receipt = i.id where i.again is not null
)
select receipt from unparked
"""
# As if they had not come.
_UNSTORE: Final = """
with unparked as (
    delete from parked where ctid = any (array(
        select p.row from unnest($1::timestamptz[], $2::bigint[]) as i(sweep_at, receipt)
        cross join lateral (
            select p.ctid as row from parked p where p.sweep_at = i.sweep_at and p.receipt = i.receipt offset 0
        ) p))
), unsaid as (
    delete from reply where id = any($2::bigint[])
)
delete from receipt where id = any($2::bigint[])
"""
_ENGAGE: Final = """
insert into engagement (id, attempt, kind, occurred_at)
select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[])
on conflict on constraint engagement_once do nothing
"""
_RIPE: Final = """
select p.sweep_at, r.id, r.provider, r.attempt, r.ref, r.kind, r.state, r.failure, r.code, r.occurred_at, r.received_at,
       r.address
from (select * from parked p where p.sweep_at <= $1 order by p.sweep_at, p.receipt limit $2) p
cross join lateral (select * from receipt r where r.id = p.receipt offset 0) r order by p.sweep_at, p.receipt
"""


@dataclass(slots=True)
class Taken:
    """`kept` are the ids of receipts that were new; the others are copies of what is stored already."""

    kept: frozenset[int]
    disposed: list[Disposed]
    moves: list[Move]


async def take(
    connection: Connection, receipts: Sequence[Stored], now: dt.datetime, rules: Rules, jitter: Jitter
) -> Taken:
    """Stores receipts and applies them, in one go.

    Repeatable: a copy is not stored again and moves nothing, also where the first of them is still parked.
    Raises LockNotAvailable when a borrower stays locked.
    """
    await connection.execute(_PATIENCE)
    plan = await _plan(connection, receipts, now, rules, jitter)
    rows = plan.rows(now)
    kept = await _store(connection, rows)
    if len(kept) < len(rows):
        # That there were copies shows only now, and the plan has counted on them: once more without.
        mine = [row for row in rows if row[_ID] in kept]
        await connection.execute(_UNSTORE, [row[_SWEEP_AT] for row in mine], [row[_ID] for row in mine])
        plan = await _plan(connection, [each for each in receipts if each.id in kept], now, rules, jitter)
        kept = await _store(connection, plan.rows(now))
    return Taken(kept, plan.disposed, await plan.write(connection, now, rules))


async def store(connection: Connection, receipts: Sequence[Stored], sweep_at: dt.datetime) -> frozenset[int]:
    """Keeps receipts without applying them; `sweep` does that from `sweep_at` on.  Returns the ids of new ones.

    A borrower's own stop is effective from here on all the same: it is ordered with every intend, unless one hangs.
    """
    wanted = [each for each in receipts if each.kind == "key" and each.code == Choice.STOP and each.attempt is not None]
    if wanted:
        await _keep_intends_out(connection)
        await connection.execute(
            _STOP_AT_ONCE, [each.attempt for each in wanted], [each.provider for each in wanted], wanted[0].received_at
        )
    return await _store(
        connection,
        [_row(each, each.disposition, each.attempt, None if each.disposition else sweep_at) for each in receipts],
    )


async def _keep_intends_out(connection: Connection) -> None:
    """Waits for the intends that may have looked for a stop already; those that come wait for this transaction."""
    await connection.execute(_ORDER_PATIENCE)
    with contextlib.suppress(asyncpg.LockNotAvailableError):
        async with connection.transaction():
            await freezes.exclude(connection)


async def ripe(connection: Connection, now: dt.datetime, limit: int = 500) -> list[Stored]:
    """Parked receipts whose sweep is due."""
    return [
        Stored(
            id=row[1],
            provider=row[2],
            kind=row[5],
            code=row[8],
            received_at=row[10],
            parked_at=row[0],
            attempt=row[3],
            ref=row[4],
            state=None if row[6] is None else ATTEMPT_STATE[row[6]],
            failure=FAILURE[row[7]],
            occurred_at=row[9],
            address=row[11],
        )
        for row in await connection.fetch(_RIPE, now, limit)
    ]


async def sweep(
    connection: Connection, receipts: Sequence[Stored], now: dt.datetime, rules: Rules, jitter: Jitter
) -> Taken:
    """Applies parked receipts; what still matches nothing is parked again until it is too old.  Repeatable."""
    plan = await _plan(connection, receipts, now, rules, jitter)
    rows = [
        (each.receipt.id, each.disposition, each.attempt, each.receipt.parked_at, _again(each, now))
        for each in plan.disposed
    ]
    swept = frozenset(row[0] for row in await connection.fetch(_SWEPT, rows))
    # Another sweeper was first with the others, and has told of them.
    plan.heard = [each for each in plan.heard if each.id in swept]
    made = await plan.write(connection, now, rules)
    return Taken(swept, [each for each in plan.disposed if each.receipt.id in swept], made)


async def postpone(connection: Connection, receipts: Sequence[Stored], now: dt.datetime) -> None:
    """Parks receipts that could not be applied for later, as if they matched nothing yet."""
    rows = [(each.id, None, each.attempt, each.parked_at, _later(each.received_at, now)) for each in receipts]
    await connection.fetch(_SWEPT, rows)


KEEP_PARKED: Final = dt.timedelta(hours=72)
_SWEEP_AGAIN: Final = dt.timedelta(seconds=2)


def _again(each: Disposed, now: dt.datetime) -> dt.datetime | None:
    """When to look again for what a receipt belongs to: after as long as it has waited already, None to give up."""
    if each.disposition is not Disposition.UNMATCHED or each.receipt.disposition is not None:
        return None
    if each.receipt.kind == "inbound":
        return None  # told already; to whom it was an answer will not be known better later
    return _later(each.receipt.received_at, now)


def _later(received_at: dt.datetime, now: dt.datetime) -> dt.datetime | None:
    waited = now - received_at
    return now + max(_SWEEP_AGAIN, waited) if waited < KEEP_PARKED else None


@dataclass(slots=True)
class _Plan:
    disposed: list[Disposed]
    changes: list[writing.AttemptChange]
    planned: dict[int, Move]
    engaged: list[tuple[Any, ...]]
    refs: list[writing.Ref]
    changed: list[Situation]
    heard: list[contacts.Heard]

    def rows(self, now: dt.datetime) -> list[tuple[Any, ...]]:
        return [_row(each.receipt, each.disposition, each.attempt, _again(each, now)) for each in self.disposed]

    async def write(self, connection: Connection, now: dt.datetime, rules: Rules) -> list[Move]:
        """Everything that was planned, and then what borrowers ask for; returns the moves made."""
        planned = list(self.planned.values())
        planned += await moves.apply(connection, planned, self.changes, self.refs, self.changed)
        if self.engaged:
            await connection.execute(_ENGAGE, *_columns(self.engaged))
        return [*planned, *await contacts.write(connection, self.heard, now, rules)]


async def _plan(
    connection: Connection, receipts: Sequence[Stored], now: dt.datetime, rules: Rules, jitter: Jitter
) -> _Plan:
    """What the receipts do, under the locks of the borrowers they concern.

    Several of one reminder move it once, by where its attempts stand in the end: their order in the group is chance.
    """
    owners = await matching.owners(connection, [each for each in receipts if each.disposition is None])
    known = [owner for owner in owners.values() if owner is not matching.SOMEBODY_ELSE]
    await subjects.lock(connection, {owner[1] for owner in known})
    found = await situations.read(connection, {owner[0] for owner in known})
    templates = await matching.templates(connection, receipts, owners)
    plan = _Plan([], [], {}, [], [], [], [])
    changed: dict[int, dict[int, Attempt]] = {}
    opened: dict[int, Attempt] = {}
    for receipt in receipts:
        owner = owners.get(receipt.id)
        if owner is None or owner is matching.SOMEBODY_ELSE:
            unmatched = Disposition.UNMATCHED if owner is None else Disposition.CONFLICT
            plan.disposed.append(Disposed(receipt, receipt.disposition or unmatched))
            if receipt.kind == "inbound":
                plan.heard.append(contacts.Heard(receipt.id, receipt.provider, receipt.received_at))
            continue
        was = found[owner[0]]
        attempt = was.find(owner[2])
        assert attempt is not None
        if receipt.ref is not None and attempt.state in _BEFORE_RECORD:
            plan.refs.append((receipt.provider, receipt.ref, attempt.id))
        disposition, since, stood = Disposition.APPLIED, None, attempt.state
        if (engagement := _ENGAGED.get(receipt.kind)) is not None:
            if receipt.code != Choice.SILENT:
                plan.engaged.append((receipt.id, attempt.id, engagement or receipt.code, receipt.occurred_at))
            if receipt.kind == "engaged":
                opened.setdefault(was.id, attempt)
            else:
                choice = receipt.code if receipt.kind == "key" else None
                plan.heard.append(
                    contacts.Heard(receipt.id, receipt.provider, receipt.received_at, choice, was, attempt)
                )
        elif receipt.state is not None:
            disposition = receipt_disposition(attempt.state, receipt.state)
            if disposition is Disposition.APPLIED:
                since = attempt.intended_at
                disposition = Disposition.LATE if was.queue is None else disposition
                attempt.become(receipt.state, receipt.failure, receipt.code, now)
                changed.setdefault(was.id, {})[attempt.id] = attempt
        template = templates.get(was.id, "")
        disposed = Disposed(receipt, disposition, attempt.id, since, template, was.id, was.traceparent, stood)
        plan.disposed.append(disposed)
    plan.changes = [writing.change_of(each, now) for attempts in changed.values() for each in attempts.values()]
    plan.changed = [found[each] for each in changed]
    plan.planned = _moves(found, changed, opened, now, rules, jitter)
    return plan


# An attempt in another state has its provider's id from the record of its outcome.
_BEFORE_RECORD: Final = frozenset({AttemptState.INTENDED, AttemptState.UNKNOWN, AttemptState.UNCONFIRMED})


def _moves(
    found: dict[int, Situation],
    changed: dict[int, dict[int, Attempt]],
    opened: dict[int, Attempt],
    now: dt.datetime,
    rules: Rules,
    jitter: Jitter,
) -> dict[int, Move]:
    planned = {
        reminder: move
        for reminder, attempt in opened.items()
        if (move := follow.opened(found[reminder], attempt, now, rules)) is not None
    }
    for reminder, attempts in changed.items():
        if reminder in planned:
            continue
        move = follow.after_attempts(found[reminder], attempts.values(), now, rules, jitter=jitter())
        if move is not None:
            planned[reminder] = move
    return planned


async def _store(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> frozenset[int]:
    """Inserts in the order of the replay keys, so that two transactions with the same copies wait one way only."""
    ordered = sorted(rows, key=_by_replay)
    return frozenset(row[0] for row in await connection.fetch(_STORE, ordered)) if ordered else frozenset()


def _by_replay(row: tuple[Any, ...]) -> bytes:
    return row[1] or b""


# What a borrower did, by the kind of receipt that tells; "" where the receipt says it itself.
_ENGAGED: Final = {"engaged": "", "key": Engagement.KEY_PRESSED.value, "inbound": Engagement.REPLIED.value}
_ID: Final = 0
_SWEEP_AT: Final = 12


def _row(
    each: Stored, disposition: Disposition | None, attempt: int | None, sweep_at: dt.datetime | None
) -> tuple[Any, ...]:
    return (
        each.id, each.replay, each.provider, attempt or each.attempt, each.ref, each.kind, each.state, each.failure,
        each.code, each.occurred_at, each.received_at, each.sealed, sweep_at, disposition, each.address, each.reply,
    )  # fmt: skip


def _columns(rows: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
