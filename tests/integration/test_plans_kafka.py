"""What a lender's core tells on its own topic, by a running gateway: planned, sent, stopped, and nothing twice."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from tests.stack.gateway import address, requested
from tests.stack.scene import Scene, empty_world, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TODAY = dt.datetime.now(dt.UTC)
# Where it is noon now, so that what is due may be sent: the hours of the cadence are nine to eight.
ZONE = f"Etc/GMT{TODAY.hour - 12:+d}" if TODAY.hour != 12 else "Etc/GMT"
DAY = dt.timedelta(days=1)


class Core:
    """A lender's core: it tells facts, in their order, keyed by borrower."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._told = 0

    async def tell(self, *facts: tuple[str, dict[str, Any]] | bytes, key: bytes | None = None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        await producer.start()
        try:
            for each in facts:
                if isinstance(each, bytes):
                    await producer.send(self._topic, each, key=key)
                    continue
                kind, data = each
                self._told += 1
                event = {
                    "specversion": "1.0", "id": f"fact-{self._told}", "source": "/core", "type": kind, "data": data,
                }  # fmt: skip
                borrower = data["borrower"]["ref"] if "borrower" in data else data["borrower_ref"]
                await producer.send(self._topic, json.dumps(event).encode(), key=borrower.encode())
            await producer.flush()
        finally:
            await producer.stop()


def moment(back: float = 60) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=back)).isoformat(timespec="milliseconds")


def there() -> dt.date:
    """Today where it is noon."""
    return (TODAY + dt.timedelta(hours=12 - TODAY.hour)).date()


def planned(number: int, due: dt.date, back: float = 60, **changes: Any) -> tuple[str, dict[str, Any]]:
    return "repayment.planned.v1", {
        "lender": "acme",
        "borrower": {"ref": f"borrower-{number}", "locale": "en", "timezone": ZONE, "jurisdiction": "US"},
        "contacts": [{"channel": "sms", "address": address("sms", number)}],
        "debt": f"debt-{number}", "currency": "USD", "as_of": moment(back),
        "instalments": [{"number": 1, "due_date": due.isoformat(), "amount": "100.00"}],
        "params": {"pay_url": f"https://pay.example.com/{number}"},
        **changes,
    }  # fmt: skip


def fact(kind: str, number: int, back: float = 30, **more: Any) -> tuple[str, dict[str, Any]]:
    return kind, {
        "lender": "acme", "borrower_ref": f"borrower-{number}", "debt": f"debt-{number}", "as_of": moment(back), **more,
    }  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Scene, Core]]:
    home: Path = tmp_path_factory.mktemp("plans")
    topic = f"repayments-{secrets.token_hex(4)}"
    async with empty_world(postgres, kafka, home) as world:
        await kafka.create_topics({topic: 4})
        gateway = world.gateway({"kafka": {"repayments_topic": topic}})
        gateway.spawn()
        await gateway.ready(60)
        try:
            yield Scene(world, gateway), Core(world.bootstrap, topic)
        finally:
            await gateway.child.kill()


async def standing(scene: Scene, number: int) -> dict[str, str]:
    rows = await scene.sql(
        "select r.stage, coalesce(l.state::text, e.state::text) as state, coalesce(l.reason, e.reason) as reason"
        " from reminder r left join live l on l.id = r.id left join ending e on e.reminder = r.id"
        " where r.debt = $1 order by r.id",
        f"debt-{number}",
    )
    return {row["stage"]: row["state"] if row["reason"] is None else f"{row['state']} {row['reason']}" for row in rows}


async def stands(scene: Scene, number: int, **expected: str) -> dict[str, str]:
    """Once it is so."""

    async def so() -> dict[str, str] | None:
        found = await standing(scene, number)
        return found if expected.items() <= found.items() else None

    return await until(so, f"{expected} of {number}", 30)


async def test_a_failed_debit_is_told_at_once_and_a_payment_ends_the_rest(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    await core.tell(planned(1, there()), fact("repayment.debit_failed.v1", 1, instalment=1))
    found = await stands(scene, 1, due="delivered")
    assert {name: state for name, state in found.items() if name != "due"} == {
        "overdue_early": "scheduled", "overdue_mid": "scheduled",
    }  # fmt: skip
    (sent,) = [each for each in scene.log() if each["recipient"] == address("sms", 1)]
    assert "100.00" in json.dumps(sent)
    await core.tell(fact("repayment.paid.v1", 1, 0, instalment=1))
    await stands(scene, 1, overdue_early="cancelled paid", overdue_mid="cancelled paid", due="delivered")


async def test_what_is_paid_before_it_leaves_does_not_leave(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    await core.tell(
        planned(2, there()),
        fact("repayment.paid.v1", 2, instalment=1),
        fact("repayment.debit_failed.v1", 2, 20, instalment=1),
    )
    await core.tell(planned(3, there() + 5 * DAY))
    await stands(scene, 3, d3="scheduled")
    assert await standing(scene, 2) == {}
    assert not [each for each in scene.log() if each["recipient"] == address("sms", 2)]


async def test_a_channel_that_is_unwanted_is_left_out_of_what_is_requested(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    await core.tell(
        *(("borrower.opted_out.v1", {"lender": "acme", "borrower_ref": f"borrower-{number}", "as_of": moment(30),
                                     "channel": "sms"}) for number in (60, 61))
    )  # fmt: skip
    await until(
        lambda: scene.value("select count(*) = 2 from tombstone where kind = 'channel_out'"), "what is unwanted", 30
    )
    await scene.world.publish([requested(60, ["sms", "push"]), requested(61)])
    assert await scene.ended(60) == ("delivered", None)
    assert scene.sent(60) == ["fcm"]
    assert await scene.ended(61) == ("suppressed", "opted_out")
    assert scene.sent(61) == []
    rules = await scene.sql("select rule from decision where verdict = 'skip'")
    assert [row[0] for row in rules] == ["channel_opted_out"] * 2


async def test_it_tells_what_it_plans_by_its_debt_and_stage(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    await core.tell(planned(4, there() + 20 * DAY))
    await stands(scene, 4, d7="scheduled")
    await scene.relayed()
    told = [each["data"] for each in await scene.world.read(scene.world.topics.events)]
    mine = [each for each in told if each.get("request_id", "").startswith("debt-4/")]
    assert {each["request_id"] for each in mine} >= {"debt-4/1/d7", "debt-4/1/d3", "debt-4/1/due"}
    assert {(each["state"], each["source"]) for each in mine} == {("scheduled", "/core")}


@pytest.mark.parametrize("kind", ["repayment.paid.v1", "debt.stopped.v1", "borrower.opted_out.v1"])
async def test_a_stop_that_cannot_be_read_holds_its_borrower(stage: tuple[Scene, Core], kind: str) -> None:
    scene, core = stage
    number = 10 + len(kind)
    await core.tell(planned(number, there() + 20 * DAY))
    await stands(scene, number, d7="scheduled")
    await core.tell((kind, {"lender": "acme", "borrower_ref": f"borrower-{number}", "as_of": "yesterday"}))
    await stands(scene, number, d7="held stop_unreadable")


async def test_bad_facts_are_dead_letters_and_hold_up_nobody(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    bad = [
        planned(50, there(), params={}),  # the words need a way to pay
        planned(51, there(), currency="XXX"),
        ("repayment.watermark.v1", {"lender": "acme", "borrower_ref": "borrower-53"}),
        planned(54, there(), -3600),
    ]
    before = await scene.deadletters()
    await core.tell(*bad, planned(55, there() + 20 * DAY))
    await stands(scene, 55, d7="scheduled")

    async def all_of_them() -> list[dict[str, Any]] | None:
        found = await scene.deadletters()
        return found if len(found) == len(before) + len(bad) else None

    letters = (await until(all_of_them, "dead letters"))[len(before) :]
    assert sorted((each["reason"], each["field"]) for each in letters) == [
        ("bad_date", "data.as_of"), ("bad_params", "data.params.pay_url"), ("unknown_currency", "data.currency"),
        ("unknown_version", "type"),
    ]  # fmt: skip


async def test_the_sums_add_up_with_what_was_planned(stage: tuple[Scene, Core]) -> None:
    scene, _ = stage
    await scene.world.publish([requested(900)])
    assert await scene.ended(900) == ("delivered", None)
    await scene.relayed()
    done = await scene.sql("select (select count(*) from reminder), (select sum(n) from planned_count)")
    requests = await scene.value("select count(*) from reminder where topic = $1", scene.world.topics.requests)
    assert done[0][0] == done[0][1] + requests
