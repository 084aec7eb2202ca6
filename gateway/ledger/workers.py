"""Worker leases: who is alive, by the database's clock.  A lease that ended is never revived."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from gateway.ids import WORKER_NUMBERS
from gateway.ledger.database import Connection

_REGISTER: Final = """
with free as (
    select n.number from worker_number n where not exists (select 1 from worker w where w.number = n.number)
    order by n.leased_at, n.number limit 1 for update of n skip locked
), leased as (
    update worker_number n set leased_at = clock_timestamp() from free where n.number = free.number
)
insert into worker (number, lease_until, relays) select number, clock_timestamp() + $1, $2 from free
on conflict (number) do nothing
returning id, number
"""
_RENEW: Final = """
update worker set lease_until = clock_timestamp() + $2
where id = $1 and lease_until > clock_timestamp() returning id
"""
_RETIRE: Final = "delete from worker w where w.id = $1 and not exists (select 1 from claim c where c.worker = w.id)"
_END_LEASE: Final = "update worker set lease_until = '-infinity' where id = $1"
# A transaction that outlived its worker's lease can leave claims behind after the worker's row is gone.
_DEAD: Final = """
select id from worker where lease_until <= clock_timestamp()
union select c.worker from claim c where not exists (select 1 from worker w where w.id = c.worker)
order by 1
"""


class NoWorkerNumber(RuntimeError):
    """All worker numbers are leased; more processes run than ids allow."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One incarnation of a process: `id` is never used again, `number` goes into the ids it makes."""

    id: int
    number: int


async def register(connection: Connection, lease: dt.timedelta, *, relays: bool = True) -> Worker:
    """Leases the number that was free longest; `relays` counts it among those who publish.

    Raises NoWorkerNumber when there is none.
    """
    for _ in range(WORKER_NUMBERS):
        row = await connection.fetchrow(_REGISTER, lease, relays)
        if row is not None:
            return Worker(row[0], row[1])
        if await connection.fetchval("select count(*) from worker") >= WORKER_NUMBERS:
            break
    raise NoWorkerNumber(f"all {WORKER_NUMBERS} worker numbers are leased")


async def renew(connection: Connection, worker: int, lease: dt.timedelta) -> bool:
    """Extends a lease that still stands; False when it ended."""
    return await connection.fetchval(_RENEW, worker, lease) is not None


async def retire(connection: Connection, worker: int) -> None:
    """Gives the lease up on a clean stop.  Claims that are left make the worker dead at once, to be rescued."""
    await connection.execute(_END_LEASE, worker)
    await connection.execute(_RETIRE, worker)


async def remove(connection: Connection, worker: int) -> None:
    """Frees the number of a dead worker without claims."""
    await connection.execute(_RETIRE + " and w.lease_until <= clock_timestamp()", worker)


async def dead(connection: Connection) -> list[int]:
    """Workers whose lease ended, and those that are gone and still have claims."""
    return [row[0] for row in await connection.fetch(_DEAD)]


async def clock(connection: Connection) -> dt.datetime:
    """The database's time."""
    now: dt.datetime = await connection.fetchval("select clock_timestamp()")
    return now
