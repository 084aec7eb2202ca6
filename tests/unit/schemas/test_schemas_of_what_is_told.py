"""The judge over everything that the integration tests read from the topics can say no."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from schemas import generate
from schemas.messages import DEADLETTER, STATUS
from tests.stack import contracts

EXAMPLES = generate.read_examples()
SAID = [(kind, event) for kind in (STATUS, DEADLETTER) for event in EXAMPLES[kind]]


def hold(kind: str, event: dict[str, Any]) -> None:
    contracts.hold(kind, event["subject"].encode(), json.dumps(event).encode())


@pytest.mark.parametrize(("kind", "event"), SAID)
def test_it_takes_what_is_really_sent(kind: str, event: dict[str, Any]) -> None:
    hold(kind, event)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("data.state", "deliverd", "is not one of"),
        ("data.at", "2026-11-18 10:00", "is not a 'date-time'"),
        ("data.seq", None, "is not of type 'integer'"),
        ("data.answer", "too_late", "is not valid under any of the given schemas"),
        ("data.phone", "+8613900001234", "Additional properties are not allowed"),
        ("data.attempts", [{"id": "x"}], "is a required property"),
        ("type", "reminder.status.v2", "was expected"),
        ("subject", "another", "key b'"),
    ],
)
def test_it_refuses_what_is_not_promised(path: str, value: Any, why: str) -> None:
    event = EXAMPLES[STATUS][0]
    key, spoilt = event["subject"].encode(), copy.deepcopy(event)
    *parents, last = path.split(".")
    inner = spoilt
    for part in parents:
        inner = inner[part]
    inner[last] = value
    with pytest.raises(AssertionError, match=r"is no reminder\.status\.v1") as refused:
        contracts.hold(STATUS, key, json.dumps(spoilt).encode())
    assert why in str(refused.value)


def test_a_state_needs_its_reminder() -> None:
    event = copy.deepcopy(EXAMPLES[STATUS][0])
    del event["data"]["reminder"]
    with pytest.raises(AssertionError, match="is not valid under any"):
        hold(STATUS, event)


def test_a_dead_letter_is_no_status() -> None:
    with pytest.raises(AssertionError, match=r"is no reminder\.status\.v1"):
        hold(STATUS, EXAMPLES[DEADLETTER][0])
