"""What the fault tests share: a gateway in a hurry, a look at its states, and the wait for quiet."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil  # type: ignore[import-untyped]  # it ships no types

from gateway.dev.host import free_port
from gateway.dev.settings import Development
from schemas.vocabulary import Stage
from tests.conftest import Topics
from tests.faults import checker, witness
from tests.faults.topics import size
from tests.stack.gateway import GatewayProcess, World, merge, world

# Leases, windows and timeouts of seconds.  The lease covers a heartbeat, the longest send and the margin, and more than
# a second beside: else a heartbeat that is a little late on a busy machine keeps a send back, and another is made.
LEASE: Final = 8.0
WINDOW: Final = 5.0
_PROVIDER: Final = {
    # Nobody here is slow: it is for processes that have just been started on a busy machine.
    "connect_timeout_seconds": 1.5,
    "read_timeout_seconds": 2.0,
    "total_timeout_seconds": 3.6,
    "receipt_window_hours": WINDOW / 3600,
}
HURRY: Final[Mapping[str, Any]] = {
    "kafka": {"session_timeout_seconds": 2, "rebalance_timeout_seconds": 4},
    "dispatch": {
        "lease_seconds": LEASE,
        "heartbeat_seconds": 0.8,
        "poll_interval_seconds": 0.1,
        "backoff_base_seconds": 0.5,
        "backoff_cap_seconds": 2,
    },
    "providers": {name: dict(_PROVIDER) for name in ("twilio", "fcm", "aliyun", "aliyun_sms", "twilio_voice")},
    "shutdown": {"not_ready_seconds": 0, "drain_seconds": 4, "flush_seconds": 2, "leave_seconds": 1},
}
_LEFT_SQL: Final = """
select $1 - (select coalesce(sum(n), 0) from intake_count where topic = $2) as unread,
       (select count(*) from live) as live,
       (select count(*) from claim) as claim, (select count(*) from outbox) as outbox,
       (select count(*) from parked) as parked
"""
_STATES_SQL: Final = """
select case when c.id is not null and l.state = 'scheduled' then 'claimed' else l.state::text end, count(*)
from live l left join claim c on c.id = l.id group by 1
union all
select 'attempt ' || a.state::text, count(*) from live l join attempt a on a.reminder = l.id group by 1
"""

# Claims of a process that was started after a moment: what a dead one left behind is in nobody's hands.
_IN_HAND_SQL: Final = """
select count(*) from claim c join worker w on w.id = c.worker
where w.started_at >= $1 and w.lease_until > clock_timestamp()
"""


class Stand:
    """One world, one gateway to kill (`gateway`), and questions to its database."""

    def __init__(self, around: World, overrides: Mapping[str, Any]) -> None:
        self.world = around
        settings: dict[str, Any] = copy.deepcopy(dict(HURRY))
        merge(settings, overrides)
        self.gateway = around.gateway(settings)
        self._others: list[GatewayProcess] = []
        self._up_since = dt.datetime.min.replace(tzinfo=dt.UTC)

    def twin(self, name: str, overrides: Mapping[str, Any] | None = None) -> GatewayProcess:
        """A second replica: the same secrets, ports of its own."""
        settings = self.gateway.settings
        tree = copy.deepcopy(settings.tree)
        public, internal = free_port(), free_port()
        http = {"public_port": public, "internal_port": internal, "public_url": f"http://127.0.0.1:{public}"}
        merge(tree, {"http": http, **(overrides or {})})
        other = GatewayProcess(Development(tree, settings.environ), self.world.home, name)
        self._others.append(other)
        return other

    async def up(self, **environ: str) -> None:
        """The gateway, started (again) and ready."""
        self.mark_up()
        self.gateway.spawn(**environ)
        await self.gateway.ready()

    def mark_up(self) -> None:
        """The gateway is being started: what is in its hands counts from now."""
        self._up_since = dt.datetime.now(dt.UTC)

    async def killed(self, within: float = 30) -> None:
        """Waits until it has killed itself at the armed point."""
        code = await self.gateway.child.wait(within=within)
        assert code == -signal.SIGKILL, f"ended with {code}\n{self.gateway.child.tail()}"

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.world.dsn)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async def value(self, sql: str, *args: Any) -> Any:
        return (await self.fetch(sql, *args))[0][0]

    async def states(self) -> Counter[str]:
        """How many reminders and attempts that still live are in each state."""
        return Counter({row[0]: row[1] for row in await self.fetch(_STATES_SQL)})

    async def in_hand(self) -> int:
        """How many reminders the gateway, as last started, has claimed or is sending."""
        return int(await self.value(_IN_HAND_SQL, self._up_since))

    def accepted(self) -> list[dict[str, Any]]:
        """What the providers took, by their own log."""
        return [line for line in self.world.simulator.journal.since(0)[0] if line["kind"] == "accepted"]

    async def told(self) -> list[tuple[str, int, str]]:
        """The states told so far: (request id, seq, state), repetitions included."""
        events = (event["data"] for event in await self.world.read(self.world.topics.events))
        return [(each["request_id"], each["seq"], each["state"]) for each in events if each.get("seq")]

    async def quiet(self, within: float = 60) -> float:
        """Waits until every request was read and everything has ended; the seconds it took.

        Nothing may be published meanwhile.
        """
        started = time.monotonic()
        records = await size(self.world.bootstrap, self.world.topics.requests)
        left: dict[str, int] = {}

        async def done() -> bool:
            [row] = await self.fetch(_LEFT_SQL, records, self.world.topics.requests)
            left.update(row)
            return not any(left.values())

        await eventually(done, within, lambda: f"left after {within:g} s: {left}\n{self.gateway.child.tail(12)}")
        return time.monotonic() - started

    def evidence(self) -> checker.Evidence:
        """Where the judge has to look."""
        topics = self.world.topics
        return checker.Evidence(
            dsn=self.world.dsn,
            bootstrap=self.world.bootstrap,
            requests=topics.requests,
            events=topics.events,
            deadletters=topics.deadletters,
            log=self.world.simulator.config.log,
            resends=self._resends(),
        )

    async def check(self) -> checker.Report:
        """The judge's report on a healed run."""
        return await checker.check(self.evidence())

    def _resends(self) -> frozenset[tuple[str, str]]:
        """(provider, stage) of what any of the processes is configured to send again."""
        trees = [each.settings.tree["providers"] for each in (self.gateway, *self._others)]
        return frozenset(
            (name, stage.value)
            for providers in trees
            for name, each in providers.items()
            for stage in Stage
            if each.get("on_unknown_stages", {}).get(stage.value, each.get("on_unknown")) == "resend"
        )

    async def stop(self) -> None:
        for each in (self.gateway, *self._others):
            await each.child.kill()


@asynccontextmanager
async def stand(
    dsn: str,
    bootstrap: str,
    topics: Any,
    home: Path,
    overrides: Mapping[str, Any] | None = None,
    **simulator: Any,
) -> AsyncIterator[Stand]:
    """A world with a witness in its database; every gateway in it is killed at the end."""
    await witness.install(dsn)
    async with world(dsn, bootstrap, topics, home, **simulator) as around:
        here = Stand(around, overrides or {})
        try:
            yield here
        finally:
            await here.stop()


async def fresh_topics(kafka: Any) -> Topics:
    """Topics of a world of its own."""
    mark = secrets.token_hex(4)
    names = Topics(f"requests-{mark}", f"events-{mark}", f"deadletters-{mark}", f"gateway-{mark}")
    await kafka.create_topics({names.requests: 4, names.events: 4, names.deadletters: 1})
    return names


async def eventually(
    holds: Callable[[], Awaitable[bool]], within: float = 30, why: Callable[[], str] = lambda: "it never held"
) -> None:
    """Waits until `holds`; AssertionError with `why` when the time is up."""
    end = time.monotonic() + within
    while not await holds():
        assert time.monotonic() < end, why()
        await asyncio.sleep(0.05)


async def until_paused(process: GatewayProcess, within: float = 30) -> None:
    """Waits until a gateway has stopped itself at its armed point."""

    async def paused() -> bool:
        return bool(psutil.Process(process.child.pid).status() == psutil.STATUS_STOPPED)

    await eventually(paused, within, process.child.tail)


def spawn_unfenced(process: GatewayProcess, fences: Collection[str], **environ: str) -> None:
    """Starts a build of the gateway without these fences; see unfenced.py."""
    command = [sys.executable, str(Path(__file__).with_name("unfenced.py")), "run", "--config", str(process.config)]
    process.child.spawn(command, env={**process.environ, "UNFENCED": ",".join(sorted(fences)), **environ})
