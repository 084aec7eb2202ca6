"""The relay on real Postgres and Kafka: who publishes what, in which order, and what an interrupted hand repeats."""

import asyncio
import contextlib
import datetime as dt
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway import parameters
from gateway.clock import AnchoredClock
from gateway.config.connections import Kafka
from gateway.dev.topics import create_topics
from gateway.ids import IdSource, bucket_of, to_reference
from gateway.ledger import workers
from gateway.ledger.database import Database
from gateway.observability.metrics import Metrics
from gateway.relay import KafkaPublisher, Message, Relay, start_producer
from gateway.worker import Worker
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC
from tests.conftest import Topics
from tests.stack.gateway import World
from tests.stack.scene import fetch, until

pytestmark = pytest.mark.real_kafka

LEASE, HEARTBEAT = 60.0, 5.0  # of a worker; long enough to outlast every wait here
ALIVE_FOR = dt.timedelta(seconds=LEASE - 2.5 * HEARTBEAT)
ALL = range(16)
_EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"


def _payload(topic: str, seq: int) -> bytes:
    """What the ledger's movers write: the data of an event, without `seq`."""
    kind = "deadletter.v1" if topic == DEADLETTERS_TOPIC else "status.v1" if seq else "status.v1.duplicate"
    data = json.loads((_EXAMPLES / f"reminder.{kind}.json").read_text())["data"]
    return json.dumps({name: value for name, value in data.items() if name != "seq"}, separators=(",", ":")).encode()


class Post:
    """The real publisher behind a door that a test may close, and with another one behind Kafka's acknowledgement."""

    def __init__(self, inner: KafkaPublisher) -> None:
        self._inner = inner
        self.entry, self.way_out = asyncio.Event(), asyncio.Event()
        self.entry.set()
        self.way_out.set()
        self.taken: list[Message] = []
        self.acknowledged: list[Message] = []
        self.failures = 0

    async def publish(self, messages: Sequence[Message]) -> None:
        self.taken += messages
        await self.entry.wait()
        try:
            await self._inner.publish(messages)
        except BaseException:
            self.failures += 1
            raise
        self.acknowledged += messages
        await self.way_out.wait()

    @property
    def buckets(self) -> set[int]:
        return {each.bucket for each in self.acknowledged}


@dataclass
class Desk:
    """One process's worth: a pool, a worker with a heart, a publisher, a relay."""

    worker: Worker
    post: Post
    relay: Relay

    @property
    def id(self) -> int:
        return self.worker.lease.id

    async def die(self) -> None:
        """As by SIGKILL: nothing is released, nothing is given up."""
        await self.faint()
        assert self.relay._task is not None
        self.relay._task.cancel()
        await asyncio.gather(self.relay._task, return_exceptions=True)

    async def faint(self) -> None:
        """The heart stops; what the relay has in hand stays there."""
        assert self.worker._task is not None
        self.worker._task.cancel()
        await asyncio.gather(self.worker._task, return_exceptions=True)


@dataclass
class Office:
    """A ledger, three topics, and as many desks as a test wants."""

    world: World
    topics: dict[str, str]
    stack: contextlib.AsyncExitStack
    ids: IdSource = field(default_factory=lambda: IdSource(63))

    async def desk(
        self, *, relays: bool = True, lease_seconds: float = 2.0, publish_seconds: float = 6.0, size: int = 2
    ) -> Desk:
        """Registered, not begun; a short lease is one that is often renewed."""
        database = Database(self.world.dsn, size=size, statement_timeout_ms=10_000)
        await database.open()
        self.stack.push_async_callback(database.close)
        async with database.connection() as connection:
            clock = AnchoredClock(await workers.clock(connection))
        metrics = Metrics(CollectorRegistry(), {})
        worker = Worker(database, clock, LEASE, HEARTBEAT, metrics, relays=relays)
        await worker.start()
        self.stack.push_async_callback(worker.stop)
        options = parameters.producer_options(Kafka(bootstrap=self.world.bootstrap))
        publisher = KafkaPublisher(partial(start_producer, options))
        self.stack.push_async_callback(publisher.stop)
        post = Post(publisher)
        relay = Relay(
            database, worker, post, self.topics, metrics, clock.now, ALIVE_FOR, lease_seconds, publish_seconds, 0.05
        )
        self.stack.push_async_callback(relay.stop, 0.0)
        return Desk(worker, post, relay)

    def reminders(self, buckets: Iterable[int]) -> list[int]:
        return [self.ids.next(bucket) for bucket in buckets]

    async def say(self, reminders: Iterable[int], *seqs: int) -> None:
        """Status events as the ledger's movers write them, one transaction each call."""
        rows = [(bucket_of(each), each, seq, 0, EVENTS_TOPIC) for each in reminders for seq in seqs]
        await self._write(rows)

    async def bury(self, letters: Iterable[int]) -> None:
        """Dead letters: each its own, without a seq."""
        await self._write([(bucket_of(each), each, 0, each, DEADLETTERS_TOPIC) for each in letters])

    async def answer(self, reminder: int, identifier: int) -> None:
        await self._write([(bucket_of(reminder), reminder, 0, identifier, EVENTS_TOPIC)])

    async def _write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        await fetch(
            self.world.dsn,
            "insert into outbox (bucket, reminder, seq, id, topic, payload) select * from"
            " unnest($1::smallint[], $2::bigint[], $3::int[], $4::bigint[], $5::text[], $6::bytea[])",
            *map(list, zip(*((*row, _payload(row[4], row[2])) for row in rows), strict=True)),
        )

    async def outbox(self, topic: str | None = None) -> list[tuple[int, int]]:
        """(reminder, seq) of what waits, in the order in which it would go."""
        rows = await fetch(
            self.world.dsn,
            "select reminder, seq from outbox where $1::text is null or topic = $1 order by bucket, reminder, seq, id",
            topic,
        )
        return [tuple(row) for row in rows]

    async def sent(self, topic: str | None = None, within: float = 30) -> None:
        """Returns once nothing waits any more."""

        async def nothing() -> bool:
            return not await self.outbox(topic)

        await until(nothing, "empty outbox", within)

    async def shares(self) -> dict[int, list[int]]:
        """Worker → the shards it has leased."""
        rows = await fetch(
            self.world.dsn,
            "select owner, array_agg(shard::int order by shard) from relay_shard"
            " where lease_until > clock_timestamp() group by owner",
        )
        return {row[0]: row[1] for row in rows}

    async def owned(self, *desks: Desk, within: float = 20) -> dict[int, list[int]]:
        """The shares, once these desks have equal ones and all 16 shards between them."""
        want = len(ALL) // len(desks)

        async def fair() -> dict[int, list[int]] | None:
            shares = await self.shares()
            return (
                shares if {owner: len(each) for owner, each in shares.items()} == {d.id: want for d in desks} else None
            )

        shares = await until(fair, f"{want} shards for each of {len(desks)}", within)
        assert sorted(shard for each in shares.values() for shard in each) == list(ALL)
        return shares

    async def end_lease(self, desk: Desk) -> None:
        """The worker's and its shards' leases end, by the database's clock."""
        await fetch(self.world.dsn, "update worker set lease_until = '-infinity' where id = $1", desk.id)
        await self.end_shard_leases(desk)

    async def end_shard_leases(self, desk: Desk) -> None:
        await fetch(
            self.world.dsn, "update relay_shard set lease_until = clock_timestamp() - interval '1 ms' where owner = $1",
            desk.id,
        )  # fmt: skip

    async def told(self) -> dict[str, list[dict[str, Any]]]:
        """Reference of a reminder → its status events in log order; all of one reminder are on one partition."""
        found: dict[str, list[dict[str, Any]]] = {}
        where: dict[str, set[int]] = {}
        for record in await self.world.records(self.world.topics.events):
            event = json.loads(record.value)
            assert record.key.decode() == event["subject"]
            found.setdefault(event["subject"], []).append(event)
            where.setdefault(event["subject"], set()).add(record.partition)
        assert {subject: len(each) for subject, each in where.items() if len(each) != 1} == {}
        return found

    async def assert_told(self, reminders: Iterable[int], n: int) -> dict[str, list[dict[str, Any]]]:
        """Each reminder's events are there, the first of each seq in order 1..n, and a repeat has the same id."""
        told = await self.told()
        for reminder in reminders:
            events = told[to_reference(reminder)]
            seqs = [each["data"]["seq"] for each in events]
            assert list(dict.fromkeys(seqs)) == list(range(1, n + 1)), seqs
            for each in events:
                assert each["id"] == f"{to_reference(reminder)}.{each['data']['seq']}"
        return told


@pytest.fixture
async def office(database: str, kafka: Any, topics: Topics, tmp_path: Path) -> AsyncIterator[Office]:
    nobody: Any = None  # no provider is asked for anything
    names = {EVENTS_TOPIC: topics.events, DEADLETTERS_TOPIC: topics.deadletters}
    async with contextlib.AsyncExitStack() as stack:
        yield Office(World(database, kafka.bootstrap, topics, nobody, tmp_path), names, stack)


async def test_two_relays_share_the_shards_and_every_event_arrives_in_order(office: Office) -> None:
    """More than one batch is waiting when they begin, and more comes while they are at work."""
    first, second = await office.desk(), await office.desk()
    reminders = office.reminders([*range(256), *range(256)])
    await office.say(reminders, 1, 2, 3)
    letters = office.reminders(range(0, 256, 16))
    await office.bury(letters)
    await first.relay.start()
    await second.relay.start()
    for seq in (4, 5):
        await office.say(reminders, seq)
    said, identifier = reminders[7], office.ids.next(bucket_of(reminders[7]))
    await office.answer(said, identifier)
    await office.sent()

    shares = await office.owned(first, second)
    for desk in (first, second):
        assert desk.post.buckets == {shard * 16 + each for shard in shares[desk.id] for each in range(16)}
    told = await office.told()
    (answer,) = [each for each in told[to_reference(said)] if "seq" not in each["data"]]
    assert answer["id"] == f"{to_reference(said)}.{to_reference(identifier)}"
    told[to_reference(said)].remove(answer)
    assert {subject: [each["data"]["seq"] for each in events] for subject, events in told.items()} == {
        to_reference(each): [1, 2, 3, 4, 5] for each in reminders
    }
    buried = await office.world.read(office.world.topics.deadletters)
    assert sorted(each["id"] for each in buried) == sorted(map(to_reference, letters))


@pytest.mark.parametrize("how", ["killed", "asleep"])
async def test_a_hand_over_without_a_release_keeps_each_reminders_order(office: Office, how: str) -> None:
    """The first one fetched its events and got no further; when it wakes up it says again what the second has said."""
    first, second = await office.desk(lease_seconds=60, publish_seconds=50), await office.desk()
    reminders = office.reminders(range(256))
    first.post.entry.clear()
    await first.relay.start()
    await second.relay.start()
    shares = await office.owned(first, second)
    stuck = [each for each in reminders if bucket_of(each) // 16 in shares[first.id]]
    await office.say(reminders, 1, 2)

    async def only_the_firsts() -> bool:
        return bool(first.post.taken) and await office.outbox() == [(each, seq) for each in stuck for seq in (1, 2)]

    await until(only_the_firsts, "first relay stuck with its share")
    await (first.die() if how == "killed" else first.faint())
    await office.say(reminders, 3)
    await office.end_lease(first)
    await office.sent()
    assert await office.owned(second) == {second.id: list(ALL)}
    if how == "asleep":
        await office.say(reminders, 4)
        first.post.entry.set()

        async def awake() -> bool:
            return len(first.post.acknowledged) >= len(first.post.taken) > 0

        await until(awake, "late publication")
        await office.say(reminders, 5)
        await office.sent()
    told = await office.assert_told(reminders, 3 if how == "killed" else 5)
    times = Counter(each["id"] for events in told.values() for each in events)
    repeated = {identifier for identifier, n in times.items() if n > 1}
    if how == "killed":
        assert repeated == set()
    else:
        assert repeated >= {f"{to_reference(each)}.{seq}" for each in stuck for seq in (1, 2)}


async def test_who_does_not_publish_has_no_share(office: Office) -> None:
    for _ in range(3):
        await office.desk(relays=False)
    first, second = await office.desk(), await office.desk()
    await first.relay.start()
    await second.relay.start()
    await office.owned(first, second)
    reminders = office.reminders(range(256))
    await office.say(reminders, 1, 2)
    await office.sent()
    await office.assert_told(reminders, 2)
    # One that leaves in an orderly way lets its share go at once.
    await second.relay.stop(5)
    assert second.id not in await office.shares()
    await second.worker.stop()
    await office.owned(first)


async def test_a_worker_whose_heart_missed_its_beats_does_not_count(office: Office) -> None:
    """Its lease still stands, so nobody would rescue its claims yet; its part of the publishing does not wait."""
    first, second = await office.desk(), await office.desk()
    await first.relay.start()
    await second.relay.start()
    await office.owned(first, second)
    await second.die()
    nearly = ALIVE_FOR - dt.timedelta(seconds=1)
    await fetch(
        office.world.dsn, "update worker set lease_until = clock_timestamp() + $2 where id = $1", second.id, nearly
    )
    await office.end_shard_leases(second)
    reminders = office.reminders(range(256))
    await office.say(reminders, 1)
    await office.owned(first)
    await office.sent()
    await office.assert_told(reminders, 1)
    (alive,) = await fetch(
        office.world.dsn, "select lease_until > clock_timestamp() from worker where id = $1", second.id
    )
    assert alive[0]

    # One beat, and it counts again.
    await second.worker._renew()
    await second.relay.start()
    await office.owned(first, second)


async def test_a_topic_that_does_not_exist_keeps_no_other_waiting(office: Office) -> None:
    """More dead letters than one batch holds lie before a bucket's events, and more come between them."""
    office.topics[DEADLETTERS_TOPIC] = missing = f"{office.world.topics.deadletters}-missing"
    desk = await office.desk()
    letters = office.reminders([9] * 600)
    reminders = office.reminders([*range(0, 256, 8), *[9] * 20])
    letters += office.reminders(range(256))
    await office.bury(letters)
    await office.say(reminders, 1, 2)
    await desk.relay.start()
    await office.sent(EVENTS_TOPIC, within=60)
    await office.say(reminders, 3)
    await office.sent(EVENTS_TOPIC, within=60)
    await office.assert_told(reminders, 3)
    assert desk.post.failures > 0
    assert sorted(each for each, _ in await office.outbox(DEADLETTERS_TOPIC)) == sorted(letters)

    await create_topics(office.world.bootstrap, {missing: 1})
    await office.sent(within=60)
    assert {each["id"] for each in await office.world.read(missing)} == set(map(to_reference, letters))
    # A reminder's events were published once: the failures of the one topic repeat nothing of the other.
    told = await office.told()
    assert {len(events) for events in told.values()} == {3}


async def test_a_crash_after_the_acknowledgement_repeats_under_the_same_id(office: Office) -> None:
    first, second = await office.desk(), await office.desk()
    reminders = office.reminders(range(0, 256, 16))
    await office.say(reminders, 1, 2)
    first.post.way_out.clear()
    await first.relay.start()

    async def acknowledged() -> bool:
        return len(first.post.acknowledged) == len(first.post.taken) > 0

    await until(acknowledged, "acknowledgement")
    twice = {each.key.decode() for each in first.post.acknowledged}
    await first.die()
    assert await office.outbox() == [(each, seq) for each in reminders for seq in (1, 2)]
    before = await office.told()

    await office.end_lease(first)
    await second.relay.start()
    await office.sent()
    told = await office.assert_told(reminders, 2)
    assert twice == set(before) != set()
    for reminder in reminders:
        events = told[to_reference(reminder)]
        again = to_reference(reminder) in twice
        assert [each["data"]["seq"] for each in events] == ([1, 2, 1, 2] if again else [1, 2])
        if again:
            for one, other in zip(events[:2], events[2:], strict=True):
                assert {**one, "time": ""} == {**other, "time": ""}


async def test_only_what_was_published_is_deleted(office: Office) -> None:
    """What joins the outbox while a batch is on its way stays there, before and behind the batch and in its midst."""
    desk = await office.desk(lease_seconds=60, publish_seconds=50)
    older, reminder, newer = office.reminders([7, 7, 7])
    await office.say([reminder], 1, 2)
    desk.post.way_out.clear()
    await desk.relay.start()

    async def acknowledged() -> bool:
        return len(desk.post.acknowledged) == 2

    await until(acknowledged, "first batch")
    await office.say([older, newer], 1)
    await office.say([reminder], 3)
    answer = office.ids.next(7)
    await office.answer(reminder, answer)
    desk.post.entry.clear()
    desk.post.way_out.set()

    async def second_batch() -> bool:
        return len(desk.post.taken) > 2

    await until(second_batch, "second batch")
    assert await office.outbox() == [(older, 1), (reminder, 0), (reminder, 3), (newer, 1)]
    assert [each["id"] for each in (await office.told())[to_reference(reminder)]] == [
        f"{to_reference(reminder)}.{seq}" for seq in (1, 2)
    ]
    desk.post.entry.set()
    await office.sent()
    told = await office.told()
    assert [each["data"].get("seq") for each in told[to_reference(reminder)]] == [1, 2, None, 3]
    assert all(len(told[to_reference(each)]) == 1 for each in (older, newer))


async def test_what_kafka_does_not_acknowledge_stays(office: Office, kafka: Any) -> None:
    desk = await office.desk(publish_seconds=1)
    reminders = office.reminders(range(0, 256, 8))
    await desk.relay.start()
    await office.owned(desk)
    kafka.pause()
    try:
        await office.say(reminders, 1, 2)

        async def failed_twice() -> bool:
            return desk.post.failures >= 2

        await until(failed_twice, "two failures", 60)
        assert await office.outbox() == [(each, seq) for each in reminders for seq in (1, 2)]
    finally:
        kafka.resume()
    await office.sent(within=60)
    await office.assert_told(reminders, 2)
