"""The three contestants: how each is started, when it is done, and what it says about a hand-over."""

from __future__ import annotations

import datetime as dt
import itertools
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import msgspec

from gateway.dev.host import free_port
from gateway.dev.process import Child
from gateway.dev.settings import development
from tests.bench.events import EventCount
from tests.bench.stage import EVENTS_PARTITIONS, Stage, Topics, listens
from tests.bench.task import IN_FLIGHT, VARIABLE, Task

_numbers = itertools.count(1)


class Contestant(ABC):
    """One process with a database and topics of its own; `async with` starts and ends it."""

    letter: str
    title: str
    gets_receipts = True  # and tells events
    _done: str  # counts whole lives
    _events_made: str
    # Selects request_id and at.  For all three `at` is when the transaction committed that inserted the row by which
    # the hand-over is known: no clock of a contestant's own, read before or after its wait for a connection.
    _handed_over: str

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.topics: Topics
        self.child: Child
        self._database: str
        self._connection: asyncpg.Connection
        self._events: EventCount

    async def __aenter__(self) -> Self:
        stage = self.stage
        self.topics = await stage.topics()
        self._database = await self._create_database()
        await stage.assert_durable(self._database)
        self._connection = await asyncpg.connect(stage.postgres.dsn(self._database))
        self._events = await EventCount(stage.kafka.bootstrap, self.topics.events, EVENTS_PARTITIONS).start()
        await self._start(stage.postgres.dsn(self._database))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.child.stop(within=20)
        await self._events.stop()
        await self._connection.close()
        await self.stage.postgres.drop_database(self._database)

    async def _create_database(self) -> str:
        name = f"bench_{next(_numbers)}"
        await self.stage.postgres.create_database(name)
        return name

    @abstractmethod
    async def _start(self, dsn: str) -> None: ...

    async def done(self, n: int) -> bool:
        """Have `n` messages lived their whole life, with nothing left to do?"""
        return bool(await self._connection.fetchval(self._done, n))

    async def events(self) -> int:
        """How many events are on the events topic by now."""
        return await self._events.now()

    async def events_made(self) -> int:
        """How many events there must be in the end, by what the contestant has in its tables."""
        return int(await self._connection.fetchval(self._events_made))

    async def handed_over(self) -> dict[str, dt.datetime]:
        """Request id -> when Postgres committed the record of the hand-over, stamped just before the flush to disk."""
        return {row["request_id"]: row["at"] for row in await self._connection.fetch(self._handed_over)}

    async def commits(self) -> int:
        """Transactions so far, as far as Postgres has counted them."""
        sql = "select xact_commit from pg_stat_database where datname = current_database()"
        return int(await self._connection.fetchval(sql))

    async def durable_sessions(self) -> int:
        """How many sessions have been asserted durable."""
        return int(await self._connection.fetchval("select last_value from durable_sessions"))


class _Own(Contestant):
    module: str

    async def _start(self, dsn: str) -> None:
        stage, topics = self.stage, self.topics
        task = Task(
            dsn=dsn,
            bootstrap=stage.kafka.bootstrap,
            requests_topic=topics.requests,
            events_topic=topics.events,
            group=topics.group,
            provider_url=stage.provider_url,
            account=stage.credentials.twilio_account_sid,
            auth_token=stage.credentials.twilio_auth_token,
            port=free_port(),
        )
        self.child = stage.child(self.letter, self.module, env={VARIABLE: msgspec.json.encode(task).decode()})


class PlainLoop(_Own):
    letter = "a"
    title = "plain loop"
    gets_receipts = False
    module = "tests.bench.plain_loop"
    _done = "select count(*) = $1 from result"
    _events_made = "select 0"
    _handed_over = "select request_id, pg_xact_commit_timestamp(xmin) as at from result"


class Reference(_Own):
    letter = "b"
    title = "durable reference"
    module = "tests.bench.reference"
    # A receipt is answered after its event has been acknowledged.
    _done = "select (select count(*) from receipt) = $1 and (select count(*) from result) = $1"
    _events_made = "select count(*) from receipt"
    _handed_over = """
        select i.request_id, pg_xact_commit_timestamp(r.xmin) as at from result r join intent i using (id)
    """


class Gateway(Contestant):
    """`profile` is where the sampling profiler writes; empty for the gateway as it is."""

    letter = "c"
    title = "gateway"
    _done = """
        select not exists (select 1 from live) and not exists (select 1 from outbox)
            and (select count(*) from ending where state = 'delivered') = $1
    """
    # Three for each message, or two where the receipt overtook the record of the hand-over.
    _events_made = "select coalesce(sum(seq), 0) from ending"
    # The attempt's row is written again by the receipt; the provider's id is inserted with the outcome and stays.  Only
    # a receipt that overtakes the outcome brings the id first, and that is no sooner than the sender's DELAY_SECONDS.
    _handed_over = """
        select r.request_id, pg_xact_commit_timestamp(p.xmin) as at
        from provider_ref p join attempt a on a.id = p.attempt join reminder r on r.id = a.reminder
    """
    _awaiting: Final = "select count(*) = $1 from live where state = 'awaiting'"

    def __init__(self, stage: Stage, profile: Path | None = None) -> None:
        super().__init__(stage)
        self._profile = profile

    async def _create_database(self) -> str:
        return await self.stage.postgres.fresh_database()

    async def _start(self, dsn: str) -> None:
        stage, topics, public, internal = self.stage, self.topics, free_port(), free_port()
        settings = development(
            dsn=dsn,
            bootstrap=stage.kafka.bootstrap,
            provider_url=stage.provider_url,
            token_url=f"{stage.provider_url}/token",
            credentials=stage.credentials,
            public_port=public,
            internal_port=internal,
            overrides={
                "kafka": self.kafka(topics),
                "providers": {"twilio": {"concurrency": IN_FLIGHT, "receipt_window_hours": 1}},
            },
        )
        run = ["run", "--config", str(settings.write(stage.home / "gateway.yaml"))]
        if self._profile is not None:
            arguments = [self._profile, stage.counters_path, *run]
            self.child = stage.child("c", "tests.bench.profiled", *arguments, env=settings.environ)
        else:
            self.child = stage.child("c", "gateway", *run, env=settings.environ)
        await self.child.ready(lambda: listens(public), within=30)

    def kafka(self, topics: Topics) -> dict[str, Any]:
        return {
            "requests_topic": topics.requests,
            "events_topic": topics.events,
            "deadletters_topic": topics.deadletters,
            "group": topics.group,
        }

    async def awaiting(self, n: int) -> bool:
        """Are `n` messages handed over, recorded, and without a receipt?"""
        return bool(await self._connection.fetchval(self._awaiting, n))


CONTESTANTS: Final[tuple[type[Contestant], ...]] = (PlainLoop, Reference, Gateway)
