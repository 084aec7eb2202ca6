"""Broker and ledger go away and come back under load; the gateway stops when told and refuses what is unsafe."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from alembic.script import ScriptDirectory

from gateway.ledger import schema
from tests.stack.gateway import GatewayProcess, World
from tests.stack.load import Load, events_in
from tests.stack.scene import QUICK, Scene, empty_world, fetch, until

# Receipts that meet a closed door come again after a moment.
RECEIPTS = {"receipts": {"retry_scale": 0.02}}
Fault = Callable[[], Awaitable[None]]


@pytest.fixture
async def here(postgres: Any, kafka: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with empty_world(postgres, kafka, tmp_path, **RECEIPTS) as world:
        yield world


@pytest.fixture
async def gateway(here: World) -> AsyncIterator[GatewayProcess]:
    process = here.gateway(QUICK)
    process.spawn()
    try:
        await process.ready(60)
        yield process
    finally:
        await process.child.kill()


@pytest.mark.real_kafka
async def test_the_broker_restarts_under_load(here: World, gateway: GatewayProcess, kafka: Any) -> None:
    load = Load(here)
    await load.pour(100)
    await kafka.restart()
    await load.pour(50)
    await kafka.kill()
    await kafka.launch()
    await load.pour(50)
    assert await load.all_ended() == {"delivered": 200}
    assert sorted(load.sent()) == sorted(f"M-{number}" for number in load.numbers)
    load.assert_nothing_twice()
    await load.assert_conserved()
    scene = Scene(here, gateway)
    await scene.relayed(30)
    for number in (0, 120, 199):  # what was told before, between and after
        assert [each["seq"] for each in await scene.events(number) if "seq" in each][-1] == 3
    assert gateway.child.alive


@pytest.mark.real_kafka
async def test_it_starts_without_a_broker_and_goes_on_when_there_is_one(here: World, kafka: Any) -> None:
    """Receipts and what is due do not need Kafka: only what comes in and what is told waits for it."""
    process = here.gateway(QUICK)
    await kafka.kill()
    process.spawn()
    try:
        reasons = await until(lambda: said(process), "the public listener", within=30)
        assert reasons in ({"intake": "no_consumer"}, {"intake": "connect_refused"})  # until somebody has looked
        public = process.settings.tree["http"]["public_port"]
        url = f"http://127.0.0.1:{public}/events/push"
        async with aiohttp.ClientSession() as session, session.post(url) as answer:
            assert answer.status == 401
        await asyncio.sleep(5)
        assert process.child.alive
        await kafka.launch()
        await process.ready(60)
        load = Load(here)
        await load.pour(20)
        assert await load.all_ended() == {"delivered": 20}
        await load.assert_conserved()
    finally:
        await process.child.kill()


async def said(gateway: GatewayProcess) -> dict[str, str] | None:
    """Why it is not ready, once it has started all the same."""
    reasons = await unready(gateway)
    return reasons if reasons and not reasons.keys() & {"process", "connection"} else None


async def test_postgres_restarts_under_load(here: World, gateway: GatewayProcess, postgres: Any) -> None:
    """In an orderly way, then by a kill.  A send whose outcome was not written may end unconfirmed, never twice."""
    load = Load(here)

    async def kill() -> None:
        await postgres.kill()
        await postgres.launch()

    for fault in (postgres.restart, kill):
        pouring = asyncio.create_task(load.pour(150, pause=0.1))
        await asyncio.sleep(0.8)
        await fault()
        await pouring
    endings = await load.all_ended(90)
    assert set(endings) <= {"delivered", "unconfirmed"}
    assert endings["delivered"] >= 0.9 * len(load.numbers)
    load.assert_nothing_twice()
    await load.assert_conserved()
    assert gateway.child.alive


async def test_sigterm_under_load(here: World, gateway: GatewayProcess) -> None:
    """Not ready within a second, out within the budget, nothing left in its hands; the next one goes on."""
    scene = Scene(here, gateway)
    scene.perform({"latency": [0.5, 0.9]})
    load = Load(here)
    await load.pour(200, pause=0)

    async def sending() -> list[Any]:
        return await scene.sql("select 1 from live where state = 'sending'")

    await until(sending, "request that is out")
    started = time.monotonic()
    os.kill(gateway.child.pid, signal.SIGTERM)
    reasons = await until(lambda: unready(gateway), "readiness lost", within=1, every=0.01)
    stopping = asyncio.create_task(gateway.child.stop(within=25))  # once more, as whoever loses patience does
    assert reasons.get("process") == "stopping" or reasons.get("connection") == "refused"
    assert await stopping == 0
    assert time.monotonic() - started < 17  # not ready 0 + drain 8 + flush 4 + leave 2, and a little
    assert events_in(gateway)[-1]["late"] == []
    assert await scene.sql("select 1 from claim") == []
    assert await scene.sql("select 1 from worker") == []
    assert await scene.sql("select 1 from attempt where state in ('intended', 'unknown')") == []

    gateway.spawn()
    await gateway.ready(60)
    assert await load.all_ended() == {"delivered": 200}
    load.assert_nothing_twice()
    await load.assert_conserved()


async def test_killed_while_it_drains(here: World, gateway: GatewayProcess) -> None:
    """Whoever loses all patience: what was out is unknown until its receipt, and nothing leaves twice."""
    scene = Scene(here, gateway)
    scene.perform({"latency": [0.5, 0.9]})
    load = Load(here)
    await load.pour(100, pause=0)

    async def sending() -> list[Any]:
        return await scene.sql("select 1 from live where state = 'sending'")

    await until(sending, "request that is out")
    os.kill(gateway.child.pid, signal.SIGTERM)
    await until(lambda: unready(gateway), "readiness lost", within=1, every=0.01)
    os.kill(gateway.child.pid, signal.SIGKILL)
    assert await gateway.child.wait(within=10) == -signal.SIGKILL
    assert await scene.sql("select 1 from attempt where state = 'intended'"), "nothing was out when it was killed"

    gateway.spawn()
    await gateway.ready(60)
    # Receipts may have met the closed door for longer than their window.
    ended = await load.all_ended()
    assert set(ended) <= {"delivered", "unconfirmed"}
    # Where no byte had left nobody can know that: it is not sent again either.
    unsent = {f"M-{number}" for number in load.numbers} - set(load.sent())
    assert len(unsent) <= ended["unconfirmed"]
    load.assert_nothing_twice()
    await load.assert_conserved()


async def test_sigterm_while_it_still_starts(here: World) -> None:
    """A database that accepts connections and says nothing: nothing to wait for."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    asked = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    gateway = here.gateway(QUICK)
    port = server.sockets[0].getsockname()[1]
    dsn = f"postgresql://nobody:nothing@127.0.0.1:{port}/none"
    gateway.spawn(**dict.fromkeys((each for each in gateway.environ if each.endswith("DSN")), dsn))
    try:
        await asyncio.wait_for(asked.wait(), 30)
        started = time.monotonic()
        assert await gateway.child.stop(within=20) == 0
        assert time.monotonic() - started < 10
        assert [each["event"] for each in events_in(gateway)][-2:] == ["stopping", "stopped"]
    finally:
        await gateway.child.kill()
        server.close()


async def unready(gateway: GatewayProcess) -> dict[str, str] | None:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/readyz") as response:
            return None if response.status == 200 else dict((await response.json())["reasons"])
    except aiohttp.ClientError:
        return {"connection": "refused"}


@pytest.mark.parametrize(
    ("makes_unsafe", "error"),
    [
        ("update alembic_version set version_num = '9999'", "UnknownSchema"),
        ("drop table alembic_version", "UnknownSchema"),
        ("insert into cadence_in_use values ('gone', 3)", "CadenceGone"),
        ("do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$",
         "UnsafeDatabase"),
    ],
)  # fmt: skip
async def test_it_refuses_a_ledger_it_cannot_trust(here: World, makes_unsafe: str, error: str) -> None:
    await fetch(here.dsn, makes_unsafe)
    process = here.gateway(QUICK)
    process.spawn()
    assert await process.child.wait(within=60) == 1
    (failed,) = (line for line in events_in(process) if line["event"] == "start_failed")
    assert (failed["level"], failed["error"]) == ("error", error)
    assert await fetch(here.dsn, "select 1 from worker") == []


def test_the_known_version_is_the_last_migration() -> None:
    migrations = Path(schema.__file__).parent / "migrations"
    assert ScriptDirectory(str(migrations)).get_current_head() == schema.head()
