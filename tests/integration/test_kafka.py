"""What Kafka may do to intake: compressed batches, transactions, more than can be sent, a client that goes silent."""

import asyncio
import contextlib
import datetime as dt
import json
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from gateway import parameters
from gateway.config.connections import Kafka
from gateway.dev.topics import administrator
from gateway.intake.consumer import Consumer
from gateway.intake.decode import Record
from gateway.intake.keeper import Keeper
from gateway.intake.positions import Positions
from gateway.ledger import intake, offsets
from gateway.ledger.database import Database
from gateway.ledger.offsets import CommitsLost
from gateway.ledger.standing import Rules
from tests.conftest import Topics
from tests.stack import scene as stage
from tests.stack.gateway import cancelled, requested
from tests.stack.scene import Scene, until, value_in

pytestmark = pytest.mark.real_kafka
with_scene = pytest.mark.asyncio(loop_scope="module")

KEY = b"one key"  # one partition, hence one order
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@contextlib.asynccontextmanager
async def producer_of(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def encoded(number: int, **changes: Any) -> bytes:
    return json.dumps(requested(number, ["sms"], **changes)).encode()


# --- compression ------------------------------------------------------------------------------------------------------


def codecs_in(kafka: Any, topic: str) -> set[int]:
    """The codecs of the record batches in the broker's own files."""
    return {
        codec
        for log in (kafka.process.log.parent / "data").glob(f"{topic}-*/*.log")
        for codec in _codecs(log.read_bytes())
    }


def _codecs(log: bytes) -> Iterator[int]:
    at = 0
    while at + 23 <= len(log):
        _, length, _, magic, _, attributes = struct.unpack_from(">qiibIh", log, at)
        assert magic == 2
        yield attributes & 7
        at += 12 + length


@with_scene
@pytest.mark.parametrize("codec", CODECS)
async def test_a_compressed_request_is_delivered(scene: Scene, kafka: Any, codec: str) -> None:
    first = CODECS[codec] * 10
    numbers = range(first, first + 5)
    topic = scene.world.topics.requests
    async with producer_of(scene.world.bootstrap, compression_type=codec, linger_ms=200) as producer:
        await asyncio.gather(*[await producer.send(topic, encoded(each), key=KEY) for each in numbers])
    assert CODECS[codec] in codecs_in(kafka, topic)
    for number in numbers:
        assert await scene.ended(number) == ("delivered", None)
        assert scene.sent(number) == ["twilio"]


# --- transactions -----------------------------------------------------------------------------------------------------


class Withdrawn(Exception):
    """An upstream thinks better of it."""


@with_scene
async def test_a_request_of_an_aborted_transaction_was_never_made(scene: Scene) -> None:
    topic = scene.world.topics.requests
    before = await scene.world.ends(topic)
    async with producer_of(scene.world.bootstrap, transactional_id=f"upstream-{topic}") as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic, encoded(100), key=KEY)
        with pytest.raises(Withdrawn):
            async with producer.transaction():
                for number in (101, 102):
                    await producer.send_and_wait(topic, encoded(number), key=KEY)
                raise Withdrawn
        async with producer.transaction():
            await producer.send_and_wait(topic, encoded(103), key=KEY)
    for number in (100, 103):
        assert await scene.ended(number) == ("delivered", None)
        assert scene.sent(number) == ["twilio"]
    # Both were in the log, between those that were delivered: four requests and three markers.
    grown = {each: end - before[each] for each, end in (await scene.world.ends(topic)).items() if end != before[each]}
    assert list(grown.values()) == [7]
    for number in (101, 102):
        assert await scene.state(number) is None
        assert scene.sent(number) == []
        assert await scene.events(number) == []
    names = ["request-101", "request-102"]
    assert await scene.sql("select 1 from reminder where request_id = any($1)", names) == []
    assert await scene.sql("select 1 from deadletter") == []
    kept = await scene.value("select count(*) from inbox")
    assert kept == await scene.value("select count(*) from reminder")
    # The same ids may be used after all: nothing remembers them.
    await scene.world.publish([requested(101)])
    assert await scene.ended(101) == ("delivered", None)


@with_scene
async def test_a_request_of_an_open_transaction_waits_for_its_commit(scene: Scene) -> None:
    """So does what lies behind it in its partition; other partitions go on."""
    topic = scene.world.topics.requests
    async with (
        producer_of(scene.world.bootstrap, transactional_id=f"slow-{topic}") as slow,
        producer_of(scene.world.bootstrap) as plain,
    ):
        async with slow.transaction():
            await slow.send_and_wait(topic, encoded(110), partition=0)
            await plain.send_and_wait(topic, encoded(111), partition=0)
            for number in (112, 113):
                await plain.send_and_wait(topic, encoded(number), partition=number % 2 + 1)
                assert await scene.ended(number) == ("delivered", None)
            assert [await scene.state(number) for number in (110, 111)] == [None, None]
        for number in (110, 111):
            assert await scene.ended(number) == ("delivered", None)
            assert scene.sent(number) == ["twilio"]


# --- back-pressure ----------------------------------------------------------------------------------------------------

SESSION, POLL_INTERVAL = 3.0, 4.0
SLOW: Mapping[str, Any] = {
    "kafka": {"session_timeout_seconds": SESSION, "max_poll_interval_seconds": POLL_INTERVAL},
    "intake": {"backlog_limit": 10},
    "dispatch": {"slots": 4, "claim_batch": 4},
    "providers": {"twilio": {"rate_per_second": 5, "burst": 1, "receipt_window_hours": 60 / 3600}},
}


async def members(bootstrap: str, group: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The group's state, and each member with what it is assigned.  A member that was missed comes back as another."""
    async with administrator(bootstrap) as admin:
        [answer] = await admin.describe_consumer_groups([group])
        [(_, _, state, _, _, found, *_)] = answer.groups
        return state, [(each[0], bytes(each[4])) for each in found]


async def test_back_pressure_pauses_reading_and_keeps_the_group(postgres: Any, kafka: Any, tmp_path: Path) -> None:
    """A provider takes five messages a second: 100 requests are above the limit of ten for longer than any timeout.

    One transaction makes them readable at once, or the pause might begin with a few of them.
    """
    async with stage.scene(postgres, kafka, tmp_path, SLOW) as scene:
        topics = scene.world.topics

        async def one_member() -> list[tuple[str, bytes]] | None:
            state, found = await members(scene.world.bootstrap, topics.group)
            return found if state == "Stable" else None

        at_first = await until(one_member, "stable group")
        assert len(at_first) == 1
        numbers, late = range(100), range(100, 108)
        async with (
            producer_of(scene.world.bootstrap, transactional_id=topics.group) as producer,
            producer.transaction(),
        ):
            for number in numbers:
                await producer.send(topics.requests, encoded(number), key=KEY)

        async def paused() -> bool:
            return await scene.metric("intake_paused") == 1

        await until(paused, "pause", 30)
        began, lasted = time.monotonic(), 0.0
        stopped = numbers[-1]
        await scene.world.publish(
            [*map(requested, late), cancelled(stopped, {"kind": "debt", "ref": f"debt-{stopped}"})]
        )
        assert await scene.ended(stopped, 10) == ("cancelled", "cancelled_debt")  # a stop is read all the same
        assert await paused()
        assert scene.sent(stopped) == []
        while True:
            group = await members(scene.world.bootstrap, topics.group)
            if not await paused():
                break
            lasted = time.monotonic() - began
            assert lasted < 60, "it never goes on"
            assert group == ("Stable", at_first)
            await asyncio.sleep(0.2)
        assert lasted > SESSION + POLL_INTERVAL, "too short a pause to tell whether the group would have missed us"

        for number in (*numbers[:-1], *late):
            assert await scene.ended(number, 60) == ("delivered", None)
            assert scene.sent(number) == ["twilio"]
        assert await members(scene.world.bootstrap, topics.group) == ("Stable", at_first)
        metrics = await scene.gateway.metrics()
        assert value_in(metrics, "intake_paused") == 0
        assert value_in(metrics, "consumer_rebuilds_total") == 0


# --- the client -------------------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """The real consumer on a real client, with the service's own options; what it writes is kept here."""

    bootstrap: str
    topics: Topics
    ledger: Database
    written: list[Record] = field(default_factory=list)
    lags: list[tuple[int, int]] = field(default_factory=list)  # (partition, records) of each reading
    writes: int = 0
    refuses: bool = False
    clients: list[AIOKafkaConsumer] = field(default_factory=list)
    overloaded: bool = False

    def make(self) -> Consumer:
        kafka = Kafka(
            bootstrap=self.bootstrap, group=self.topics.group, requests_topic=self.topics.requests,
            session_timeout_seconds=6, rebalance_timeout_seconds=10,
        )  # fmt: skip
        self.clients.append(AIOKafkaConsumer(**parameters.consumer_options(kafka)))
        positions = Positions(self.ledger, self.topics.requests, lambda lost: None)
        return Consumer(
            self.clients[-1], self.topics.requests, positions, self.write, lambda: self.overloaded, self.room,
            self.lag, lambda paused: None, lambda assigned: None,
        )  # fmt: skip

    async def room(self) -> int | None:
        return None

    async def write(self, records: Sequence[Record], following: Mapping[int, int], known: Mapping[int, int]) -> None:
        self.writes += 1
        if self.refuses:
            raise OSError("no ledger")
        await self.ledger.transaction(lambda c: offsets.store(c, self.topics.requests, following))
        self.written += records

    def lag(self, partition: int, records: int, seconds: float) -> None:
        self.lags.append((partition, records))

    @property
    def values(self) -> list[bytes]:
        return [each.value or b"" for each in self.written]

    async def publish(self, values: Iterable[bytes]) -> None:
        async with producer_of(self.bootstrap) as producer:
            for each in values:
                await producer.send_and_wait(self.topics.requests, each, partition=0)

    async def more_lags(self, n: int = 2) -> list[int]:
        """The next `n` readings of partition 0."""
        seen = len(self.lags)
        await holds(lambda: len(self.of_first(seen)) >= n, f"{n} readings of the lag")
        return self.of_first(seen)

    def of_first(self, start: int) -> list[int]:
        return [records for partition, records in self.lags[start:] if partition == 0]

    async def silence(self) -> None:
        """The client's fetching ends, as by a fault of its own; what it had asked for is awaited."""
        fetcher = self.clients[-1]._fetcher
        fetcher._fetch_task.cancel()
        await asyncio.gather(fetcher._fetch_task, return_exceptions=True)
        await asyncio.gather(*fetcher._pending_tasks, return_exceptions=True)


async def holds(condition: Callable[[], bool], what: str, within: float = 30) -> None:
    async def probe() -> bool:
        return condition()

    await until(probe, what, within)


@pytest.fixture
async def reader(kafka: Any, topics: Topics, database: str) -> AsyncIterator[Reader]:
    ledger = Database(database, size=2, statement_timeout_ms=10_000)
    await ledger.open()
    yield Reader(kafka.bootstrap, topics, ledger)
    await ledger.close()


@pytest.fixture
async def consumer(reader: Reader) -> AsyncIterator[Consumer]:
    async with running(reader) as consumer:
        yield consumer


@contextlib.asynccontextmanager
async def running(reader: Reader) -> AsyncIterator[Consumer]:
    """With every partition."""
    consumer = reader.make()
    loop: asyncio.Task[None] | None = None
    try:
        await consumer.start()
        loop = asyncio.create_task(consumer.run())
        await holds(lambda: len(consumer.assigned) == 4, "assignment")
        yield consumer
    finally:
        consumer.ask_to_stop()
        if loop is not None:
            await loop
        await consumer.stop()


async def test_a_client_that_goes_silent_shows(reader: Reader, consumer: Consumer) -> None:
    """It goes on polling and keeps its partitions; only the broker's own word shows that there is more to read."""
    await reader.publish([b"a", b"b"])
    await holds(lambda: reader.values == [b"a", b"b"], "two records")
    assert await reader.more_lags() == [0, 0]
    assert not consumer.progress.behind
    await reader.silence()
    await reader.publish([b"c", b"d", b"e"])
    await holds(lambda: consumer.progress.behind, "word of being behind")

    heard, polled = consumer.progress.heard_at, consumer.progress.polled_at
    assert await reader.more_lags(3) == [3, 3, 3]
    assert consumer.progress.behind
    assert consumer.progress.heard_at == heard
    assert consumer.progress.polled_at > polled
    assert len(consumer.assigned) == 4
    assert reader.values == [b"a", b"b"]


async def test_nothing_to_read_is_no_silence(reader: Reader, consumer: Consumer) -> None:
    """The same silent client, while nobody says anything: it may rest."""
    await reader.silence()
    await reader.more_lags(1)  # its place is known
    heard = consumer.progress.heard_at
    assert await reader.more_lags(2) == [0, 0]
    assert not consumer.progress.behind
    assert consumer.progress.heard_at > heard


async def test_a_pause_for_back_pressure_is_no_silence(reader: Reader, consumer: Consumer) -> None:
    """And not a standstill: a little is read all the same, since a stop may be among it."""
    reader.overloaded = True
    client = reader.clients[-1]
    await holds(lambda: len(client.paused()) == 4, "pause")
    values = [str(n).encode() for n in range(1000)]
    began = time.monotonic()  # before the first record: a sip may be taken while the rest are still being published
    await reader.publish(values)
    heard = consumer.progress.heard_at
    await holds(lambda: len(reader.written) >= 200, "two sips")
    sips = 1 + (time.monotonic() - began) // 2
    assert len(reader.written) <= 100 * sips
    assert (await reader.more_lags(1))[-1] > 0
    assert not consumer.progress.behind
    assert consumer.progress.heard_at > heard
    reader.overloaded = False
    await holds(lambda: reader.values == values, "all of them")


class RawName(str):
    """The name of a header as other clients may write it: bytes that are no UTF-8."""

    def encode(self, *_: object) -> bytes:
        return b"trace\xff\xfe"


@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_header_names_that_are_no_utf_8_cost_no_record(
    reader: Reader, consumer: Consumer, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    """The client refuses the whole batch, and would for ever; every record is written, in order and once."""
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)  # what is put there stays for this test
    for user in ("producer", "message_accumulator"):  # the compiled one takes nothing but plain names
        monkeypatch.setattr(f"aiokafka.producer.{user}.DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    values = [str(n).encode() for n in range(12)]
    async with producer_of(reader.bootstrap, compression_type=compression) as producer:
        for n, value in enumerate(values):
            headers = [("content-type", b"application/json"), (RawName("trace"), b"1")] if n in (4, 5, 11) else []
            await producer.send(reader.topics.requests, value, key=b"k", partition=0, headers=headers)
        await producer.send(reader.topics.requests, b"elsewhere", partition=1)
        await producer.flush()
    await holds(lambda: len(reader.written) >= 13, "all of them")
    first = [each for each in reader.written if each.partition == 0]
    assert [(each.offset, each.value) for each in first] == list(enumerate(values))
    assert {each.key for each in first} == {b"k"}
    assert first[4].headers == (("content-type", b"application/json"), ("trace\ufffd\ufffd", b"1"))
    assert [each.value for each in reader.written if each.partition == 1] == [b"elsewhere"]
    await reader.publish([b"later"])
    await holds(lambda: reader.values[-1:] == [b"later"], "what comes later")
    assert consumer.progress.failing_since is None


async def test_a_ledger_that_refuses_is_not_the_clients_silence(reader: Reader, consumer: Consumer) -> None:
    """The same records are read again and again, and heard each time."""
    reader.refuses = True
    await reader.publish([b"a", b"b"])
    await holds(lambda: reader.writes > 0, "try")
    heard, tries = consumer.progress.heard_at, reader.writes
    await holds(lambda: reader.writes >= tries + 2, "two more tries")
    assert consumer.progress.heard_at > heard
    assert consumer.progress.written_at is None
    reader.refuses = False
    await holds(lambda: reader.values == [b"a", b"b"], "both records, once")
    assert consumer.progress.written_at is not None


async def test_what_transactions_hide_is_not_missing(reader: Reader, consumer: Consumer) -> None:
    """An aborted end of the log, and one that is not decided yet, cannot be read: the watchdog must not wait for it."""
    topic = reader.topics.requests
    async with producer_of(reader.bootstrap, transactional_id=f"upstream-{topic}") as producer:
        with contextlib.suppress(Withdrawn):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"withdrawn", partition=0)
                raise Withdrawn
        client, first = reader.clients[-1], TopicPartition(topic, 0)

        async def past_the_marker() -> bool:
            return bool(await client.position(first) == 2)

        await until(past_the_marker, "place behind the aborted transaction")
        assert await reader.more_lags(2) == [0, 0]
        async with producer.transaction():
            await producer.send_and_wait(topic, b"a", partition=0)
            heard = consumer.progress.heard_at
            assert await reader.more_lags(2) == [0, 0]
            assert not consumer.progress.behind
            assert consumer.progress.heard_at > heard
            assert reader.written == []
    await holds(lambda: reader.values == [b"a"], "what was committed")


async def test_a_silent_client_is_replaced_and_nothing_is_lost(reader: Reader) -> None:
    """The keeper with real clients: the second one reads what the first one did not."""
    fatal: list[str] = []
    rebuilt: list[None] = []
    metrics: Any = SimpleNamespace(rebuilt=lambda: rebuilt.append(None))
    keeper = Keeper(reader.make, reader.ledger, reader.topics.requests, metrics, fatal.append, 3.0, 10.0)
    await keeper.start()
    try:
        await holds(lambda: keeper.trouble() is None, "a start")
        await holds(lambda: len(reader.lags) >= 4, "positions")
        await reader.silence()
        await reader.publish([b"a", b"b"])
        await holds(lambda: reader.values == [b"a", b"b"], "what was missed", 60)
        assert len(reader.clients) == 2
        assert (len(rebuilt), fatal) == (1, [])
        await holds(lambda: keeper.trouble() is None, "the second one at work")
    finally:
        await keeper.stop(5)


async def test_commits_lost_under_whoever_has_only_taken_over_are_noticed(reader: Reader) -> None:
    """Who has written nothing yet knows all the same where the ledger stood; and a log that begins anew is no loss."""
    topic = reader.topics.requests
    async with running(reader) as first:
        await reader.publish([b"a", b"b", b"c"])
        await holds(lambda: reader.values == [b"a", b"b", b"c"], "three records")
        assert first.known[0] == 3
    async with running(reader) as second:
        await holds(lambda: second.known.get(0) == 3, "a place")
        await stand_at(reader, 1)
        with pytest.raises(CommitsLost):
            await reader.ledger.transaction(
                lambda c: intake.write(c, topic, [], {0: 4}, dt.datetime.now(dt.UTC), Rules(), known=second.known)
            )
        assert await forgotten(reader, second.known) == 2
    await stand_at(reader, 7)  # of a topic that was made anew since
    async with running(reader) as third:
        await holds(lambda: third.known.get(0) == 3, "a place, and all of it read")
        assert await forgotten(reader, third.known) == 0


async def stand_at(reader: Reader, offset: int) -> None:
    async with reader.ledger.connection() as connection:
        await connection.execute("update intake_offset set next = $1 where partition = 0", offset)


async def forgotten(reader: Reader, known: Mapping[int, int]) -> int:
    async with reader.ledger.connection() as connection:
        return offsets.lost(await offsets.read(connection, reader.topics.requests, [*known]), known)
