"""Bad input: one dead letter each with its own reason, the bytes sealed, the neighbours unaffected."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from gateway.dev.topics import administrator
from gateway.ids import from_reference
from gateway.intake.letters import unseal
from gateway.ledger.sums import conservation
from gateway.sealing import Sealer
from tests.stack.gateway import cancelled, requested
from tests.stack.scene import Scene, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FREEZE_AT = 60
OVERRIDES = {"intake": {"freeze_min_records": FREEZE_AT, "freeze_share": 0.7}}
CANARY = "Zhang Canary"
Headers = Sequence[tuple[str, bytes]]


def changed(**changes: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: json.dumps(event | changes).encode()


def data(**changes: Any) -> Callable[[dict[str, Any]], bytes]:
    def make(event: dict[str, Any]) -> bytes:
        for path, value in changes.items():
            *parents, last = path.split("__")
            inner = event["data"]
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
        return json.dumps(event).encode()

    return make


def without(name: str) -> Callable[[dict[str, Any]], bytes]:
    def make(event: dict[str, Any]) -> bytes:
        del event["data"][name]
        return json.dumps(event).encode()

    return make


def text(change: Callable[[bytes], bytes]) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: change(json.dumps(event).encode())


def contact(channel: str, address: str) -> Callable[[dict[str, Any]], bytes]:
    return data(contacts=[{"channel": channel, "address": address}])


BAD: list[tuple[str, Callable[[dict[str, Any]], bytes | None]]] = [
    ("null_value", lambda event: None),
    ("not_json", text(lambda raw: raw[:-1])),
    ("invalid_utf8", text(lambda raw: raw.replace(b"loan-core", b"loan-\xff"))),
    ("nul_character", data(borrower__name=CANARY + "\0")),
    ("duplicate_key", text(lambda raw: raw.replace(b'"stage":', b'"stage": "d7", "stage":'))),
    ("too_deep", text(lambda raw: raw.replace(b'"stage":', b'"deep": ' + b"[" * 31 + b"]" * 31 + b', "stage":'))),
    ("too_large", data(params={"pay_url": "x" * 262_144})),
    ("not_a_cloudevent", changed(specversion="0.3")),
    ("unknown_type", changed(type="invoice.sent.v1")),
    ("unknown_version", changed(type="reminder.requested.v2")),
    ("missing_field", without("not_after")),
    ("wrong_field", data(priority="whenever")),
    ("wrong_field", data(colour="red")),
    ("unknown_lender", data(lender="nobody")),
    ("unknown_stage", data(stage="d5")),
    ("unknown_channel", contact("fax", "+8613900000001")),
    ("unknown_currency", data(debt__currency="XXX")),
    ("unknown_zone", data(borrower__timezone="Mars/Olympus")),
    ("unknown_locale", data(borrower__locale="no such locale")),
    ("unknown_template", data(template="surprise")),
    ("bad_params", data(params={"pay_url": "https://pay.example.com/a", "reference": "R-1", "colour": "red"})),
    ("bad_amount", data(debt__amount="0.00")),
    ("bad_amount", data(debt__amount="-5.00")),
    ("bad_amount", data(debt__amount="1,234.50")),
    ("bad_amount", data(debt__amount="-1")),
    ("bad_date", data(debt__due_date="2026-02-30")),
    ("bad_date", data(not_after="9999-12-31T23:59:59Z")),
    ("bad_date", data(debt__due_date="9999-12-31")),
    ("bad_phone", contact("sms", "+861390000")),
    ("bad_phone", contact("sms", "13900000001")),
    ("bad_phone", contact("sms", "+86 138 0000 ????")),
    ("bad_address", contact("push", "a token with blanks")),
    ("bad_reference", data(borrower__ref="13800138000")),
    ("bad_reference", data(debt__ref="11010519491231002X")),
    ("past_not_after", data(not_after="2026-01-01T00:00:00Z")),
]


def sealer_of(scene: Scene) -> Sealer:
    environ = scene.gateway.settings.environ
    key, index = (base64.b64decode(environ[name]) for name in ("GATEWAY_SEAL_KEY_1", "GATEWAY_INDEX_KEY"))
    return Sealer({1: key}, 1, index)


async def put(scene: Scene, values: Sequence[bytes | None], headers: Headers = ()) -> list[tuple[int, int]]:
    """Publishes without keys, in one partition so that they are neighbours; (partition, offset) of each."""
    producer = AIOKafkaProducer(bootstrap_servers=scene.world.bootstrap, acks="all", max_request_size=2**20)
    await producer.start()
    try:
        topic = scene.world.topics.requests
        sending = [await producer.send(topic, value, None if value else b"k", 0, headers=headers) for value in values]
        return [(done.partition, done.offset) for done in [await each for each in sending]]
    finally:
        await producer.stop()


async def letter_at(scene: Scene, place: tuple[int, int], within: float = 20) -> Mapping[str, Any]:
    """The dead letter of the record at (partition, offset), its bytes opened."""

    async def there() -> list[Any]:
        return await scene.sql('select * from deadletter where partition = $1 and "offset" = $2', *place)

    (row,) = await until(there, f"dead letter of {place}", within)
    return {**row, "bytes": unseal(row["sealed"], row["id"], sealer_of(scene)).value}


async def test_every_bad_input(scene: Scene) -> None:
    values: list[bytes | None] = []
    for number, (_, make) in enumerate(BAD):
        values.append(make(requested(1000 + number, borrower={"name": CANARY})))
        values.append(json.dumps(requested(number)).encode())
    # A known key with another payload.
    values.append(json.dumps(requested(0, borrower={"name": CANARY})).encode())
    expected = [reason for reason, _ in BAD] + ["conflict"]
    places = await put(scene, values)
    for place, value, reason in zip(places[::2], values[::2], expected, strict=True):
        letter = await letter_at(scene, place)
        assert letter["reason"] == reason
        assert letter["bytes"] == value, reason
    for number in range(len(BAD)):
        assert await scene.ended(number) == ("delivered", None)
        assert scene.sent(number) == ["twilio"]
        assert await scene.state(1000 + number) is None
    await scene.relayed()
    told = {(each["partition"], each["offset"]): each for each in await scene.deadletters()}
    assert [told[place]["reason"] for place in places[::2]] == expected
    assert len(told) == await scene.value("select count(*) from deadletter")
    for each in told.values():
        assert set(each) <= {"reason", "topic", "partition", "offset", "pointer", "at", "field"}
        assert from_reference(each["pointer"]) is not None
    for record in await scene.world.records(scene.world.topics.deadletters):
        assert CANARY.encode() not in record.value
        assert b"13900001" not in record.value


async def test_a_record_of_five_mebibytes(scene: Scene) -> None:
    """Where the topic takes such: one dead letter, its bytes kept, and its neighbours in the partition go on."""
    topic = scene.world.topics.requests
    most = 6 * 2**20
    async with administrator(scene.world.bootstrap) as admin:
        answers = await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(most)})]
        )
        assert [each.resources[0][0] for each in answers] == [0]
    huge = json.dumps(requested(400, params={"pay_url": "x" * (5 * 2**20)})).encode()
    producer = AIOKafkaProducer(bootstrap_servers=scene.world.bootstrap, acks="all", max_request_size=most)
    await producer.start()
    try:

        async def sent() -> Any:
            try:
                return await producer.send_and_wait(topic, huge, partition=0)
            except MessageSizeTooLargeError:
                return None  # the broker has not heard of the topic's new limit yet

        before = await producer.send_and_wait(topic, json.dumps(requested(401)).encode(), partition=0)
        done = await until(sent, "acknowledgement")
        await producer.send_and_wait(topic, json.dumps(requested(402)).encode(), partition=0)
    finally:
        await producer.stop()
    assert done.offset == before.offset + 1
    letter = await letter_at(scene, (0, done.offset), 60)
    assert (letter["reason"], letter["bytes"]) == ("too_large", huge)
    for number in (401, 402):
        assert await scene.ended(number, 60) == ("delivered", None)


async def test_binary_mode_is_judged_the_same(scene: Scene) -> None:
    good, bad = requested(100), requested(101, stage="d5")
    for event, n in ((good, 0), (bad, 1)):
        attributes = {name: value for name, value in event.items() if name != "data"}
        headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
        headers.append(("content-type", b"application/json"))
        value = json.dumps(event["data"]).encode()
        (place,) = await put(scene, [value], headers)
        if n:
            letter = await letter_at(scene, place)
            assert (letter["reason"], letter["bytes"]) == ("unknown_stage", value)
    assert await scene.ended(100) == ("delivered", None)


async def test_the_ledger_refuses_one_record_of_many(scene: Scene) -> None:
    """A constraint of our own names the culprits; the batch is bisected and their neighbours are written."""
    await scene.sql("alter table reminder add constraint refuses_for_a_test check (debt <> 'debt-205') not valid")
    await scene.sql("alter table tombstone add constraint stops_for_a_test check (value <> 'debt-207') not valid")
    numbers = [each for each in range(200, 215) if each != 205]
    values: list[bytes | None] = [json.dumps(requested(number)).encode() for number in range(200, 215)]
    stop = json.dumps(cancelled(220, {"kind": "debt", "ref": "debt-207"})).encode()
    try:
        places = await put(scene, [*values, stop])
        for number in numbers:
            assert await scene.ended(number) == ("delivered", None)
        refused = await letter_at(scene, places[5])
        assert (refused["reason"], refused["bytes"]) == ("refused_by_ledger", values[5])
        unreadable = await letter_at(scene, places[-1])
        assert (unreadable["reason"], unreadable["bytes"]) == ("unreadable_stop", stop)
        assert await scene.value("select unreadable_stop_at is not null from subject where borrower = 'borrower-220'")
        assert await scene.value("select count(*) from subject where unreadable_stop_at is not null") == 1
    finally:
        await scene.sql("alter table reminder drop constraint refuses_for_a_test")
        await scene.sql("alter table tombstone drop constraint stops_for_a_test")


async def test_a_source_that_sends_mostly_nonsense_is_frozen(scene: Scene) -> None:
    def noisy(number: int, **changes: Any) -> bytes:
        return json.dumps(requested(number, **changes) | {"source": "noisy"}).encode()

    await put(scene, [noisy(2000 + n, stage="d5") for n in range(FREEZE_AT + 5)])

    async def frozen() -> list[Any]:
        return await scene.sql("""select 1 from "freeze" where kind = 'source' and value = 'noisy'""")

    await until(frozen, "freeze of the source")
    places = await put(scene, [noisy(300), noisy(2100, stage="d5"), json.dumps(requested(301)).encode()])
    assert await scene.ended(301) == ("delivered", None)
    assert (await letter_at(scene, places[1]))["reason"] == "unknown_stage"

    async def held() -> list[Any]:
        return await scene.sql(
            "select l.reason, l.state from live l join reminder r on r.id = l.id where r.source = 'noisy'"
        )

    assert [tuple(row) for row in await until(held, "held reminder")] == [("frozen", "held")]
    assert scene.sent(300) == []
    assert await scene.value('select count(*) from "freeze"') == 1

    async def shown() -> bool:
        return await scene.metric("frozen_slices", kind="source") == 1

    await until(shown, "frozen slice in the metrics")


async def test_everything_read_is_accounted_for(scene: Scene) -> None:
    await scene.caught_up()
    connection = await asyncpg.connect(scene.world.dsn)
    try:
        sums = await conservation(connection)
    finally:
        await connection.close()
    assert sums.gaps == []
    assert sums.read == sum((await scene.world.ends(scene.world.topics.requests)).values())
