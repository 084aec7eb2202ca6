"""Intend: the write-ahead of a send.  Only what it returns may leave.

One commit re-checks, under the borrower's lock and with freezes ordered, everything that could have changed since the
claim: the claim and its token, the worker's lease, stops, freezes, the ladder, quotas.  A lost COMMIT is read back
by id.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

from gateway.ledger import freezes, merged, pacing, subjects, tombstones, volume
from gateway.ledger.claims import Claimed
from gateway.ledger.database import Connection
from gateway.ledger.merged import Told
from gateway.ledger.pacing import Paced
from gateway.ledger.quotas import Breach, Quotas
from gateway.ledger.standing import Rules
from gateway.ledger.volume import Bounded, Load
from schemas.vocabulary import Lane

# What may still be made of the rows in $2 by the worker $1.
_OK: Final = """
with i as (
    select * from unnest($2::intended_row[])
), ok as (
    select i.*, l.subject, l.row from i
    cross join lateral (
        select 1 from claim c where c.id = i.reminder and c.worker = $1 and c.token = i.token limit 1
    ) c
    cross join lateral (
        select l.ctid as row, l.subject from live l
        where l.id = i.reminder and l.state = 'scheduled' and l.closed is null and l.rung = i.rung limit 1
    ) l
    where exists (select 1 from worker w where w.id = $1 and w.lease_until > clock_timestamp())
)"""
_STANDING: Final = f"{_OK} select attempt from ok"  # noqa: S608  joins constants of this file
_INTEND: Final = f"""{_OK}, moved as (
    update live l set state = 'sending', reason = null, token = ok.token, attempt = ok.attempt,
        attempts = l.attempts + 1, rescues = 0
    from ok where l.ctid = ok.row
), attempts as (
    insert into attempt (id, reminder, subject, rung, channel, provider, state, intended_at, address)
    select ok.attempt, ok.reminder, ok.subject, ok.rung, ok.channel, ok.provider, 'intended', $3, ok.address from ok
), evidence as (
    insert into decision (reminder, attempt, at, verdict, rule, inputs, sealed)
    select ok.reminder, ok.attempt, $3, 'send', 'none', ok.inputs, ok.sealed from ok
)
select attempt from ok
"""  # noqa: S608  joins constants of this file

_AGAIN: Final = """
select a.id from unnest($2::bigint[], $3::bigint[]) as i(attempt, token)
cross join lateral (
    select a.id, a.reminder from attempt a where a.id = i.attempt and a.state = 'intended' offset 0
) a
cross join lateral (
    select 1 from live l
    where l.id = a.reminder and l.attempt = a.id and l.state = 'sending' and l.closed is null offset 0
) l
cross join lateral (
    select 1 from claim c where c.id = a.reminder and c.worker = $1 and c.token = i.token offset 0
) c
where exists (select 1 from worker w where w.id = $1 and w.lease_until > clock_timestamp())
"""

# Of what a plan has made: what it said when it was claimed, and would say now.
_OTHER_WORDS: Final = """
select i.attempt from unnest($1::bigint[], $2::bigint[], $3::bytea[]) as i(attempt, reminder, sealed)
cross join lateral (select r.sealed from reminder r where r.id = i.reminder offset 0) r
left join lateral (select v.sealed from revision v where v.reminder = i.reminder offset 0) v on true
where coalesce(v.sealed, r.sealed) <> i.sealed
"""

# The routes may have changed while a message may still be under way with another provider: two of them would not know
# of each other's.  Not only the last attempt counts: it may be a repeat that never left.  What was handed over on a
# rung that was passed by time is in nobody's way; what may or may not have left is in the way of every other rung.
_ELSEWHERE: Final = """
select i.attempt
from unnest($1::bigint[], $2::bigint[], $3::text[], $4::smallint[]) as i(attempt, reminder, provider, rung)
cross join lateral (
    select 1 from attempt a where a.reminder = i.reminder and (
        a.state in ('intended', 'unknown') and (a.provider <> i.provider or a.rung <> i.rung)
        or a.state in ('accepted', 'sent') and a.provider <> i.provider and a.rung = i.rung
    ) limit 1
) a
"""

# After a lost COMMIT: which of these intents exist, under this worker's claim?
_READ_BACK: Final = """
select a.id from unnest($2::bigint[], $3::bigint[]) as i(attempt, token)
cross join lateral (
    select a.id, a.reminder from attempt a where a.id = i.attempt and a.state = 'intended' offset 0
) a
cross join lateral (
    select 1 from claim c where c.id = a.reminder and c.worker = $1 and c.token = i.token offset 0
) c
"""


class Intent(Struct, frozen=True, gc=False):
    """An attempt about to be made.  `sealed` are its exact words, `inputs` the decision's evidence (JSON).

    `address` is the blind index of whom it goes to, `cost` what it costs in millionths, `told` what else its words tell
    of.
    """

    claimed: Claimed
    attempt: int
    provider: str
    sealed: bytes
    inputs: str
    address: bytes | None = None
    cost: int = 0
    told: Sequence[Told] = ()

    def __repr__(self) -> str:
        return f"Intent({self.claimed!r}, {self.attempt}, {self.provider})"


@dataclass(frozen=True, slots=True)
class Intended:
    """`sendable` are attempt ids that may leave; those of the other sets were refused for that reason.

    `elsewhere` would repeat by one provider what another may have taken.  `over` would exceed quotas: their slices are
    to be frozen, in a transaction of its own, since this one shares the lock that a freeze excludes.  `dear` cost more
    than a whole cap by themselves.  The borrowers of `opted_out` want no more, those of `channel_out` none by this
    channel.  For those of `paced_out` their lender's call centre has no place in this hour.
    """

    sendable: frozenset[int]
    frozen: frozenset[int]
    stopped: frozenset[int]
    elsewhere: frozenset[int] = frozenset()
    over: Mapping[int, tuple[Breach, ...]] = field(default_factory=dict)
    dear: frozenset[int] = frozenset()
    opted_out: frozenset[int] = frozenset()
    channel_out: frozenset[int] = frozenset()
    paced_out: frozenset[int] = frozenset()


async def intend(
    connection: Connection,
    worker: int,
    intents: Sequence[Intent],
    now: dt.datetime,
    quotas: Quotas | None = None,
    rules: Rules | None = None,
) -> Intended:
    """Writes the attempts that still may be made.  What is in none of the sets lost its claim: drop it.

    What is written is counted in the same commit, so that `quotas`, and by `rules` the pace of call centres, hold
    across processes.
    """
    permitted, frozen, stopped, opted_out, channel_out = await _fence(connection, intents, now)
    elsewhere = await _elsewhere(connection, [each for each in permitted if each.claimed.attempts])
    permitted = [each for each in permitted if each.attempt not in elsewhere]
    paced = (
        Paced() if rules is None else await pacing.pace(connection, [_contact(each) for each in permitted], rules, now)
    )
    permitted = [each for each in permitted if each.attempt not in paced.full]
    bounded = Bounded() if quotas is None else await _bound(connection, worker, permitted, quotas, now)
    permitted = [each for each in permitted if each.attempt not in bounded.over and each.attempt not in bounded.dear]
    sendable: frozenset[int] = frozenset()
    if permitted:
        rows = await connection.fetch(_INTEND, worker, [_row(each) for each in permitted], now)
        sendable = frozenset(row[0] for row in rows)
    await paced.store(connection, sendable)
    await bounded.store(connection, sendable)
    dear = frozenset(bounded.dear)
    return Intended(sendable, frozen, stopped, elsewhere, bounded.over, dear, opted_out, channel_out, paced.full)


async def again(connection: Connection, worker: int, intents: Sequence[Intent], now: dt.datetime) -> Intended:
    """The same fences before another first byte of an attempt already intended (a retry inside the lease).

    What its words would not say any more does not leave: it is made anew.
    """
    permitted, frozen, stopped, _, _ = await _fence(connection, intents, now)
    outdated = await _outdated(connection, [each for each in permitted if each.claimed.occasion is not None])
    permitted = [each for each in permitted if each.attempt not in outdated]
    return Intended(await _existing(connection, _AGAIN, worker, permitted), frozen, stopped)


async def _outdated(connection: Connection, planned: Sequence[Intent]) -> frozenset[int]:
    """Those of which facts have changed what they say, or tell of besides, since their words were made."""
    if not planned:
        return frozenset()
    ids = [each.claimed.id for each in planned]
    rows = await connection.fetch(
        _OTHER_WORDS, [each.attempt for each in planned], ids, [each.claimed.sealed for each in planned]
    )
    told = await merged.told(connection, ids)
    says = {leader: {(of.reminder, of.sealed) for of in others} for leader, others in told.items()}
    told_otherwise = {
        each.attempt
        for each in planned
        if any((of.reminder, of.sealed) not in says.get(each.claimed.id, ()) for of in each.told)
    }
    return frozenset(row[0] for row in rows) | told_otherwise


async def read_back(connection: Connection, worker: int, intents: Sequence[Intent]) -> frozenset[int]:
    """Which intents a transaction with an unknown end has left behind: present may be sent, absent is dropped."""
    return await _existing(connection, _READ_BACK, worker, intents)


async def _existing(connection: Connection, sql: str, worker: int, intents: Sequence[Intent]) -> frozenset[int]:
    attempts = [intent.attempt for intent in intents]
    tokens = [intent.claimed.token for intent in intents]
    return frozenset(row[0] for row in await connection.fetch(sql, worker, attempts, tokens))


async def _fence(
    connection: Connection, intents: Sequence[Intent], now: dt.datetime
) -> tuple[list[Intent], frozenset[int], frozenset[int], frozenset[int], frozenset[int]]:
    """What is left, and what a freeze, a stop that could not be read and the borrower's own stops keep back."""
    in_force = await freezes.read_shared(connection, now)
    held = await subjects.lock(connection, (intent.claimed.subject for intent in intents))
    frozen: frozenset[int] = frozenset()
    if in_force.slices:
        frozen = frozenset(
            intent.attempt
            for intent in intents
            if in_force.covers(intent.claimed.facts(intent.provider))
            or any(in_force.covers(each.slices.facts) for each in intent.told)
        )
    stopped = frozenset(intent.attempt for intent in intents if intent.claimed.subject in held)
    # Also a stop of the borrower's own that was stored while somebody else had his lock.
    refused = await tombstones.refused(connection, {intent.claimed.subject for intent in intents})
    opted_out = frozenset(intent.attempt for intent in intents if (intent.claimed.subject, "") in refused)
    channel_out = frozenset(
        intent.attempt for intent in intents if (intent.claimed.subject, intent.claimed.channel) in refused
    )
    kept_back = frozen | stopped | opted_out | channel_out
    permitted = [each for each in intents if each.attempt not in kept_back]
    return permitted, frozen, stopped, opted_out, channel_out


async def _bound(
    connection: Connection, worker: int, permitted: Sequence[Intent], quotas: Quotas, now: dt.datetime
) -> Bounded:
    """Urgent ones first: what is left of a quota is theirs.  What has lost its claim uses up nothing."""
    counted = [each for each in permitted if quotas.of(each.claimed.source, each.claimed.lender)]
    if not counted:
        return Bounded()
    rows = await connection.fetch(_STANDING, worker, [_row(each) for each in counted])
    standing = {row[0] for row in rows}
    permitted = [each for each in counted if each.attempt in standing]
    ordered = sorted(permitted, key=lambda each: each.claimed.lane is not Lane.URGENT)
    loads = [Load(each.attempt, each.claimed.source, each.claimed.lender, each.cost) for each in ordered]
    return await volume.bound(connection, loads, quotas, now)


async def _elsewhere(connection: Connection, repeats: Sequence[Intent]) -> frozenset[int]:
    if not repeats:
        return frozenset()
    rows = await connection.fetch(
        _ELSEWHERE,
        [each.attempt for each in repeats],
        [each.claimed.id for each in repeats],
        [each.provider for each in repeats],
        [each.claimed.rung for each in repeats],
    )
    return frozenset(row[0] for row in rows)


def _contact(intent: Intent) -> pacing.Contact:
    claimed = intent.claimed
    return pacing.Contact(intent.attempt, claimed.lender, claimed.occasion, claimed.channel)


def _row(intent: Intent) -> tuple[Any, ...]:
    claimed = intent.claimed
    return (
        claimed.id, claimed.token, intent.attempt, claimed.rung, claimed.channel, intent.provider, intent.sealed,
        intent.inputs, intent.address,
    )  # fmt: skip
