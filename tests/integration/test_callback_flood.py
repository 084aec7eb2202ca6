"""Callbacks in masses: a thousand reports in one push, and replays at ten times the load while messages go out."""

import asyncio
import datetime as dt
import json
from collections import Counter
from statistics import quantiles
from typing import Any, Final

import aiohttp
import pytest

from gateway.ids import to_reference
from tests.integration.callbacks_by_hand import CONTACTS, Door, Memory, doors, order, said
from tests.stack.gateway import address
from tests.stack.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

OVERRIDES = {
    "providers": {name: {"receipt_window_hours": 1} for name in CONTACTS}
    | {"twilio_voice": {"receipt_window_hours": 1, "settings": {"ring_seconds": 120}}},
}
SILENT: Final = {name: number for number, name in enumerate(CONTACTS, 1)}
QUIET: Final = range(900, 960)
LOAD: Final = range(1000, 1120)
PER_SECOND: Final = 30
EACH: Final = 2.5  # receipts of one message, about
TIMES: Final = 10
# Nobody waits behind the flood: not so many times as long as without it, nor for so many seconds on a busy machine.
TIMES_LATER: Final = 5
LATER_SECONDS: Final = 2.0
GROWTH_MIB: Final = 60.0  # for the messages and the replays together


async def test_a_thousand_reports_in_one_push(scene: Scene) -> None:
    """Good ones, for others, unreadable ones; one push and one answer, and then it is there and applied."""
    mine = range(100, 120)
    scene.perform({"vendor": "aliyun_sms", "receipts": {"lost": True}})
    await scene.world.publish([order(number, "aliyun_sms") for number in mine])
    reports: list[Any] = []
    for number in mine:
        await scene.reached(number, "awaiting")
        (attempt,) = await scene.attempts(number)
        reports.append(report(number, to_reference(attempt["id"])))
    reports += [report(5000 + n, None) for n in range(900)]
    reports += [{"success": "perhaps"}, 7, None, [], "x"] * 16
    door = Door("aliyun_sms", *_plain(scene, "aliyun_sms"))
    assert len(reports) == 1000
    assert await said(scene, [door.whole(json.dumps(reports).encode())]) == [200]
    kept = await scene.sql("select kind, disposition, count(*) from receipt group by 1, 2")  # before any sweep
    assert sum(row[2] for row in kept) == 1000, kept
    for number in mine:
        assert await scene.ended(number) == ("delivered", None)
    kept = await scene.sql("select kind, disposition, count(*) from receipt group by 1, 2 order by 3")
    assert [tuple(row) for row in kept] == [
        ("receipt", "applied", 20), ("invalid", "invalid", 80), ("receipt", "unmatched", 900),
    ]  # fmt: skip
    assert await said(scene, [door.whole(json.dumps(reports).encode())]) == [200]
    assert await scene.value("select count(*) from receipt") == 1000


def report(number: int, attempt: str | None) -> dict[str, Any]:
    found = {
        "phone_number": address("sms", number).removeprefix("+86"), "success": True, "err_code": "DELIVERED",
        "biz_id": f"{number}^0",
    }  # fmt: skip
    return found if attempt is None else found | {"out_id": attempt}


def _plain(scene: Scene, provider: str) -> tuple[Any, str, bytes, Any]:
    token = scene.gateway.settings.environ["GATEWAY_CALLBACK_TOKEN"]
    return lambda body: f"/callbacks/{provider}/{token}", "application/json", b"", lambda body: {}


async def test_replays_at_ten_times_the_load_harm_nobody(scene: Scene, summary: Any) -> None:
    """Messages go out as soon as without them, replays are no-ops, and nobody hears 5xx while the ledger can store."""
    scene.perform(
        *({"recipient": f"*{number:08d}", "receipts": {"lost": True}} for number in SILENT.values()),
        {"vendor": "twilio_voice", "recipient": address("voice", SILENT["twilio_voice"]),
         "callee": {"rings": 3600, "scale": 1}},
    )  # fmt: skip
    await scene.world.publish([order(number, name) for name, number in SILENT.items()])
    for number in SILENT.values():
        await scene.reached(number, "awaiting")
    attempts = {name: (await scene.attempts(number))[0]["id"] for name, number in SILENT.items()}
    every = doors(scene, attempts, SILENT)
    for door in every:
        assert await said(scene, [door.whole()]) == [door.good], door.name
    for number in SILENT.values():
        assert await scene.ended(number) == ("delivered", None)
    await scene.relayed()
    before = await standing(scene)

    quiet = await poured(scene, QUIET)
    memory = Memory(scene.gateway)
    n = int(len(LOAD) * EACH * TIMES)
    began = asyncio.get_running_loop().time()
    flood = asyncio.create_task(flooded(scene, every, n, PER_SECOND * EACH * TIMES))
    loud = await poured(scene, LOAD)
    lasted = asyncio.get_running_loop().time() - began
    heard = await flood
    assert set(heard) <= {200, 204}, heard
    # That many came while the messages went out, not long after.
    assert asyncio.get_running_loop().time() - began < 2 * lasted
    for number in (*QUIET, *LOAD):
        assert await scene.ended(number, 60) == ("delivered", None)
    before_it, during = _p95(waits(scene, quiet)), _p95(waits(scene, loud))
    summary("p95 of a message's way to its provider", f"{before_it:.2f} s in quiet, {during:.2f} s under the flood")
    assert during < max(TIMES_LATER * before_it, LATER_SECONDS), (before_it, during)
    assert memory.grown_mib() < GROWTH_MIB
    assert await standing(scene) == before
    assert await scene.metric("callbacks_total", provider="twilio", outcome="replayed") > 0


async def poured(scene: Scene, numbers: range) -> dict[int, dt.datetime]:
    """Asks for these at a steady rate; when each was asked for."""
    names, asked = list(CONTACTS), {}
    for start in range(numbers.start, numbers.stop, 10):
        moment = asyncio.get_running_loop().time()
        ten = range(start, start + 10)
        await scene.world.publish([order(number, names[number % len(names)]) for number in ten])
        asked |= dict.fromkeys(ten, dt.datetime.now(dt.UTC))
        await asyncio.sleep(max(moment + 10 / PER_SECOND - asyncio.get_running_loop().time(), 0))
    return asked


def waits(scene: Scene, asked: dict[int, dt.datetime]) -> list[float]:
    """Seconds until the provider had each, by its clock and log, and once."""
    found = []
    for number, since in asked.items():
        (at,) = sent_at(scene, number)
        found.append((at - since).total_seconds())
    return found


def _p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1]


def sent_at(scene: Scene, number: int) -> list[dt.datetime]:
    """Known by the recipient: a vendor's own template repeats no marker."""
    mine = (f"{number:08d}", f"-{number:08d}-")
    lines = [each for each in scene.log() if each["recipient"].endswith(mine[0]) or mine[1] in each["recipient"]]
    return [dt.datetime.fromisoformat(each["at"]) for each in lines]


async def standing(scene: Scene) -> list[list[tuple[Any, ...]]]:
    """All that there is of the reminders whose callbacks are repeated."""
    mine = "select r.id from reminder r where r.request_id = any($1)"
    attempts = f"select id from attempt where reminder in ({mine})"
    names = [f"request-{number}" for number in SILENT.values()]
    queries = (
        f"select reminder, state::text, seq from ending where reminder in ({mine}) order by 1",
        f"select id, state::text, code from attempt where reminder in ({mine}) order by 1",
        f"select id, kind, disposition from receipt where attempt in ({attempts}) order by 1",
        f"select attempt, kind from engagement where attempt in ({attempts}) order by 1, 2",
    )
    return [[tuple(row) for row in await scene.sql(query, names)] for query in queries]


async def flooded(scene: Scene, every: list[Door], n: int, per_second: float) -> Counter[int]:
    """The answers to `n` copies of good callbacks, from as many callers as it takes."""
    heard: Counter[int] = Counter()
    base = scene.gateway.settings.tree["http"]["public_url"]
    began = asyncio.get_running_loop().time()

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        await asyncio.sleep(max(began + number / per_second - asyncio.get_running_loop().time(), 0))
        door = every[number % len(every)]
        headers = {"Content-Type": door.kind, **door.authentic(door.body)}
        url = aiohttp.client.URL(base + door.path(door.body), encoded=True)
        async with session.post(url, data=door.body, headers=headers) as response:
            heard[response.status] += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        await asyncio.gather(*[one(session, number) for number in range(n)])
    return heard
