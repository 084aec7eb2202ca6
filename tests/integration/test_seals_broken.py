"""Sealed values that were changed, moved or are under a key that is gone: nothing false is sent, and nobody else waits.

The ledger of a running gateway is tampered with, as a bad disk, a bad script or a bad person would.
"""

import asyncio
import base64
import datetime as dt
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from gateway.ids import to_reference
from gateway.personal import SEALED_FIELD
from gateway.sealing import Sealer
from tests.stack import scene as stage
from tests.stack.gateway import requested
from tests.stack.scene import Scene, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME: Final = "Li Lei"  # of everybody, in `requested`
SOON: Final = 3.0  # seconds until a tampered reminder is due
_FLIP: Final = "set_byte(sealed, length(sealed) - {at}, get_byte(sealed, length(sealed) - {at}) # 1)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """As every scene, but its first sealing key is a file, so that it can go and come back."""
    home = tmp_path_factory.mktemp("seals")
    key_file(home, 1).write_text(base64.b64encode(b"1" * 32).decode())
    key_file(home, 2).write_text(base64.b64encode(b"2" * 32).decode())
    sealing = {"keys": {1: f"file:{key_file(home, 1)}"}, "current": 1}
    overrides = {"secrets": {"reload_seconds": 600}, "sealing": sealing}
    async with stage.scene(postgres, kafka, home, overrides) as it:
        yield it


def key_file(home: Path, number: int) -> Path:
    return home / f"key-{number}"


async def waiting(scene: Scene, *numbers: int, **changes: Any) -> dict[int, int]:
    """Reminders that are due in a moment, by number their ids."""
    at = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=SOON)).isoformat()
    await scene.world.publish([requested(number, ["sms", "voice"], send_at=at, **changes) for number in numbers])
    found = {}
    for number in numbers:
        await scene.reached(number, "scheduled")
        found[number] = (await scene.state(number))["id"]  # type: ignore[index]
    return found


async def nothing_false(scene: Scene, broken: dict[int, int], neighbours: dict[int, int]) -> None:
    """Held with a reason, seen in the log, told on Kafka; never sent; the others have theirs, and their own words."""
    for number in neighbours:
        assert await scene.ended(number) == ("delivered", None)
        assert scene.sent(number) == ["twilio"]
    for number, reminder in broken.items():
        row = await scene.reached(number, "held")
        assert row["reason"] == "bug"
        assert (await scene.attempts(number), scene.sent(number)) == ([], [])
        assert (await scene.told(number, 2))[-1]["state"] == "held"
        rules = await scene.sql("select rule from decision where reminder = $1", reminder)
        assert [each["rule"] for each in rules] == ["seal_does_not_open"]
        assert to_reference(reminder) in scene.gateway.log.read_text(encoding="utf-8")
    assert {each["recipient"] for each in scene.log()}.isdisjoint({f"+86139{number:08d}" for number in broken})


async def test_a_bit_that_flips_anywhere_in_a_sealed_value(scene: Scene) -> None:
    """In its version, its key's id, its nonce, its words, its tag."""
    broken = await waiting(scene, 1, 2, 3)
    odd = await waiting(scene, 4, 5)  # under no key that there is
    good = await waiting(scene, 6, 7)
    for number, at in ((1, 1), (2, 20)):
        await scene.sql(f"update reminder set sealed = {_FLIP.format(at=at)} where id = $1", broken[number])
    await scene.sql(
        "update reminder set sealed = set_byte(sealed, 8, get_byte(sealed, 8) # 1) where id = $1", broken[3]
    )
    for number, byte in ((4, 0), (5, 4)):
        await scene.sql(f"update reminder set sealed = set_byte(sealed, {byte}, 9) where id = $1", odd[number])
    await nothing_false(scene, broken, good)
    # A key that may only not be here yet: it waits, as processes do not reload at the same moment.
    for number in odd:
        row = await scene.reached(number, "scheduled")
        assert (row["ended"], scene.sent(number)) == (False, [])
    waits = "select distinct rule from decision where reminder = any($1) and verdict = 'defer'"
    assert [each["rule"] for each in await scene.sql(waits, list(odd.values()))] == ["sealing_key_unknown"]


async def test_words_that_are_moved_to_another_borrower_or_lender_are_nobodys(scene: Scene) -> None:
    broken = await waiting(scene, 11, 12)
    broken |= await waiting(scene, 13, lender="harbour")
    good = await waiting(scene, 14)
    rows = await scene.sql("select id, sealed from reminder where id = any($1)", list(broken.values()))
    sealed = {row["id"]: row["sealed"] for row in rows}
    for number, other in ((11, 12), (12, 13), (13, 11)):
        await scene.sql("update reminder set sealed = $2 where id = $1", broken[number], sealed[broken[other]])
    await nothing_false(scene, broken, good)


async def test_words_that_are_moved_to_another_column_do_not_open(scene: Scene) -> None:
    """What was sent as what is to be sent, what is to be sent as what could not be read, and one bit of that."""
    scene.perform()
    await scene.world.publish([requested(21), b"{nothing"])
    assert await scene.ended(21) == ("delivered", None)
    await scene.relayed()
    reminder = (await scene.state(21))["id"]  # type: ignore[index]
    index_key = base64.b64decode(scene.gateway.settings.environ["GATEWAY_INDEX_KEY"])
    facts = await scene.value("select sealed from reminder where id = $1", reminder)
    assert NAME in Sealer({1: b"1" * 32}, 1, index_key).open(facts, reminder, SEALED_FIELD).decode()
    words = await scene.value("select sealed from decision where reminder = $1 and verdict = 'send'", reminder)
    broken, good = await waiting(scene, 22), await waiting(scene, 23)
    await scene.sql("update reminder set sealed = $2 where id = $1", broken[22], words)
    await nothing_false(scene, broken, good)

    (letter,) = await scene.sql("select id, sealed from deadletter order by id desc limit 1")
    name = to_reference(letter["id"])
    await scene.sql("update deadletter set sealed = $2 where id = $1", letter["id"], facts)
    code, said = await scene.gateway.command("deadletters", "show", name, "--open")
    assert (code, "the record cannot be opened" in said, NAME in said) == (1, True, False), said
    await scene.sql("update deadletter set sealed = $2 where id = $1", letter["id"], letter["sealed"])
    await scene.sql(f"update deadletter set sealed = {_FLIP.format(at=3)} where id = $1", letter["id"])
    code, said = await scene.gateway.command("deadletters", "redrive", name, "--author", "ops", "--yes")
    assert (code, "sealed" in said, NAME in said) == (1, True, False), said
    assert await scene.value("select count(*) from redrive") == 0


async def test_a_key_that_goes_and_comes_back_while_messages_are_due(scene: Scene) -> None:
    """Rotated in the middle of the work, taken away too soon, put back: what was under it waits, and then leaves."""
    tree, home = scene.gateway.settings.tree, scene.world.home
    under_old = await waiting(scene, 31, 32, 33)
    tree["sealing"] |= {"keys": {2: f"file:{key_file(home, 2)}"}, "current": 2}
    await reload(scene)
    under_new = await waiting(scene, 34, 35)
    for number in under_new:
        assert await scene.ended(number) == ("delivered", None)

    async def deferred() -> bool:
        rows = await scene.sql("select distinct reminder from decision where rule = 'sealing_key_unknown' "
                               "and reminder = any($1)", list(under_old.values()))  # fmt: skip
        return len(rows) == 3

    await until(deferred, "verdicts", 30)
    for number in under_old:
        assert (await scene.reached(number, "scheduled"))["ended"] is False
        assert scene.sent(number) == []
    assert "sealing_key_unknown" in scene.gateway.log.read_text(encoding="utf-8")
    tree["sealing"]["keys"] |= {1: f"file:{key_file(home, 1)}"}
    await reload(scene)
    # They look again half a minute later; nobody who waits for a key should have to wait for that here.
    await scene.sql("update due set due_at = now() where id = any($1)", list(under_old.values()))
    await scene.sql("update live set at = (select due_at from due where due.id = live.id) "
                    "where id in (select id from due where id = any($1))", list(under_old.values()))  # fmt: skip
    for number in under_old:
        assert await scene.ended(number, 60) == ("delivered", None)
        assert scene.sent(number) == ["twilio"]


async def reload(scene: Scene) -> None:
    since = await scene.metric("secrets_reloads_total", outcome="good")
    scene.gateway.settings.write(scene.gateway.config)
    os.kill(scene.gateway.child.pid, signal.SIGHUP)

    async def done() -> bool:
        return await scene.metric("secrets_reloads_total", outcome="good") > since

    await until(done, "reload", 20)
    await asyncio.sleep(0)
