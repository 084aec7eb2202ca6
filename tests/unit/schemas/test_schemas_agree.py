"""What the JSON Schemas accept, the decoder accepts, and the other way round."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.intake import fields
from gateway.intake.faults import Fault
from schemas import generate
from schemas.messages import CANCELLED, REQUESTED, PushEvent, ReminderCancelled, ReminderRequested
from schemas.shapes import PUSH_EVENT

EXAMPLES = generate.read_examples()
TYPES: dict[str, type] = {REQUESTED: ReminderRequested, CANCELLED: ReminderCancelled, PUSH_EVENT: PushEvent}
DATA = {name: [event.get("data", event) for event in EXAMPLES[name]] for name in TYPES}

# Values that are right somewhere and wrong elsewhere.
WORDS = ["CNY", "cny", "CN", "US-NY", "d3", "d4", "sms", "fax", "urgent", "debtor", "neighbour", "opened", "bounced"]
DATES = ["2026-11-18", "2026-02-30"]
TIMES = ["2026-11-18T10:00:00", "2026-11-18T10:00:00Z", "2026-11-18T10:00:00+08:00", "2026-11-18T10:00:00.25z"]
LOOSE = ["2026-11-18 10:00:00Z", "2026-11-18T10:00:00+0800", "2026-11-18T10:00Z", "20261118T100000Z"]
TEXTS = ["", "x", "a" * 65, "a" * 201, "a" * 257, "ref\n", "CNY\n"]
SCOPES: list[Any] = [{"kind": "borrower"}, {"kind": "debt"}, {"kind": "debt", "ref": "loan-1"}]
OTHERS: list[Any] = [None, True, 0, 1, 9999, 10000, -1, 1.5, [], {}, {"Upper": "x"}, {"key\n": "x"}]
VALUES = st.sampled_from([*WORDS, *DATES, *TIMES, *TEXTS, *SCOPES, *OTHERS]).map(copy.deepcopy)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, child in children for path in ((*here, key), *paths(child, (*here, key)))]


@st.composite
def mutants(draw: st.DrawFn, name: str) -> Any:
    """A worked example with one to three fields replaced, removed or added."""
    value = copy.deepcopy(draw(st.sampled_from(DATA[name])))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(paths(value)))
        parent = value
        for key in above:
            parent = parent[key]
        change = draw(st.sampled_from(["replace", "remove", "add", "loosen"]))
        if change == "replace":
            parent[last] = draw(VALUES)
        elif change == "loosen" and last in ("state_as_of", "send_at", "not_after", "as_of"):
            parent[last] = draw(st.sampled_from(LOOSE))
        elif change == "remove":
            del parent[last]
        elif isinstance(parent, dict):
            parent["surprise"] = draw(VALUES)
        if not paths(value):
            break
    return value


def judge(name: str) -> Draft202012Validator:
    schema = json.loads((Path(generate.__file__).parent / "json" / f"{name}.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


JUDGES = {name: judge(name) for name in TYPES}


def decodes(value: Any, type_: type) -> bool:
    """As the gateway reads it: intake is stricter about times than msgspec."""
    if type_ is not PushEvent:
        return not isinstance(fields.convert(json.loads(json.dumps(value)), type_), Fault)
    try:
        msgspec.json.decode(json.dumps(value), type=type_)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("moment", LOOSE)
@pytest.mark.parametrize("field", ["state_as_of", "send_at", "not_after"])
def test_a_time_that_is_not_rfc_3339_is_refused_by_both(moment: str, field: str) -> None:
    value = copy.deepcopy(DATA[REQUESTED][0])
    (value["debt"] if field == "state_as_of" else value)[field] = moment
    assert not JUDGES[REQUESTED].is_valid(value)
    assert not decodes(value, ReminderRequested)


@pytest.mark.parametrize("name", TYPES)
def test_schema_and_decoder_agree(name: str) -> None:
    seen = {True: 0, False: 0}

    @settings(max_examples=150, deadline=None)
    @given(mutants(name))
    def agree(value: Any) -> None:
        verdict = JUDGES[name].is_valid(value)
        assert verdict == decodes(value, TYPES[name])
        seen[verdict] += 1

    agree()
    assert seen[False]


@pytest.mark.parametrize("field", ["lender", "template"])
def test_a_reference_with_a_trailing_newline_is_refused_by_both(field: str) -> None:
    value = {**DATA[REQUESTED][0], field: "harbour\n"}
    assert not JUDGES[REQUESTED].is_valid(value)
    assert not decodes(value, ReminderRequested)
