"""Whose a receipt is: the attempt it speaks of, by our reference, the provider's id, or the address that wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from gateway.ledger.database import Connection
from gateway.ledger.received import Stored
from schemas.vocabulary import FailureScope

_BY_REF: Final = """
select r.provider, r.ref, r.attempt from unnest($1::text[], $2::text[]) as i(provider, ref)
cross join lateral (select * from provider_ref r where r.provider = i.provider and r.ref = i.ref offset 0) r
"""
# The last message that this provider may have brought to an address.
_BY_ADDRESS: Final = """
select i.provider, i.address, a.id from unnest($1::text[], $2::bytea[]) as i(provider, address)
cross join lateral (
    select a.id from attempt a where a.address = i.address and a.provider = i.provider
        and a.state not in ('intended', 'not_sent', 'rejected') order by a.id desc limit 1
) a
"""
_ATTEMPTS: Final = "select id, reminder, subject, provider, address from attempt where id = any($1::bigint[])"
_TEMPLATES: Final = "select id, template from reminder where id = any($1::bigint[])"

# Reminder, subject, attempt.
Owner = tuple[int, bytes, int]
# A receipt that names an attempt of ours and speaks of another address.
SOMEBODY_ELSE: Final[Owner] = (0, b"", 0)


async def owners(connection: Connection, receipts: Sequence[Stored]) -> dict[int, Owner]:
    """(reminder, subject, attempt) by receipt, for those that match an attempt made through the same provider.

    Of a receipt that names an attempt and another address than that went to it is `SOMEBODY_ELSE`.
    """
    by_ref = {(each.provider, each.ref) for each in receipts if each.attempt is None and each.ref is not None}
    refs: dict[tuple[str, str], int] = {}
    if by_ref:
        refs = {(row[0], row[1]): row[2] for row in await connection.fetch(_BY_REF, *_columns(sorted(by_ref)))}
    wanted = await _last_sent_to(connection, [each for each in receipts if each.kind == "inbound"])
    for each in receipts:
        attempt = each.attempt if each.attempt is not None else refs.get((each.provider, each.ref or ""))
        if attempt is not None:
            wanted[each.id] = attempt
    if not wanted:
        return {}
    attempts = {row[0]: row for row in await connection.fetch(_ATTEMPTS, list(set(wanted.values())))}
    found: dict[int, Owner] = {}
    for each in receipts:
        row = attempts.get(wanted.get(each.id, -1))
        if row is not None and row[3] == each.provider:
            other = each.address is not None and row[4] is not None and each.address != row[4]
            found[each.id] = SOMEBODY_ELSE if other else (row[1], row[2], row[0])
    return found


async def _last_sent_to(connection: Connection, replies: Sequence[Stored]) -> dict[int, int]:
    """The attempt that a reply answers, by receipt: the last one that may have reached its sender."""
    addresses = {(each.provider, each.address) for each in replies if each.address is not None}
    if not addresses:
        return {}
    rows = await connection.fetch(_BY_ADDRESS, *_columns(sorted(addresses)))
    found = {(row[0], row[1]): row[2] for row in rows}
    return {each.id: found[each.provider, each.address] for each in replies if (each.provider, each.address) in found}


async def templates(connection: Connection, receipts: Sequence[Stored], owners: Mapping[int, Owner]) -> dict[int, str]:
    """The templates of the reminders whose receipts complain of one: seldom any."""
    of = {owners[each.id][0] for each in receipts if each.scope is FailureScope.TEMPLATE and each.id in owners}
    return {row[0]: row[1] for row in await connection.fetch(_TEMPLATES, list(of))} if of else {}


def _columns(rows: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
