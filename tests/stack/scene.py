"""One gateway at work and every way to look at what it did: its ledger, its topics, its vendors' log."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from gateway.dev.simulator.journal import read
from gateway.dev.simulator.script import Script
from gateway.observability.metrics import NAMESPACE
from tests.stack.gateway import GatewayProcess, World, merge, world

T = TypeVar("T")
SOURCE = "loan-core"

# Everything that takes hours in production takes a second or less.
QUICK: Mapping[str, Any] = {
    "dispatch": {"backoff_base_seconds": 0.3, "backoff_cap_seconds": 1.0, "poll_interval_seconds": 0.1},
    "shutdown": {"not_ready_seconds": 0.0},
}

_STATE = """
select r.id, r.subject, r.request_id, coalesce(l.state, e.state)::text as state, coalesce(l.reason, e.reason) as reason,
       coalesce(l.seq, e.seq) as seq, l.rung, l.closed, e.reminder is not null as ended
from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id
where r.source = $1 and r.request_id = $2
"""
_ATTEMPTS = """
select a.* from attempt a join reminder r on r.id = a.reminder
where r.source = $1 and r.request_id = $2 order by a.id
"""


@dataclass(frozen=True)
class Names:
    """Topics and group of one scene."""

    requests: str
    events: str
    deadletters: str
    group: str


@dataclass
class Scene:
    """A world with one gateway process; `number`s name requests, recipients and markers as in `requested(number)`."""

    world: World
    gateway: GatewayProcess

    # --- the ledger -----------------------------------------------------------------------------------------------

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        return await fetch(self.world.dsn, query, *args)

    async def value(self, query: str, *args: Any) -> Any:
        return (await self.sql(query, *args))[0][0]

    async def state(self, request: int | str) -> asyncpg.Record | None:
        rows = await self.sql(_STATE, SOURCE, name_of(request))
        assert len(rows) < 2, "one request became two reminders"
        return rows[0] if rows else None

    async def reached(self, request: int | str, state: str, within: float = 20) -> asyncpg.Record:
        """Waits until the reminder is in `state`; says where it stood instead when it does not get there."""
        return await self._wait(request, lambda row: row["state"] == state, state, within)

    async def ended(self, request: int | str, within: float = 20) -> tuple[str, str | None]:
        """The ending: (state, reason)."""
        row = await self._wait(request, lambda row: row["ended"], "an end", within)
        return row["state"], row["reason"]

    async def _wait(
        self, request: int | str, good: Callable[[asyncpg.Record], bool], what: str, within: float
    ) -> asyncpg.Record:
        end = time.monotonic() + within
        while True:
            row = await self.state(request)
            if row is not None and good(row):
                return row
            stands = "unknown" if row is None else f"{row['state']} ({row['reason']})"
            assert time.monotonic() < end, f"{name_of(request)} is {stands}, not at {what}, after {within:g} s"
            await asyncio.sleep(0.05)

    async def attempts(self, request: int | str) -> list[asyncpg.Record]:
        return await self.sql(_ATTEMPTS, SOURCE, name_of(request))

    async def ladder(self, request: int | str) -> list[tuple[str, str, str | None]]:
        """(channel, state, failure) of each attempt, in order."""
        return [(each["channel"], each["state"], each["failure"]) for each in await self.attempts(request)]

    # --- Kafka ----------------------------------------------------------------------------------------------------

    async def events(self, request: int | str) -> list[dict[str, Any]]:
        """The data of every event about a request, in order."""
        found = [each["data"] for each in await self.world.read(self.world.topics.events)]
        return [each for each in found if (each.get("source"), each.get("request_id")) == (SOURCE, name_of(request))]

    async def told(self, request: int | str, n: int, within: float = 10) -> list[dict[str, Any]]:
        """At least `n` events about a request, waiting for them."""

        async def enough() -> list[dict[str, Any]] | None:
            found = await self.events(request)
            return found if len(found) >= n else None

        return await until(enough, f"{n} events about {name_of(request)}", within)

    async def heard(self, type_: str, n: int = 1, within: float = 20) -> list[dict[str, Any]]:
        """The data of exactly `n` events of a type, waiting for them."""

        async def enough() -> list[dict[str, Any]] | None:
            found = await self.world.read(self.world.topics.events)
            mine = [each["data"] for each in found if each["type"] == type_]
            return mine if len(mine) >= n else None

        found = await until(enough, f"{n} events {type_}", within)
        assert len(found) == n
        return found

    async def answer(self, request: int | str, kind: str, within: float = 10) -> dict[str, Any]:
        """The one answer of a kind about a request."""

        async def there() -> list[dict[str, Any]] | None:
            return [each for each in await self.events(request) if each.get("answer") == kind] or None

        (found,) = await until(there, f"the answer {kind} for {name_of(request)}", within)
        assert "seq" not in found
        return found

    async def deadletters(self) -> list[dict[str, Any]]:
        """The data of every dead letter's event."""
        return [each["data"] for each in await self.world.read(self.world.topics.deadletters)]

    async def caught_up(self, within: float = 20) -> None:
        """Returns once the gateway has read everything that is on the requests topic now."""
        ends = await self.world.ends(self.world.topics.requests)

        async def there() -> bool:
            rows = await self.sql(
                "select partition, next from intake_offset where topic = $1", self.world.topics.requests
            )
            following = {row[0]: row[1] for row in rows}
            return all(following.get(partition, 0) >= end for partition, end in ends.items())

        await until(there, "every record read", within)

    async def relayed(self, within: float = 10) -> None:
        """Returns once the outbox is empty."""

        async def empty() -> bool:
            return not await self.value("select count(*) from outbox")

        await until(empty, "an empty outbox", within)

    # --- metrics --------------------------------------------------------------------------------------------------

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one series, without the prefix of all our names."""
        return value_in(await self.gateway.metrics(), name, **labels)

    # --- the vendors ----------------------------------------------------------------------------------------------

    def log(self, kind: str = "accepted") -> list[dict[str, Any]]:
        """Lines of the simulator's durable log."""
        return [each for each in read(self.world.home / "simulator.jsonl") if each["kind"] == kind]

    def sent(self, number: int) -> list[str]:
        """The vendors that accepted a message for this request, in order."""
        return [each["vendor"] for each in self.log() if each["marker"] == f"M-{number}"]

    def perform(self, *rules: Mapping[str, Any]) -> None:
        """Replaces the simulator's script."""
        self.world.simulator.perform(Script.model_validate({"rules": rules}))


def value_in(exposition: str, name: str, **labels: str) -> float:
    """The value of one series of a scrape; a series that is not there fails."""
    samples = [each for family in text_string_to_metric_families(exposition) for each in family.samples]
    (found,) = (each.value for each in samples if each.name == f"{NAMESPACE}_{name}" and each.labels == labels)
    return float(found)


async def fetch(dsn: str, query: str, *args: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return list(await connection.fetch(query, *args))
    finally:
        await connection.close()


async def until(probe: Callable[[], Awaitable[T | None]], what: str, within: float = 20, every: float = 0.05) -> T:
    """The first true answer of `probe`; fails with `what` when none comes in time."""
    end = time.monotonic() + within
    while True:
        found = await probe()
        if found:
            return found
        assert time.monotonic() < end, f"no {what} within {within:g} s"
        await asyncio.sleep(every)


def name_of(request: int | str) -> str:
    return f"request-{request}" if isinstance(request, int) else request


def rule(number: int, vendor: str, **says: Any) -> dict[str, Any]:
    """A script rule for the recipient of `requested(number)` at one vendor."""
    return {"vendor": vendor, "recipient": f"*{number:08d}*", **says}


@asynccontextmanager
async def empty_world(postgres: Any, kafka: Any, home: Path, **simulator: Any) -> AsyncIterator[World]:
    """A world of its own: a fresh database and topics, and the simulator; no gateway yet."""
    await postgres.heal()
    await kafka.heal()
    mark = secrets.token_hex(4)
    names = Names(f"requests-{mark}", f"events-{mark}", f"deadletters-{mark}", f"gateway-{mark}")
    await kafka.create_topics({names.requests: 4, names.events: 4, names.deadletters: 1})
    database = await postgres.fresh_database()
    try:
        async with world(postgres.dsn(database), kafka.bootstrap, names, home, **simulator) as here:
            yield here
            await kafka.heal()  # what was told is looked through at the end
    finally:
        await postgres.heal()
        await postgres.drop_database(database)


@asynccontextmanager
async def scene(
    postgres: Any, kafka: Any, home: Path, overrides: Mapping[str, Any] | None = None, **simulator: Any
) -> AsyncIterator[Scene]:
    """A world and one gateway that is ready.  The gateway is killed at the end: stopping is another test's business."""
    async with empty_world(postgres, kafka, home, **simulator) as here:
        tree: dict[str, Any] = {key: dict(value) for key, value in QUICK.items()}
        merge(tree, overrides or {})
        gateway = here.gateway(tree)
        gateway.spawn()
        try:
            await gateway.ready(60)
            yield Scene(here, gateway)
        finally:
            await gateway.child.kill()
