"""One service in three processes, each with a part of it: what they hand each other goes through the ledger alone."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.metrics import NAMESPACE
from tests.stack.gateway import GatewayProcess, World, cancelled, requested
from tests.stack.load import CHANNELS, another, events_in
from tests.stack.scene import QUICK, Scene, empty_world, until

ROLES = {"front": ["relay", "callbacks"], "reader": ["intake"], "sender": ["dispatch"]}
NUMBERS = range(12)


@pytest.fixture
async def here(postgres: Any, kafka: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with empty_world(postgres, kafka, tmp_path) as world:
        yield world


@pytest.fixture
async def processes(here: World, tmp_path: Path) -> AsyncIterator[Mapping[str, GatewayProcess]]:
    """Ready, by name.  The simulator's receipts and the address the sender gives to providers are the front's."""
    front = here.gateway({**QUICK, "roles": ROLES["front"]}, "front")
    others = {name: another(front, tmp_path, name, roles=ROLES[name]) for name in ("reader", "sender")}
    every = {"front": front, **others}
    try:
        for each in every.values():
            each.spawn()
        for each in every.values():
            await each.ready(60)
        yield every
    finally:
        for each in every.values():
            await each.child.kill()


async def counted(process: GatewayProcess, name: str) -> float:
    """The sum of a counter over all its labels."""
    families = text_string_to_metric_families(await process.metrics())
    samples = [each for family in families for each in family.samples]
    return sum(each.value for each in samples if each.name == f"{NAMESPACE}_{name}_total")


async def listens(process: GatewayProcess) -> bool:
    """Whether anybody answers on its public port."""
    url = f"http://127.0.0.1:{process.settings.tree['http']['public_port']}/"
    try:
        async with aiohttp.ClientSession() as session, session.get(url):
            return True
    except aiohttp.ClientConnectorError:
        return False


async def test_split_roles_deliver_end_to_end(here: World, processes: Mapping[str, GatewayProcess]) -> None:
    scene = Scene(here, processes["front"])
    await here.publish([requested(number, [CHANNELS[number % 3]]) for number in NUMBERS])
    await here.publish([cancelled(99, {"kind": "borrower"}), b"{cut off"], [b"borrower-99", b"nobody"])
    for number in NUMBERS:
        assert await scene.ended(number, 60) == ("delivered", None)  # which only receipts and app events say
        told = [(each["seq"], each["state"]) for each in await scene.told(number, 3)]
        assert told == [(1, "scheduled"), (2, "awaiting"), (3, "delivered")]
    assert [len(scene.sent(number)) for number in NUMBERS] == [1] * len(NUMBERS)

    async def letter() -> list[dict[str, Any]]:
        return await scene.deadletters()

    assert len(await until(letter, "dead letter")) == 1
    await scene.relayed()

    # Each did its own part and no other.
    counts = {
        counter: {name: await counted(process, counter) for name, process in processes.items()}
        for counter in ("records_read", "attempts", "receipts", "events_published")
    }
    read = len(NUMBERS) + 2
    assert counts["records_read"] == {"front": 0, "reader": read, "sender": 0}
    assert counts["attempts"]["reader"] == 0 < counts["attempts"]["sender"]
    assert counts["receipts"]["reader"] == counts["receipts"]["sender"] == 0 < counts["receipts"]["front"]
    told = [record for topic in (here.topics.events, here.topics.deadletters) for record in await here.read(topic)]
    assert counts["events_published"] == {"front": len(told), "reader": 0, "sender": 0}
    owners = await scene.sql(
        "select w.relays, count(s.shard) from worker w left join relay_shard s on s.owner = w.id"
        " group by w.id, w.relays order by w.relays, w.id"
    )
    assert [tuple(each) for each in owners] == [(False, 0), (False, 0), (True, 16)]


async def test_only_the_front_has_a_public_listener(processes: Mapping[str, GatewayProcess]) -> None:
    assert {name: await listens(each) for name, each in processes.items()} == {
        "front": True, "reader": False, "sender": False,
    }  # fmt: skip
    for name, each in processes.items():
        (ready,) = [line for line in events_in(each) if line["event"] == "ready"]
        port = each.settings.tree["http"]["public_port"] if name == "front" else None
        assert ready.get("public_port") == port


async def test_each_role_stops_by_itself(here: World, processes: Mapping[str, GatewayProcess]) -> None:
    """In the worst order: who publishes leaves first.  What was to be told waits for the next one."""
    scene = Scene(here, processes["front"])
    await here.publish([requested(1)])
    assert await scene.ended(1, 60) == ("delivered", None)
    await scene.relayed()
    assert await processes["front"].child.stop(within=25) == 0
    await here.publish([requested(2)])
    await scene.reached(2, "awaiting", 60)
    assert await scene.value("select count(*) from outbox") > 0
    assert await scene.events(2) == []
    for name in ("reader", "sender"):
        assert await processes[name].child.stop(within=25) == 0
    assert {name: events_in(each)[-1]["late"] for name, each in processes.items()} == {each: [] for each in processes}
    assert await scene.sql("select 1 from worker") == []

    processes["front"].spawn()
    await processes["front"].ready(60)
    assert [each["state"] for each in await scene.told(2, 2)][:2] == ["scheduled", "awaiting"]
