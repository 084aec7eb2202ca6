"""What is known of a debt before a send: how old it may be, by the occasion of its cadence."""

import datetime as dt
import json
from dataclasses import replace

import pytest

from gateway import policy
from gateway.dispatch.commits import _verdict
from gateway.dispatch.pipeline import Job, inputs_of
from gateway.ids import IdSource
from gateway.ledger.freezes import Freezes
from schemas.vocabulary import Mode, Reason
from tests.unit.dispatch.case import NOW, PHONE
from tests.unit.dispatch.test_mode import prepared, reminder, steps

DAY = dt.timedelta(days=1)
MINUTE = dt.timedelta(minutes=1)
D3 = "default/1/d3"
STEPS = replace(steps(Mode.LIVE, None), max_fact_ages={D3: DAY})
LONG = NOW + 9 * DAY


def planned(fresh_at: dt.datetime | None, occasion: str = D3, not_after: dt.datetime = LONG) -> Job:
    return reminder(PHONE, occasion=occasion, fresh_at=fresh_at, not_after=not_after)


def test_what_is_planned_leaves_while_its_facts_are_young_enough() -> None:
    made = planned(NOW - DAY + MINUTE)
    assert prepared(STEPS, made) is None
    assert made.send_by == NOW + MINUTE
    assert dt.datetime.fromisoformat(json.loads(inputs_of(made))["fresh_at"]) == NOW - DAY + MINUTE


@pytest.mark.parametrize(
    ("fresh_at", "as_of"),
    [
        (NOW + 5 * MINUTE, "17:10 on 2 March"),  # a clock that is ahead: not later than now
        (NOW, "17:05 on 2 March"),
        (NOW - 60 * MINUTE, "17:00 on 2 March"),  # when it was said
    ],
)
def test_it_is_told_as_of_when_its_facts_were_complete(fresh_at: dt.datetime, as_of: str) -> None:
    made = reminder(PHONE, occasion=D3, stage="due", not_after=LONG, fresh_at=fresh_at + 5 * MINUTE)
    assert STEPS.prepare(made, NOW + 10 * MINUTE, Freezes({}), IdSource(1)) is None
    assert made.message is not None
    assert f"as of {as_of} a payment" in made.message.text


def test_what_is_older_is_held_with_the_age_it_may_have() -> None:
    made = planned(NOW - DAY)
    verdict = prepared(STEPS, made)
    assert verdict == policy.Hold(Reason.STALE_FACTS, "max_fact_age")
    assert verdict is not None
    stored = _verdict(made, verdict)
    assert (stored.hold, stored.max_fact_age) == (Reason.STALE_FACTS, DAY)


def test_of_what_nothing_was_told_nothing_leaves() -> None:
    assert prepared(STEPS, planned(None)) == policy.Hold(Reason.STALE_FACTS, "max_fact_age")


def test_a_cadence_that_this_process_does_not_have_is_left_to_another_until_its_time_is_over() -> None:
    verdict = prepared(STEPS, planned(NOW, "default/2/d3"))
    assert isinstance(verdict, policy.Defer)
    assert verdict.rule == "cadence_unknown"
    assert NOW < verdict.until <= NOW + MINUTE
    assert prepared(STEPS, planned(NOW, "default/2/d3", not_after=NOW)) == policy.Expire()
    everything = Freezes({("all", "*"): 1})
    assert prepared(STEPS, planned(NOW, "default/2/d3"), everything) == policy.Hold(Reason.FROZEN, "frozen")


def test_what_was_requested_has_no_age() -> None:
    made = reminder(PHONE, not_after=LONG)
    assert prepared(STEPS, made) is None
    assert made.send_by == LONG
