"""The worked examples of schemas/: the requests are taken, and what they show of our answers is what is really sent."""

import copy
import datetime as dt
import re
from typing import Any

import pytest

from schemas import generate
from schemas.messages import CANCELLED, DEADLETTER, REQUESTED, STATUS
from tests.stack.scene import Scene, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = {"sms": "twilio", "push": "fcm", "voice": "aliyun"}
LENDERS = {name: {"name": name.title(), "default_locale": "en", "routes": ROUTES} for name in ("harbour", "northwind")}
OVERRIDES = {"lenders": LENDERS}
EXAMPLES = generate.read_examples()


def moved(value: Any, by: dt.timedelta, days: int) -> Any:
    """The same with every moment moved `by`, and every date by so many days."""
    if isinstance(value, dict):
        return {name: moved(item, by, days) for name, item in value.items()}
    if isinstance(value, list):
        return [moved(item, by, days) for item in value]
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\S+", value):
        return (dt.datetime.fromisoformat(value) + by).isoformat()
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return (dt.date.fromisoformat(value) + dt.timedelta(days=days)).isoformat()
    return value


def at(example: dict[str, Any], then: str, now: dt.datetime) -> dict[str, Any]:
    """The example as it would be if its moment `then` were now."""
    before = dt.datetime.fromisoformat(then)
    event: dict[str, Any] = moved(example, now - before, (now.astimezone(before.tzinfo).date() - before.date()).days)
    return event


_FORMS = (
    (r"[0-7][0-9a-hjkmnp-tv-z]{12}", "<reference>"),
    (r"[0-7][0-9a-hjkmnp-tv-z]{12}\.\d+", "<reference.seq>"),
    (r"[0-7][0-9a-hjkmnp-tv-z]{12}\.[0-7][0-9a-hjkmnp-tv-z]{12}", "<reference.reference>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<milliseconds>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", "<microseconds>"),
)


def form(value: Any) -> Any:
    """What does not change from run to run: every word and number, the kind of every id and time, and the order."""
    if isinstance(value, dict):
        hidden = {"partition", "offset", "topic"}
        return [(name, type(item).__name__ if name in hidden else form(item)) for name, item in value.items()]
    if isinstance(value, list):
        return [form(item) for item in value]
    if isinstance(value, str):
        return next((name for pattern, name in _FORMS if re.fullmatch(pattern, value)), value)
    return value


async def played(scene: Scene) -> dict[str, dict[str, Any]]:
    """What is told of the example requests: the end of one, and the answers to a repeat and to a bad one."""
    chinese, english = EXAMPLES[REQUESTED]
    now = dt.datetime.now(dt.UTC)
    # One push token is dead; the carrier takes a moment.
    scene.perform({"vendor": "fcm", "action": "error", "code": "UNREGISTERED"}, {"receipts": {"delay": [0.5, 0.6]}})
    first = at(chinese, chinese["data"]["send_at"], now + dt.timedelta(seconds=2))
    second = at(english, english["time"], now)
    bad = copy.deepcopy(first) | {"id": "20261118-000418"}
    bad["data"]["contacts"][1]["address"] = "+8613900"
    await scene.world.publish([second])
    await scene.caught_up()
    await scene.world.publish([first, bad, second])
    wanted = {"delivered": first, "duplicate": second}

    async def told() -> dict[str, dict[str, Any]] | None:
        events = await scene.world.read(scene.world.topics.events)
        letters = await scene.world.read(scene.world.topics.deadletters)
        found = {"deadletter": letters[0]} if letters else {}
        for each in events:
            word = each["data"].get("answer") or each["data"]["state"]
            if word in wanted and each["data"]["request_id"] == wanted[word]["id"]:
                found[word] = each
        return found if len(found) == 3 else None

    return await until(told, "all three", within=20)


async def test_the_examples_are_what_is_really_sent(scene: Scene) -> None:
    found = await played(scene)
    delivered, duplicate = EXAMPLES[STATUS]
    (deadletter,) = EXAMPLES[DEADLETTER]
    assert form(delivered) == form(found["delivered"])
    assert form(duplicate) == form(found["duplicate"])
    assert form(deadletter) == form(found["deadletter"])


async def test_the_example_of_a_cancel_is_taken(scene: Scene) -> None:
    """It comes after the reminder has gone out: what it is about is told as too late."""
    (cancel,) = EXAMPLES[CANCELLED]
    before = await scene.value("select coalesce(sum(n), 0)::int from intake_count where outcome = 'command'")
    await scene.world.publish([at(cancel, cancel["time"], dt.datetime.now(dt.UTC))])
    await scene.caught_up()
    after = await scene.value("select coalesce(sum(n), 0)::int from intake_count where outcome = 'command'")
    assert after == before + 1
