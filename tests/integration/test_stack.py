"""The servers behind the tests: they work, they keep what they must, and they never outlive their owner."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.dev.embedded import EmbeddedBroker
from gateway.dev.host import Home, StackError, free_port
from gateway.dev.process import Child
from tests.conftest import Topics
from tests.stack.kafka import KafkaServer
from tests.stack.postgres import PostgresServer

COUNT = "SELECT count(*) FROM written"


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        yield connection
    finally:
        connection.terminate()


async def send(bootstrap: str, topic: str, values: list[bytes], *, idempotent: bool = True) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=idempotent)
    try:
        await producer.start()
        await asyncio.gather(*[await producer.send(topic, value, partition=0) for value in values])
    finally:
        await producer.stop()


async def read(bootstrap: str, topic: str, count: int, group: str | None = None) -> list[bytes]:
    """The next `count` records of partition 0 or of the group's partitions; the group commits them."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        values: list[bytes] = []
        async with asyncio.timeout(30):
            while len(values) < count:
                for records in (await consumer.getmany(timeout_ms=200, max_records=count - len(values))).values():
                    values += [record.value for record in records]
        if group:
            await consumer.commit()
        return values
    finally:
        await consumer.stop()


@pytest.mark.real_kafka
@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_kafka_keeps_records_and_positions(kafka: KafkaServer, topics: Topics, how: str) -> None:
    sent = [b"%d" % number for number in range(200)]
    await send(kafka.bootstrap, topics.requests, sent[:100])
    assert await read(kafka.bootstrap, topics.requests, 60, topics.group) == sent[:60]
    if how == "restart":
        await kafka.restart()
    else:
        await kafka.kill()
        await kafka.launch()
    await send(kafka.bootstrap, topics.requests, sent[100:])
    assert await read(kafka.bootstrap, topics.requests, 140, topics.group) == sent[60:]


@pytest.mark.real_kafka
async def test_kafka_paused_answers_after_the_pause(kafka: KafkaServer, topics: Topics) -> None:
    kafka.pause()
    sending = asyncio.create_task(send(kafka.bootstrap, topics.events, [b"late"]))
    done, _ = await asyncio.wait({sending}, timeout=0.5)
    assert not done
    kafka.resume()
    await sending
    assert await read(kafka.bootstrap, topics.events, 1) == [b"late"]


async def test_each_database_is_a_clone_with_the_schema(postgres: PostgresServer, database: str) -> None:
    async with connected(database) as mine, connected(postgres.dsn()) as outside:
        assert await mine.fetchval("SELECT count(*) FROM alembic_version") == 1
        assert await mine.fetchval("SHOW synchronous_commit") == "on"
        assert await outside.fetchval("SELECT to_regclass('alembic_version')") is None


async def test_postgres_killed_keeps_what_was_committed(postgres: PostgresServer, database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("CREATE TABLE written (n int)")
        await connection.execute("INSERT INTO written SELECT generate_series(1, 1000)")
        open_transaction = connection.transaction()
        await open_transaction.start()
        await connection.execute("INSERT INTO written VALUES (1001)")
        await postgres.kill()
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval(COUNT)
    with pytest.raises(OSError):  # refused, whatever the system calls it
        await asyncpg.connect(database, timeout=5)
    await postgres.launch()
    async with connected(database) as connection:
        assert await connection.fetchval(COUNT) == 1000


async def test_postgres_restart_and_pause(postgres: PostgresServer, database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("CREATE TABLE written (n int)")
    await postgres.restart()
    async with connected(database) as connection:
        postgres.pause()
        counting = asyncio.create_task(connection.fetchval(COUNT))
        done, _ = await asyncio.wait({counting}, timeout=0.3)
        assert not done
        postgres.resume()
        assert await counting == 0


async def test_durable_postgres_really_syncs() -> None:
    async with PostgresServer(durable=True) as server, connected(server.dsn()) as connection:
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW full_page_writes") == "on"


async def test_the_embedded_broker_can_carry_the_demo() -> None:
    async with EmbeddedBroker() as broker:
        await broker.create_topics({"requests": 1})
        sent = [b"%d" % number for number in range(50)]
        await send(broker.bootstrap, "requests", sent, idempotent=False)
        assert await read(broker.bootstrap, "requests", 20, "group") == sent[:20]
        assert await read(broker.bootstrap, "requests", 30, "group") == sent[20:]
        with pytest.raises(KafkaError):  # the day this passes, its description needs a change
            await send(broker.bootstrap, "requests", [b"once"], idempotent=True)


OWNER = """
import asyncio, sys
from pathlib import Path
from gateway.dev.embedded import EmbeddedBroker, EmbeddedPostgres
async def main():
    async with EmbeddedPostgres() as postgres, EmbeddedBroker() as broker:
        print(postgres.process.pid, broker.process.pid, postgres.process.log.parent, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_servers_die_with_their_owner_and_the_next_one_cleans_up() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner, owner.stdout:
        postgres, broker, home = owner.stdout.readline().split()
        family = [psutil.Process(int(broker)), *(parent := psutil.Process(int(postgres))).children(), parent]
        assert len(family) > 3  # Postgres has its helpers
        owner.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    # Nobody was left to remove its files; whoever comes next does.
    end = time.monotonic() + 10
    while Path(home).exists():
        assert time.monotonic() < end
        Home("sweeper").close()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    child = Child("liar", tmp_path / "log").spawn([sys.executable, "-c", "raise SystemExit('no luck today')"])

    async def never() -> bool:
        return False

    with pytest.raises(StackError, match=r"liar ended with 1\n(.|\n)*no luck today"):
        await child.ready(never, within=10)


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""


async def test_stop_turns_into_kill_when_ignored(tmp_path: Path) -> None:
    child = Child("stubborn", tmp_path / "log").spawn([sys.executable, "-c", STUBBORN])

    async def deaf() -> bool:
        return "deaf" in child.tail()

    await child.ready(deaf, within=10)
    assert await child.stop(within=0.2) == -signal.SIGKILL


def test_ports_are_not_given_twice() -> None:
    script = "from gateway.dev.host import free_port; print(*(free_port() for _ in range(300))); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = set(map(int, other.stdout.readline().split()))
        ours = {free_port() for _ in range(300)}
        assert len(theirs) == len(ours) == 300
        assert not theirs & ours


def test_a_living_owners_home_is_left_alone() -> None:
    first = Home("first")
    second = Home("second")
    assert first.path.exists()
    assert first.path.stat().st_mode & 0o777 == 0o711
    first.close()
    first.close()
    second.close()
    assert not first.path.exists()


@pytest.mark.parametrize("attempt", range(4))
async def test_a_start_that_is_called_off_leaves_no_file_and_no_process(
    attempt: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While initdb writes: it must not go on writing into what is being removed."""
    tmp_path.chmod(0o755)
    for above in tmp_path.parents:
        if above.name.startswith(("pytest-", "popen-")):
            above.chmod(0o755)  # Postgres may run as another account
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = PostgresServer()
    start = asyncio.create_task(server.start())
    while not list(tmp_path.glob("reminder-gateway-postgres-*/data/*")):
        assert not start.done(), await start
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01 * attempt)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert list(tmp_path.iterdir()) == []
    assert not [
        each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(each.info["cmdline"] or ())
    ]
