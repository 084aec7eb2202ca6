"""Every route of callbacks, with its token and its vendor's signature, against bytes that nobody means well.

The gateway is the real process.  Whatever comes is answered with a refusal or a closed connection, or kept as what it
is; it moves nothing, the process does not grow, and its loop goes on.  At the end the same routes take what is good.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import pytest

from tests.integration.callbacks_by_hand import CONTACTS, Door, Memory, cpu_seconds, doors, line, order, said
from tests.integration.callbacks_unkind import REFUSED, bodies
from tests.stack.scene import Scene, until, value_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

OVERRIDES = {
    "http": {"read_timeout_seconds": 1, "max_connections": 600},
    "providers": {name: {"receipt_window_hours": 1} for name in CONTACTS}
    | {"twilio_voice": {"receipt_window_hours": 1, "settings": {"ring_seconds": 120}}},
}
NUMBERS: Final = {name: number for number, name in enumerate(CONTACTS, 1)}
CPU_SECONDS: Final = 1.5  # what one body within the limits may cost the loop
GROWTH_MIB: Final = 45.0  # for a moment; a bomb unpacked would be 50, a head of 1 MB of each of 300 would be 300


async def waiting(scene: Scene) -> list[Door]:
    """A message of every provider that waits for its receipt, and the ways in.  Made once."""
    if await scene.state(NUMBERS["twilio"]) is None:
        # Nobody takes the call for as long as this lasts: who has one with a dialogue reports by himself.
        scene.perform({"receipts": {"lost": True}}, {"vendor": "twilio_voice", "callee": {"rings": 3600, "scale": 1}})
        await scene.world.publish([order(number, name) for name, number in NUMBERS.items()])
        for number in NUMBERS.values():
            await scene.reached(number, "awaiting")
    attempts = {name: (await scene.attempts(number))[0]["id"] for name, number in NUMBERS.items()}
    return doors(scene, attempts, NUMBERS)


async def standing(scene: Scene) -> tuple[list[Any], list[Any]]:
    """Everything a callback could have moved, and what was kept of one."""
    moved = await scene.sql(
        "select id, state::text from attempt union all select id, state::text || seq from live order by 1"
    )
    return [tuple(row) for row in moved], [
        tuple(row) for row in await scene.sql("select kind, disposition from receipt")
    ]


async def test_what_is_no_proper_request_is_refused_at_every_door_and_nothing_behind_it_is_read(scene: Scene) -> None:
    every = await waiting(scene)
    for door in every:
        assert await said(scene, [b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n", door.whole()]) == [
            404
        ]
    before, memory = await standing(scene), Memory(scene.gateway)
    wrong, few = {}, asyncio.Semaphore(64)

    async def one(door: Door, name: str) -> None:
        async with few:
            heard = await said(scene, REFUSED[name](door))
        if len(heard) > 1 or not all(400 <= status < 500 for status in heard):
            wrong[door.name, name] = heard

    await asyncio.gather(*[one(door, name) for door in every for name in REFUSED])
    assert wrong == {}
    assert await standing(scene) == before
    assert memory.grown_mib() < GROWTH_MIB
    await alive(scene)


async def test_what_a_body_may_say_moves_nothing_and_stops_nobody(scene: Scene) -> None:
    every = await waiting(scene)
    (moved, _), memory = await standing(scene), Memory(scene.gateway)
    wrong: dict[tuple[str, str], list[float]] = {}
    for door in every:
        for name, body in bodies(door):
            spent = cpu_seconds(scene.gateway)
            heard = await said(scene, [door.whole(body)])
            # What is authentic and cannot be read is kept as that, so that its vendor does not send it for ever.
            if len(heard) != 1 or heard[0] >= 500:
                wrong[door.name, name] = heard
            # In its own time, since this machine may be busy with other things.
            if (spent := cpu_seconds(scene.gateway) - spent) > CPU_SECONDS:
                wrong[door.name, name] = [spent]
    assert wrong == {}
    assert (await standing(scene))[0] == moved
    # Odd words are words: a reply is one whatever it says, and silence is an answer to a question.
    applied = await scene.sql("select distinct kind from receipt where disposition = 'applied'")
    assert {row[0] for row in applied} <= {"inbound", "key"}
    assert memory.grown_mib() < GROWTH_MIB
    await alive(scene)


# --- who takes his time -----------------------------------------------------------------------------------------------


async def test_who_takes_his_time_is_not_waited_for_and_keeps_nobody_waiting(scene: Scene) -> None:
    """Three hundred connections say half a head, a head that drips, half a body, a body that drips, or nothing."""
    every = await waiting(scene)
    before, memory = await standing(scene), Memory(scene.gateway)
    big = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 8000) for n in range(120))

    def drip(start: bytes, piece: bytes) -> Iterator[bytes]:
        yield start
        for _ in range(60):
            yield piece

    def slow(n: int, door: Door) -> Iterator[bytes]:
        head = door.head(door.body, "Content-Length: 200000")
        match n % 5:
            case 0:
                yield head[:-4]
            case 1:
                yield from drip(head[:-2], b"X: y\r\n")
            case 2:
                yield head + b"x" * 150_000
            case 3:
                yield from drip(head, b"x")
            case 4:
                yield head[:-2] + big

    callers = [asyncio.create_task(said(scene, slow(n, every[n % len(every)]), 0.1)) for n in range(300)]
    while not all(each.done() for each in callers):
        await alive(scene)
        await asyncio.sleep(0.1)
    heard = [await each for each in callers]
    assert all(statuses in ([], [400], [408]) for statuses in heard), heard
    assert await standing(scene) == before
    # Sixty hold 150 KB of a body that is owed to their tokens; nobody holds a megabyte of a head.
    assert memory.grown_mib() < GROWTH_MIB
    assert await scene.metric("callbacks_total", provider="twilio", outcome="malformed") > 0


async def test_who_asks_and_does_not_listen_is_not_waited_for(scene: Scene) -> None:
    """Thousands of requests on one connection whose answers nobody reads."""
    every = await waiting(scene)
    memory, door = Memory(scene.gateway), every[0]
    ask = door.head(door.body, f"Content-Length: {len(door.body)}", path="/callbacks/twilio/wrong") + door.body
    again = door.head(b"a=b", "Content-Length: 3") + b"a=b"  # authentic, unreadable, kept once
    async with line(scene) as (_, deaf), line(scene) as (_, other):
        for writer, request in ((deaf, again), (other, ask)):
            writer.write(request * 3000)
        await asyncio.sleep(1)
        await alive(scene)
        assert memory.grown_mib() < GROWTH_MIB


# --- and what is good -------------------------------------------------------------------------------------------------


async def test_what_is_good_is_still_taken_at_every_door(scene: Scene) -> None:
    """The last one: all that was refused above was good but for what was wrong with it."""
    every = await waiting(scene)
    for door in every:
        pieces = [door.whole()[at : at + 50] for at in range(0, len(door.whole()), 50)]
        assert await said(scene, pieces) == [door.good], door.name
        again = door.whole().replace(b"Connection: close\r\n", b"")
        assert await said(scene, [again + again + door.whole()]) == [door.good] * 3, (
            door.name
        )  # copies, one after another
    for name, number in NUMBERS.items():
        assert (await scene.ended(number))[0] == "delivered", name
    log = scene.gateway.log.read_text(encoding="utf-8")
    assert '"level": "error"' not in log.partition('"ready"')[2]
    for secret in ("GATEWAY_CALLBACK_TOKEN", "GATEWAY_APP_TOKEN", "TWILIO_AUTH_TOKEN"):
        assert scene.gateway.settings.environ[secret] not in log


async def alive(scene: Scene) -> None:
    """The loop goes on: it answers, and was never late by as much as a heartbeat, however busy this machine is."""

    async def answers() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{scene.gateway.url}/livez") as response:
            return response.status == 200

    await until(answers, "an answer of /livez", 10)
    scrape = await scene.gateway.metrics()
    late = value_in(scrape, "loop_lag_seconds_count") - value_in(scrape, "loop_lag_seconds_bucket", le="5.0")
    assert late == 0, f"the loop was late by more than five seconds {late:g} times"
