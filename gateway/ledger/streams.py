"""Whether a provider's receipts come in, so that the silence of one of its messages says something.

Asked of the ledger itself, at a cost that does not grow with it: ids are in the order of time, so the newest attempts
that are old enough are read backwards by their primary key, and no more of them than are needed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

from gateway.ids import first_id_at
from gateway.ledger import follow
from gateway.ledger.database import Connection
from gateway.ledger.standing import Rules, Situation

# What was handed over a moment ago may have none yet.
SETTLING: Final = dt.timedelta(minutes=5)
# Of how many of a provider's the receipts are looked for, and how many of all providers' are read to find them.
_SAMPLE: Final = 200
_READ: Final = 10_000
_HEALTHY_SHARE: Final = 0.5

_NEWEST: Final = """
select a.id, coalesce(r.heard, false)
from (select id, provider, state from attempt where id >= $2 and id < $3 order by id desc limit $4) a
left join lateral (select true as heard from receipt r where r.attempt = a.id limit 1) r on true
where a.provider = $1 and a.state not in ('intended', 'not_sent', 'rejected') order by a.id desc limit $5
"""

# Its own, however much of others' has been handed over since.
_OWN: Final = """
select a.id, coalesce(r.heard, false) from unnest($1::bigint[]) as i(id)
cross join lateral (select a.id from attempt a where a.id = i.id and a.id < $2 offset 0) a
left join lateral (select true as heard from receipt r where r.attempt = a.id limit 1) r on true
"""


async def flowing(
    connection: Connection, waiting: Iterable[Situation], now: dt.datetime, rules: Rules
) -> frozenset[int]:
    """Those of the reminders whose next contact is due by time and whose provider's receipts come in.

    That is: of the newest of its messages since the hand-over, itself among them, half have had one at least.
    """
    asked = [(was.id, attempt) for was in waiting if (attempt := follow.asks(was, now, rules)) is not None]
    end = first_id_at(int((now - SETTLING).timestamp() * 1000))
    found: set[int] = set()
    for provider in sorted({attempt.provider for _, attempt in asked} & rules.receipts):
        mine = [(reminder, attempt.id) for reminder, attempt in asked if attempt.provider == provider]
        since = min(id_ for _, id_ in mine)
        newest = dict(await connection.fetch(_NEWEST, provider, since, end, _READ, _SAMPLE))
        own = dict(await connection.fetch(_OWN, [id_ for _, id_ in mine], end))
        for reminder, handed_over in mine:
            sample = newest | {id_: own[id_] for id_ in (handed_over,) if id_ in own}
            heard = [has_one for id_, has_one in sample.items() if id_ >= handed_over]
            if heard and sum(heard) >= _HEALTHY_SHARE * len(heard):
                found.add(reminder)
    return frozenset(found)
