"""What is measured from outside while everything breaks: the gateways' processes, and the size of every table."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import psutil  # type: ignore[import-untyped]  # it ships no types

from tests.bench.measure import machine_seconds, tree_seconds
from tests.faults.soak.run import Run

MEBIBYTE: Final = 2**20
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
EVERY: Final = 2.0
# Rows that come and go.  All others keep what was, and grow with it.
QUEUES: Final = (
    "live", "due", "claim", "timer", "unsettled", "outbox", "parked", "worker", "worker_number", "freeze", "frozen",
    "relay_shard", "intake_offset", "intake_count", "source_health", "release_pace", "volume",
)  # fmt: skip
_TABLES: Final = """
select c.relname as name, pg_total_relation_size(c.oid) as bytes, coalesce(s.n_dead_tup, 0) as dead
from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_stat_user_tables s on s.relid = c.oid
where n.nspname = 'public' and c.relkind = 'r' and c.relname <> 'alembic_version'
"""

_SENT: Final = """
select extract(epoch from max(intended_at) - min(intended_at))
from (select intended_at from attempt order by id desc limit $1) as last
"""


@dataclass(frozen=True)
class Sample:
    """The survivor at one moment, after so many requests."""

    minutes: float
    requests: int
    rss_mib: float
    files: int
    threads: int
    connections: int


@dataclass(frozen=True)
class Sizes:
    """The ledger at one moment."""

    minutes: float
    reminders: int
    bytes: dict[str, int]
    dead: dict[str, int]

    @property
    def queues(self) -> int:
        return sum(n for name, n in self.bytes.items() if name in QUEUES)

    @property
    def kept(self) -> int:
        return sum(n for name, n in self.bytes.items() if name not in QUEUES)


@dataclass
class Measurements:
    """Everything that was measured so far.  `quiet` are sizes in the quiet of a checkpoint, `sizes` under load."""

    samples: list[Sample] = field(default_factory=list)
    sizes: list[Sizes] = field(default_factory=list)
    quiet: list[tuple[Sample, Sizes]] = field(default_factory=list)
    drains: dict[str, list[Drain]] = field(default_factory=lambda: defaultdict(list))
    after: tuple[Sample, Sizes] | None = None  # in the quiet after the last drains
    most_rss: dict[str, float] = field(default_factory=dict)  # MiB, of every process, those that are killed, too

    async def watch(self, run: Run) -> None:
        """For ever."""
        turn = 0
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):  # that it ended is blamed elsewhere
                self.samples.append(sample(run))
            for name, size in rss(run).items():
                self.most_rss[name] = max(size, self.most_rss.get(name, 0.0))
            if turn % 5 == 0:
                with contextlib.suppress(*_AWAY):  # there is another look
                    self.sizes.append(await sizes(run))
            turn += 1
            await asyncio.sleep(EVERY)


def sample(run: Run) -> Sample:
    process = psutil.Process(run.stage.survivor.child.pid)
    with process.oneshot():
        size = process.memory_info().rss / MEBIBYTE
        files, threads = process.num_fds(), process.num_threads()
    kept = [each for each in process.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED]
    return Sample(run.minutes, run.load.reminders, size, files, threads, len(kept))


def rss(run: Run) -> dict[str, float]:
    """MiB of every gateway that lives."""
    found = {}
    for each in run.stage.alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            found[each.log.stem] = psutil.Process(each.child.pid).memory_info().rss / MEBIBYTE
    return found


async def sizes(run: Run) -> Sizes:
    connection: Any = await asyncpg.connect(run.stage.here.world.dsn, timeout=5, command_timeout=5)
    try:
        rows = await connection.fetch(_TABLES)
        ended = await connection.fetchval("select count(*) from reminder")
    finally:
        await asyncio.wait_for(connection.close(), 5)
    return Sizes(
        run.minutes, ended, {row["name"]: row["bytes"] for row in rows}, {row["name"]: row["dead"] for row in rows}
    )


@dataclass(frozen=True)
class Drain:
    """`n` requests that behave, published at once, until every one has ended and is told."""

    rate: float  # messages a second
    cpu_ms: float  # of all gateways, for one message
    sent_seconds: float  # from the first intent to the last
    others_percent: float  # of the machine's CPU, taken meanwhile by what is not ours


async def drain(run: Run, n: int) -> Drain:
    here = run.stage.here
    records = run.load.plain(n)
    gateways = [psutil.Process(each.child.pid) for each in run.stage.alive]
    worked, started = _cpu(gateways), time.monotonic()
    foreign = machine_seconds() - tree_seconds(os.getpid())
    await here.world.publish(records)
    await here.quiet(180)
    seconds, worked = time.monotonic() - started, _cpu(gateways) - worked
    foreign = machine_seconds() - tree_seconds(os.getpid()) - foreign
    others = max(0.0, 100 * foreign / seconds / (os.cpu_count() or 1))
    return Drain(n / seconds, 1000 * worked / n, float(await here.value(_SENT, n)), others)


def _cpu(processes: Sequence[Any]) -> float:
    return sum(each.cpu_times().user + each.cpu_times().system for each in processes)
