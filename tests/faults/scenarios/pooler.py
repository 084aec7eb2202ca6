"""Behind PgBouncer in transaction mode, by the documented configuration, with kills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.faults.harness import Stand, eventually
from tests.faults.in_flight import kill_in_flight
from tests.faults.load import Load, heal, script
from tests.faults.scenarios.ground import Ground, judged, log_of, over
from tests.stack.pgbouncer import MISSING, PgBouncer, must_be_there, program

SEED: Final = 20261130
SESSIONS: Final = 3
POOLED: Final[Mapping[str, Any]] = {"database": {"statement_cache": 0}}


def missing() -> str | None:
    return None if program() is not None or must_be_there() else MISSING


async def tell(ground: Ground, seconds: float) -> Mapping[str, Any]:
    """Three sessions for two gateways of ten connections each: whatever lasts longer than a transaction gets lost.

    Kills, and its own restart: leases, fences and the relay have to hold as they do without it.
    """
    load = Load(SEED)
    options: dict[str, Any] = {"script": script(SEED), "receipts": {"retry_scale": 0.05}}
    async with (
        PgBouncer(ground.postgres.dsn(), sessions=SESSIONS) as pooler,
        ground.stand(POOLED, **options) as here,
    ):
        pooled = pooler.dsn(here.world.dsn)
        assert pooled != here.world.dsn
        other = here.twin("other")
        other.spawn(GATEWAY_DATABASE_DSN=pooled)
        await here.up(GATEWAY_DATABASE_DSN=pooled)
        await other.ready()
        kills = most = 0
        async for _ in over(seconds, 0.5):
            await here.world.publish(load.burst(20))
            await kill_in_flight(here, load)
            kills += 1
            await here.up(GATEWAY_DATABASE_DSN=pooled)
            most = max(most, await sessions(here))
        await here.world.publish(load.burst(20))
        await eventually(lambda: attempts(here, 20))
        await pooler.restart()
        await here.gateway.ready(60)
        await other.ready(60)
        await here.world.publish(load.burst(20))
        healed = await heal(here, load)
        assert most <= SESSIONS, "somebody went around the pooler"
        # What a shared session breaks, it breaks loudly: a statement that nobody has prepared, or somebody else has.
        names = ("InvalidSQLStatementName", "DuplicatePreparedStatement")
        lines = [*log_of(here.gateway), *log_of(other)]
        assert [line for line in lines if any(name in str(line) for name in names)] == []
        return {"kills": kills, "healed_seconds": round(healed, 1), **judged(await here.check())}


async def sessions(here: Stand) -> int:
    """In this database, beside the one that asks."""
    sql = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    return int(await here.value(sql))


async def attempts(here: Stand, n: int) -> bool:
    return bool(await here.value("select count(*) from attempt") >= n)
