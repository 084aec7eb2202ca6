"""One request, however often it comes, is one reminder; and one debt, stage and step has one reminder at a time."""

import datetime as dt
import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.stack.gateway import cancelled, requested
from tests.stack.scene import Scene, rule

pytestmark = pytest.mark.asyncio(loop_scope="module")

ZONE = ZoneInfo("Asia/Shanghai")  # where the borrowers of `requested` live


def soon(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


def rival(number: int, of: int, **changes: Any) -> dict[str, Any]:
    """Another request about the debt of request `of`."""
    same: dict[str, Any] = {"borrower": {"ref": f"borrower-{of}"}, "debt": {"ref": f"debt-{of}"}}
    return requested(number, **same, **changes)


async def test_the_same_request_again_is_a_duplicate(scene: Scene) -> None:
    first = requested(1)
    # Another order of the keys, other blanks and other envelope attributes: still the same request.
    backwards = {"time": soon(0), "traceparent": "00-1-2-3"} | dict(reversed(first.items()))
    backwards["data"] = dict(reversed(first["data"].items()))
    again = json.dumps(backwards, indent=3).encode()
    await scene.world.publish([first, first, again], [b"borrower-1"] * 3)
    assert await scene.ended(1) == ("delivered", None)
    await scene.world.publish([first])
    await scene.caught_up()
    await scene.relayed()
    events = await scene.events(1)
    answers = [each for each in events if each.get("answer") == "duplicate"]
    assert len(answers) == 3
    assert {each["reminder"] for each in answers} == {events[0]["reminder"]}
    assert all("seq" not in each for each in answers)
    assert [each["seq"] for each in events if "seq" in each] == [1, 2, 3]
    assert scene.sent(1) == ["twilio"]


async def test_the_same_id_with_another_payload_is_a_conflict(scene: Scene) -> None:
    before = len(await scene.deadletters())
    counted = await scene.metric("deadletters_total", reason="conflict")
    await scene.world.publish([requested(10, send_at=soon(2))])
    await scene.reached(10, "scheduled")
    await scene.world.publish([requested(10, debt={"amount": "99999.00"})])
    await scene.caught_up()
    await scene.relayed()
    letters = (await scene.deadletters())[before:]
    assert [each["reason"] for each in letters] == ["conflict"]
    assert await scene.metric("deadletters_total", reason="conflict") == counted + 1
    # The first is untouched: it is sent as it was asked for.
    assert await scene.ended(10) == ("delivered", None)
    (message,) = (each for each in scene.log() if each["marker"] == "M-10")
    assert "1,234.50" in message["text_or_template"]
    assert [each["seq"] for each in await scene.events(10)] == [1, 2, 3]


async def test_the_same_id_of_another_source_is_another_request(scene: Scene) -> None:
    await scene.world.publish([requested(15), requested(16) | {"id": "request-15", "source": "collections"}])
    assert await scene.ended(15) == ("delivered", None)
    await scene.caught_up()
    assert await scene.value("select count(*) from reminder where request_id = 'request-15'") == 2


async def test_the_same_debt_and_stage_under_another_id_is_suppressed(scene: Scene) -> None:
    # At once, in one batch, and later.
    await scene.world.publish([requested(20), rival(21, of=20)], [b"borrower-20"] * 2)
    assert await scene.ended(20) == ("delivered", None)
    await scene.world.publish([rival(22, of=20)])
    winner = (await scene.events(20))[0]["reminder"]
    for number in (21, 22):
        assert await scene.ended(number) == ("suppressed", "duplicate_stage")
        (event,) = await scene.told(number, 1)
        assert (event["seq"], event["duplicate_of"]) == (1, winner)
        assert scene.sent(number) == []


async def test_stages_instalments_and_steps_are_apart(scene: Scene) -> None:
    overdue = {"stage": "overdue_early"}
    requests = [
        requested(30),
        rival(31, of=30, stage="d3"),
        rival(32, of=30),
        rival(33, of=30, step="2026-10-01", **overdue),
        rival(34, of=30, step="2026-10-02", **overdue),
        rival(35, of=30, step="2026-10-02", **overdue),
    ]
    requests[2]["data"]["debt"]["instalment"] = 2
    for each, days in zip(requests, (0, 3, 0, -2, -2, -2), strict=True):  # a text that counts days must be true
        each["data"]["debt"]["due_date"] = (dt.datetime.now(ZONE).date() + dt.timedelta(days=days)).isoformat()
    await scene.world.publish(requests)
    endings = [await scene.ended(number) for number in range(30, 36)]
    assert endings == [("delivered", None)] * 5 + [("suppressed", "duplicate_stage")]


async def test_the_key_is_free_again_after_no_contact(scene: Scene) -> None:
    scene.perform(
        rule(41, "twilio", action="error", code="21211"),
        rule(42, "twilio", receipts={"outcome": "undelivered"}),
        rule(43, "twilio", action="error", code="21610"),
    )
    await scene.world.publish([requested(40, send_at=soon(3600)), requested(41), requested(42), requested(43)])
    await scene.reached(40, "scheduled")
    await scene.world.publish([cancelled(40, {"kind": "request", "source": "loan-core", "id": "request-40"})])
    assert await scene.ended(40) == ("cancelled", "cancelled_request")
    assert await scene.ended(41) == ("undelivered", "contacts_exhausted")
    assert await scene.ended(42) == ("undelivered", "contacts_exhausted")
    assert await scene.ended(43) == ("suppressed", "opted_out")
    await scene.world.publish([rival(n + 10, of=n, params={"reference": f"M-{n + 10}"}) for n in (40, 41, 42, 43)])
    # Never sent, or refused: nobody was contacted.  A message that left counts, though it did not arrive.
    assert await scene.ended(50) == ("delivered", None)
    assert await scene.ended(51) == ("delivered", None)
    assert await scene.ended(52) == ("suppressed", "duplicate_stage")
    assert await scene.ended(53) == ("delivered", None)


async def test_validate_only_answers_and_leaves_no_key(scene: Scene) -> None:
    letters = len(await scene.deadletters())
    await scene.world.publish([requested(60, validate_only=True), requested(61, validate_only=True, stage="d5")])
    answer = await scene.answer(60, "validated")
    assert "reminder" not in answer
    await scene.relayed()
    assert [each["reason"] for each in (await scene.deadletters())[letters:]] == ["unknown_stage"]
    assert await scene.state(60) is None
    await scene.world.publish([requested(60)])
    assert await scene.ended(60) == ("delivered", None)
    assert scene.sent(60) == ["twilio"]
    assert await scene.events(61) == []
