"""What every contestant meets: one Kafka, one Postgres, one provider, one receipt sender."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer

from gateway.dev.host import Home, free_port
from gateway.dev.process import Child
from gateway.dev.simulator import Credentials
from tests.bench.counters import Counters
from tests.stack.gateway import key_of
from tests.stack.kafka import KafkaServer
from tests.stack.postgres import PostgresServer

EVENTS_PARTITIONS: Final = 4

_ROOT: Final = Path(__file__).parents[2]
# Every contestant's hand-overs are dated by this, and every one pays for it.
_POSTGRES: Final = {"track_commit_timestamp": "on"}

# Runs at the start of every session, whoever opens it: not durable, no session.  The sequence proves that it ran.
_ASSERT_DURABLE: Final = """
create sequence durable_sessions;
create function assert_durable() returns event_trigger language plpgsql security definer as $$ begin
    if current_setting('synchronous_commit') <> 'on' or current_setting('fsync') <> 'on' then
        raise exception 'this session would not be durable';
    end if;
    perform nextval('public.durable_sessions');
end $$;
create event trigger durable on login execute function assert_durable();
"""


@dataclass(frozen=True)
class Topics:
    requests: str
    events: str
    deadletters: str
    group: str


@dataclass(frozen=True)
class Stage:
    kafka: KafkaServer
    postgres: PostgresServer
    producer: AIOKafkaProducer
    provider_url: str
    receipts_socket: str
    counters: Counters
    counters_path: Path
    credentials: Credentials
    home: Path

    async def topics(self) -> Topics:
        mark = secrets.token_hex(4)
        names = Topics(f"requests-{mark}", f"events-{mark}", f"deadletters-{mark}", f"group-{mark}")
        await self.kafka.create_topics({names.requests: 4, names.events: EVENTS_PARTITIONS, names.deadletters: 1})
        return names

    async def assert_durable(self, database: str) -> None:
        """From now on a session of this database that is not durable does not begin."""
        connection = await asyncpg.connect(self.postgres.dsn(database))
        try:
            await connection.execute(_ASSERT_DURABLE)
        finally:
            await connection.close()

    def child(self, name: str, module: str, *arguments: object, env: Mapping[str, str] | None = None) -> Child:
        """A Python process of the benchmark's own."""
        command = [sys.executable, "-m", module, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), **(env or {})}
        return Child(name, self.home / f"{name}.log").spawn(command, env=environment)

    async def publish(self, topic: str, events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Request id -> Kafka timestamp in milliseconds."""
        sent = [
            (each["id"], await self.producer.send(topic, msgspec.json.encode(each), key=key_of(each)))
            for each in events
        ]
        return {id_: (await answer).timestamp for id_, answer in sent}


async def until(condition: Callable[[], bool], child: Child, *, within: float = 60) -> None:
    """Polls; StackError with the end of the log when the child dies or the time is up."""

    async def holds() -> bool:
        return condition()

    await child.ready(holds, within=within)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    home = Home("bench")
    children: list[Child] = []
    try:
        async with KafkaServer(hot=True) as kafka, PostgresServer(durable=True, settings=_POSTGRES) as postgres:
            producer = AIOKafkaProducer(
                bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True, linger_ms=1
            )
            async with producer:
                port, socket, path = free_port(), str(home.path / "receipts.sock"), home.path / "counters"
                credentials = Credentials.generate()
                here = Stage(
                    kafka, postgres, producer, f"http://127.0.0.1:{port}", socket,
                    Counters(path), path, credentials, home.path,
                )  # fmt: skip
                sid, token = credentials.twilio_account_sid, credentials.twilio_auth_token
                secret = {"BENCH_AUTH_TOKEN": token}
                children.append(here.child("receipts", "tests.bench.receipts", socket, path, sid, env=secret))
                await until(Path(socket).exists, children[-1])
                children.append(here.child("provider", "tests.bench.provider", port, socket, path))
                await children[-1].ready(lambda: listens(port), within=20)
                yield here
    finally:
        for child in children:
            await child.kill()
        home.close()


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
