"""A ledger full of scheduled reminders, made by SQL: half of them planned, seven for each debt, and half requested.

What the processes themselves would have written, but for the requests' idempotency keys, which nothing here asks for.
The indexes are the schema's; those that would be filled at random are built afterwards.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from typing import Any, Final

import asyncpg

from gateway.ids import first_id_at
from tests.bench.plans import NOW, TOPIC

_WEEK_MS: Final = 7 * 86_400_000
_STRIDE: Final = 7919  # prime: `i * _STRIDE % n` visits all, in no order of theirs

# i is a reminder, b its borrower: of fourteen in a row seven are one plan's, seven are of seven requests.
_ROWS: Final = """
create view filled as
select i, planned, subject, {first} + ((i * {week} / {n}) << 22) + ((i & 63) << 16) + get_byte(subject, 0) as id,
       'borrower-of-' || b as borrower, 'loan-of-' || b as debt, i % 7 as step,
       case when i % 10 = 0 then 'urgent' else 'bulk' end::lane as lane,
       case when nth < {due} then '{now}'::timestamptz - nth * interval '1 ms'
            else '{now}'::timestamptz + interval '1 hour' + nth * (interval '30 days' / {n}) end as at
from (
    select i, i % 14 < 7 as planned, case when i % 14 < 7 then (i / 14)::text else 'r' || i end as b,
           i * {stride} % {n} as nth,
           decode(md5(case when i % 14 < 7 then (i / 14)::text else 'r' || i end), 'hex') as subject
    from generate_series(0::bigint, {n} - 1) i
) x;
"""
_REMINDER: Final = """
insert into reminder (id, subject, source, request_id, lender, borrower, debt, instalment, product, stage, step,
                      stage_key, template, lane, ladder, send_at, not_after, state_as_of, received_at, topic, partition,
                      "offset", sealed, occasion)
select id, subject, '/core', 'request-' || i, 'acme', borrower, debt, case when planned then 1 end, 'cash-loan',
       case when planned then 'overdue_mid' else 'due' end, case when planned then 'step-' || step else '' end,
       decode(md5('stage' || i), 'hex'), 'repayment', lane, 'ps', at, at + interval '40 days', '{now}', '{now}',
       '{topic}', 0, i, '\\x{sealed}', case when planned then 'default/1/d' || step end
from filled
"""
_LIVE: Final = """
insert into live (id, subject, lender, source, request_id, stage, lane, ladder, not_after, state, seq, at, occasion)
select id, subject, 'acme', '/core', 'request-' || i, case when planned then 'overdue_mid' else 'due' end, lane, 'ps',
       at + interval '40 days', 'scheduled', 1, at, case when planned then 'default/1/d' || step end
from filled
"""
_REST: Final = {
    "due": "insert into due select lane, at, id from filled",
    "stage_key": "insert into stage_key select decode(md5('stage' || i), 'hex'), id from filled",
    "occurrence": """
insert into occurrence
select subject, debt, 1, 'overdue_mid', 'step-' || step, id, substr(subject, 1, 16), substr(subject, 1, 16)
from filled where planned""",
    "subject": "insert into subject select subject, 'acme', borrower from filled where not planned or i % 14 = 0",
    "borrower_fact": """
insert into borrower_fact (subject, id, sealed) select subject, id, '\\x{sealed}' from filled where i % 14 = 0""",
    "debt_fact": """
insert into debt_fact select subject, debt, id, 'default', 1, '\\x{sealed}', '/core', '{topic}', 0, '{now}'
from filled where i % 14 = 0""",
}
_INDEXES: Final = """
select c.relname as name, coalesce('alter table ' || t.relname || ' drop constraint ' || o.conname,
                                   'drop index ' || c.relname) as drop,
       coalesce('alter table ' || t.relname || ' add constraint ' || o.conname || ' ' || pg_get_constraintdef(o.oid),
                replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON ')) as make
from pg_index x join pg_class c on c.oid = x.indexrelid join pg_class t on t.oid = x.indrelid
left join pg_constraint o on o.conindid = c.oid and o.contype in ('p', 'u')
where t.relname = $1 and not (o.contype = 'p' and t.relname in ('reminder', 'live'))
"""


async def fill(dsn: str, n: int, due: int) -> None:
    """Fills an empty ledger with `n` reminders, `due` of them due now and scattered over all of it.

    It is vacuumed as it would have been long before anything of it is due.
    """
    first = first_id_at(int((NOW - dt.timedelta(days=6)).timestamp() * 1000))
    words = {
        "first": first, "week": _WEEK_MS * 6 // 7, "n": n, "due": due, "stride": _STRIDE, "now": NOW.isoformat(),
        "topic": TOPIC, "sealed": os.urandom(300).hex(),
    }  # fmt: skip
    async with _connected(dsn) as connection:
        await connection.execute(_ROWS.format(**words))
        await connection.execute("insert into fact_watermark values ($1, '/core', 0, $2, true)", TOPIC, NOW)
    rest = [(table, sql.format(**words)) for table, sql in _REST.items()]
    await asyncio.gather(
        _table(dsn, [("reminder", _REMINDER.format(**words))]),
        _table(dsn, [("live", _LIVE.format(**words)), *rest]),
    )
    async with _connected(dsn) as connection:
        await connection.execute("drop view filled")
        await connection.execute("vacuum analyze")


def _connected(dsn: str) -> Any:
    return asyncpg.create_pool(dsn, min_size=1, max_size=1, command_timeout=3600)


async def _table(dsn: str, work: list[tuple[str, str]]) -> None:
    """In one transaction each: what is truncated in it is not written twice."""
    async with _connected(dsn) as connection:
        for table, sql in work:
            indexes = await connection.fetch(_INDEXES, table)
            async with connection.acquire() as one, one.transaction():
                await one.execute(f"truncate {table}")
                for each in indexes:
                    await one.execute(each["drop"])
                await one.execute(sql)
                for each in indexes:
                    await one.execute(each["make"])
