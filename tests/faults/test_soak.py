"""The soak in short: it does what it says, counts what it did, and can say no."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from gateway.dev.topics import administrator
from tests.faults.evidence import id_of, lines, parsed
from tests.faults.load import NAME
from tests.faults.soak.play import Orders, play
from tests.faults.soak.report import verdict
from tests.faults.soak.stage import Stage, staged
from tests.faults.topics import everything

# Those that take no seconds of waiting, each once.
CHEAP = (
    "kill", "stutter", "link", "cut", "lost_commits", "providers_gone", "providers_misbehave", "strangers", "freeze",
)  # fmt: skip
BURST = 25


@pytest.mark.real_kafka
@pytest.mark.timeout(420)
async def test_a_short_soak_counts_what_it_did_and_finds_what_is_planted(tmp_path: Path, summary: Any) -> None:
    orders = Orders(minutes=0, seed=5, burst=BURST, pause=0.2, drain=0, only=CHEAP, each_once=True)
    async with staged(tmp_path, orders.seed) as stage:
        found = await play(stage, orders)
        summary("a short soak", {name: found[name] for name in ("faults", "requests", "checks", "healed_seconds")})
        assert (found["violations"], found["beyond_bounds"], verdict(found)) == ([], [], 0)
        assert sum(found["faults"].values()) == len(CHEAP)
        assert found["kills"] == 1
        assert found["requests"] >= BURST * len(CHEAP)
        assert found["counts"]["reminders"] == await _count(stage, "reminder")
        assert sum(found["ended"].values()) == found["counts"]["reminders"]
        assert found["checkpoints"] == len(found["healed_seconds"]) == 1
        assert {name for name, n in found["checks"].items() if n} == {"I1", "I2", "I3", "I4", "I7", "I8", "I9"}
        assert found["answers_to_strangers"].keys() - {"stranger cut off"}
        assert not found["answers_to_strangers"].get("stranger 500")
        assert found["survivor"]["most"]["rss_mib"] > 20
        assert found["tables"]["queues_kib"].keys() >= {"live", "due", "outbox"}

        # Everything that it should find, a death, and what does not end, for which it does not wait without an end.
        planted = await _plant(stage)
        await _by_force(stage, "insert into parked values (now() + interval '1 day', 1)")
        await stage.survivor.child.kill()
        found = await play(stage, Orders(minutes=0, seed=5, drain=0, ends_within=2))
        assert verdict(found) == 1
        told = "\n".join(found["violations"])
        assert not [what for what, says in planted.items() if says not in told], told
        assert "I8 the survivor ended with -9" in told
        assert "I8 not everything has ended 2 s after" in told
        assert "'parked': 1" in told


async def _count(stage: Stage, table: str) -> int:
    return int(await stage.here.value(f"select count(*) from {table}"))


async def _plant(stage: Stage) -> dict[str, str]:
    """Breaks what a gateway never would, behind the back of every rule; what is to be said of each."""
    world = stage.here.world
    taken = [each for each in lines(world.simulator.config.log) if each["kind"] == "accepted"]
    delivered = {row["id"] for row in await stage.here.fetch("select id from attempt where state = 'delivered'")}
    forgotten, twice = [each for each in taken if id_of(str(each["reference"])) in delivered][:2]
    await _by_force(stage, f"delete from attempt where id = {id_of(forgotten['reference'])}")
    with world.simulator.config.log.open("a") as log:
        log.write(json.dumps({**twice, "id": "planted"}) + "\n")
    [request] = await stage.here.fetch(
        "select r.id from reminder r join ending e on e.reminder = r.id where e.state = 'cancelled'"
        " and not exists (select from attempt a where a.reminder = r.id) limit 1"
    )
    await _by_force(stage, f"delete from reminder where id = {request['id']}")
    events = await everything(world.bootstrap, world.topics.events)
    gone = next(each for each in events.records if each.offset == 0 and parsed(each.value)["data"].get("seq") == 1)
    async with administrator(world.bootstrap) as admin:
        place = TopicPartition(world.topics.events, gone.partition)
        await admin.delete_records({place: RecordsToDelete(before_offset=1)})
    said = {
        stage.survivor: "+8613900000101", stage.victim: NAME, stage.guest: stage.vault.files["callback"].split()[0]
    }  # fmt: skip
    for process, word in said.items():
        with process.log.open("a") as log:
            log.write(json.dumps({"level": "info", "event": f"to {word}"}) + "\n")
    with stage.survivor.log.open("a") as log:
        log.write("Task was destroyed but it is pending!\n")
    return {
        "a send without an intent": f"I3 message {forgotten['reference']} left without an intent",
        "a doubled send": f"I3 attempt {twice['reference']} left 2 times",
        "a request with no row": f"I1 reminder {request['id']} has an end and no row",
        "a lost event": f"I4 events of {id_of(parsed(gone.value)['data']['reminder'])}: ",
        "a number in a log": "I7 survivor.log has b'+8613900000101'",
        "a name in a log": f"I7 {stage.victim.log.name} has {NAME}",
        "a secret in a log": "I7 guest.log has a secret",
        "a line that nobody meant to write": "I8 survivor.log has a line that is no event: b'Task was",
    }


async def _by_force(stage: Stage, sql: str) -> None:
    connection = await asyncpg.connect(stage.here.world.dsn)
    try:
        await connection.execute("set session_replication_role = replica")
        await connection.execute(sql)
    finally:
        await connection.close()
