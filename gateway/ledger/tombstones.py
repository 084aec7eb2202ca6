"""Tombstones: what stops a request that comes after its stop.

A cancel, a borrower's key and a fact leave them under the borrower's lock, in the transaction that obeys them.  Those
of facts say nothing of their own: they follow what is known whenever a fact changes it, and are lifted when that is.
However much has been paid, asking costs one index probe per borrower and one per instalment that is named.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from gateway.ledger.database import Connection
from schemas.vocabulary import Reason

_BURY: Final = """
insert into tombstone (subject, kind, value, as_of)
select subject, kind, value, max(as_of) from unnest($1::bytea[], $2::text[], $3::text[], $4::timestamptz[])
    as t(subject, kind, value, as_of) group by 1, 2, 3 order by 1, 2, 3
on conflict (subject, kind, value) do update set as_of = greatest(tombstone.as_of, excluded.as_of)
"""
# Facts replace their own: what is told with an earlier `as_of` was weighed before it came here.
_REPLACE: Final = """
insert into tombstone (subject, kind, value, as_of) select * from unnest($1::bytea[], $2::text[], $3::text[],
    $4::timestamptz[]) as t(subject, kind, value, as_of) order by 1, 2, 3
on conflict (subject, kind, value) do update set as_of = excluded.as_of
"""
_REPLACE_PAID: Final = """
insert into paid_instalment (subject, debt, instalment, as_of)
select * from unnest($1::bytea[], $2::text[], $3::int[], $4::timestamptz[]) as t(subject, debt, instalment, as_of)
order by 1, 2, 3
on conflict (subject, debt, instalment) do update set as_of = excluded.as_of
"""
_LIFT: Final = """
delete from tombstone where ctid = any (array(
    select t.row from unnest($1::bytea[], $2::text[], $3::text[]) as i(subject, kind, value)
    cross join lateral (
        select t.ctid as row from tombstone t
        where t.subject = i.subject and t.kind = i.kind and t.value = i.value offset 0
    ) t))
"""
_LIFT_PAID: Final = """
delete from paid_instalment where ctid = any (array(
    select p.row from unnest($1::bytea[], $2::text[], $3::int[]) as i(subject, debt, instalment)
    cross join lateral (
        select p.ctid as row from paid_instalment p
        where p.subject = i.subject and p.debt = i.debt and p.instalment = i.instalment offset 0
    ) p))
"""
# By whatever he had opted out: a fact, or a key in a call.  Of two at one moment the opting out counts.
_REOPEN: Final = """
delete from tombstone t using unnest($1::bytea[], $2::timestamptz[]) as i(subject, as_of)
where t.subject = i.subject and t.kind = 'opted_out' and t.as_of < i.as_of
"""
_OPT_OUT: Final = """
insert into tombstone (subject, kind, value, as_of)
select i.subject, 'opted_out', '', i.as_of from unnest($1::bytea[], $2::timestamptz[]) as i(subject, as_of)
where not exists (
    select 1 from tombstone t where t.subject = i.subject and t.kind = 'opted_in' and t.as_of > i.as_of
) order by 1
on conflict (subject, kind, value) do update set as_of = greatest(tombstone.as_of, excluded.as_of)
returning subject
"""
_OPTED_OUT: Final = "select subject from tombstone where subject = any($1::bytea[]) and kind = 'opted_out'"
_CHANNELS_OUT: Final = """
select subject, kind, value from tombstone where subject = any($1::bytea[]) and kind in ('opted_out', 'channel_out')
"""
_READ: Final = """
select subject, kind, value, null::int, as_of from tombstone where subject = any($1::bytea[])
union all
select i.subject, 'paid', i.debt, i.instalment, p.as_of
from unnest($2::bytea[], $3::text[], $4::int[]) as i(subject, debt, instalment)
cross join lateral (
    select p.as_of from paid_instalment p
    where p.subject = i.subject and p.debt = i.debt and p.instalment = i.instalment limit 1
) p
"""


class Kind(StrEnum):
    """What left a tombstone, and what its `value` names."""

    # Cancels: for what is known no later than they are.
    REQUEST = "request"  # its key, in hex
    DEBT = "debt"
    BORROWER = "borrower"  # nothing
    # The borrower's own, for whatever is known.
    OPTED_OUT = "opted_out"  # nothing
    CHANNEL_OUT = "channel_out"  # the channel: it stops contacts, not requests
    # Facts.
    PAID = "paid"  # the debt, or one instalment of it: for what is known no later
    STOPPED = "stopped"  # the debt, or nothing where it is the borrower: for whatever is known, until it is resumed
    OPTED_IN = "opted_in"  # nothing; it stops nothing, and no opting out of before counts any more


OF_FACTS: Final = frozenset({Kind.PAID, Kind.STOPPED})


class Stone(NamedTuple):
    kind: Kind
    value: str = ""
    instalment: int | None = None  # of a payment


class Stones(Struct, frozen=True):
    """What facts have changed: tombstones with the `as_of` they are to have, and those that are to be no more."""

    buried: Mapping[Stone, dt.datetime] = {}
    lifted: Collection[Stone] = ()


class Stoppable(Protocol):
    """What a stop asks of a request."""

    @property
    def debt(self) -> str: ...
    @property
    def instalment(self) -> int | None: ...
    @property
    def state_as_of(self) -> dt.datetime: ...


class Asked(Stoppable, Protocol):
    @property
    def subject(self) -> bytes: ...


# Of several reasons the first is told; what the borrower wants outlasts whatever the lender knows later.
_FIRST: Final = (
    Reason.OPTED_OUT,
    Reason.STOPPED,
    Reason.PAID,
    Reason.CANCELLED_REQUEST,
    Reason.CANCELLED_BORROWER,
    Reason.CANCELLED_DEBT,
)


def stopped(asked: Stoppable, stones: Iterable[tuple[Stone, dt.datetime]], request_key: bytes = b"") -> Reason | None:
    """Why a request, or a reminder that was requested, is not to be: the first reason among these."""
    reasons = {_reason(asked, stone, as_of, request_key) for stone, as_of in stones}
    return next((each for each in _FIRST if each in reasons), None)


def _reason(asked: Stoppable, stone: Stone, as_of: dt.datetime, request_key: bytes) -> Reason | None:
    kind, value, instalment = stone
    known = asked.state_as_of <= as_of
    match kind:
        case Kind.OPTED_OUT:
            return Reason.OPTED_OUT
        case Kind.STOPPED if value in ("", asked.debt):
            return Reason.STOPPED
        case Kind.PAID if known and value == asked.debt and instalment in (None, asked.instalment):
            return Reason.PAID
        case Kind.REQUEST if value == request_key.hex():
            return Reason.CANCELLED_REQUEST
        case Kind.BORROWER if known:
            return Reason.CANCELLED_BORROWER
        case Kind.DEBT if known and value == asked.debt:
            return Reason.CANCELLED_DEBT
        case _:
            return None


async def read(connection: Connection, asked: Sequence[Asked]) -> dict[bytes, list[tuple[Stone, dt.datetime]]]:
    """By borrower, all tombstones that may stop these requests."""
    exact = [each for each in asked if each.instalment is not None]
    rows = await connection.fetch(
        _READ,
        list({each.subject for each in asked}),
        [each.subject for each in exact],
        [each.debt for each in exact],
        [each.instalment for each in exact],
    )
    found: dict[bytes, list[tuple[Stone, dt.datetime]]] = {}
    for subject, kind, value, instalment, as_of in rows:
        found.setdefault(subject, []).append((Stone(_KINDS[kind], value, instalment), as_of))
    return found


_KINDS: Final = {each.value: each for each in Kind}


async def bury(connection: Connection, stones: Sequence[tuple[bytes, str, str, dt.datetime]]) -> None:
    """Leaves tombstones of (subject, kind, value, as_of); of two of the same the later counts."""
    await connection.execute(_BURY, *(list(column) for column in zip(*stones, strict=True)))


async def opt_out(connection: Connection, since: Mapping[bytes, dt.datetime]) -> frozenset[bytes]:
    """These borrowers have opted out at these moments; returns those who have not agreed again since."""
    return frozenset(row[0] for row in await connection.fetch(_OPT_OUT, list(since), list(since.values())))


async def opted_out(connection: Connection, subjects: Collection[bytes]) -> frozenset[bytes]:
    """Those of the borrowers who want no reminders at all."""
    return frozenset(row[0] for row in await connection.fetch(_OPTED_OUT, list(subjects)))


async def refused(connection: Connection, subjects: Collection[bytes]) -> frozenset[tuple[bytes, str]]:
    """What borrowers want no contact by: (subject, channel), and (subject, "") where it is all of them."""
    rows = await connection.fetch(_CHANNELS_OUT, list(subjects))
    return frozenset((row[0], "" if row[1] == Kind.OPTED_OUT else row[2]) for row in rows)


async def replace(connection: Connection, changed: Mapping[bytes, Stones]) -> None:
    """Makes the tombstones of facts what these are to be, by borrower."""
    lifted = [(subject, *stone) for subject, each in changed.items() for stone in each.lifted]
    buried = [(subject, *stone, as_of) for subject, each in changed.items() for stone, as_of in each.buried.items()]
    own = [(subject, kind, value, as_of) for subject, kind, value, number, as_of in buried if number is None]
    for sql, rows in (
        (_LIFT, [(subject, kind, value) for subject, kind, value, number in lifted if number is None]),
        (_LIFT_PAID, [(subject, debt, number) for subject, _, debt, number in lifted if number is not None]),
        # An opting out may also stand there by a key, from a later moment: that stays.
        (_BURY, [each for each in own if each[1] is Kind.OPTED_OUT]),
        (_REPLACE, [each for each in own if each[1] is not Kind.OPTED_OUT]),
        (_REPLACE_PAID, [(subject, debt, n, as_of) for subject, _, debt, n, as_of in buried if n is not None]),
        (_REOPEN, [(subject, as_of) for subject, kind, _, as_of in own if kind is Kind.OPTED_IN]),
    ):
        if rows:
            await connection.execute(sql, *(list(column) for column in zip(*rows, strict=True)))
