"""Whatever comes, decoding gives one command; and nothing personal shows anywhere but under the seal."""

import copy
import dataclasses
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from gateway.intake.decode import Record
from gateway.intake.letters import unseal
from gateway.ledger.commands import Letter, Origin, Request, Stop, Validation
from tests.unit.intake.records import SEALER, binary, cancel, decode, overdue, record, request

HEADER_NAMES = st.sampled_from(
    ["content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_x", "x"]
) | st.text(max_size=8)
HEADER_VALUES = (
    st.none()
    | st.binary(max_size=12)
    | st.sampled_from(
        [
            b"1.0",
            b"application/cloudevents+json",
            b"application/json",
            b"reminder.cancelled.v1",
            b"reminder.requested.v1",
        ]
    )
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=8)
KEYS = st.none() | st.binary(max_size=20)
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just([]), st.just({}),
    st.sampled_from(["", "\0", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "9999-12-31", "1" * 5000, 10**400]),
)  # fmt: skip
JSON: st.SearchStrategy[Any] = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def one_command(what: Record) -> None:
    command = decode(what).command
    assert isinstance(command, Request | Validation | Stop | Letter)
    assert command.origin == Origin(what.topic, what.partition, what.offset)
    assert 0 < command.id < 2**63
    if isinstance(command, Letter):
        kept = unseal(command.sealed, command.id, SEALER)
        assert (kept.value, kept.key, list(kept.headers)) == (what.value, what.key, list(what.headers))


@given(st.none() | st.binary(max_size=300), HEADERS, KEYS)
def test_any_bytes(value: bytes | None, headers: list[tuple[str, bytes | None]], key: bytes | None) -> None:
    one_command(record(value, headers, key))


@given(JSON, HEADERS, KEYS)
def test_any_json(value: Any, headers: list[tuple[str, bytes | None]], key: bytes | None) -> None:
    one_command(record(json.dumps(value).encode(), headers, key))


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*way, step) for step, _ in inner] + [each for step, at in inner for each in places(at, (*way, step))]


@st.composite
def damaged(draw: st.DrawFn) -> Record:
    """A valid event in either mode, with a few values replaced, removed, added or renamed."""
    event = copy.deepcopy(draw(st.sampled_from([request(), overdue(), cancel()])))
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(places(event)))
        place: Any = event
        for step in way:
            place = place[step]
        kind = draw(st.integers(0, 3))
        if kind == 0:
            place[last] = draw(ODD)
        elif kind == 1 or isinstance(place, list):
            del place[last]
        else:
            place[draw(st.text(max_size=6))] = place.pop(last) if kind == 2 else place[last]
        if not places(event):
            break
    made = binary(event) if draw(st.booleans()) else record(json.dumps(event).encode())
    return dataclasses.replace(made, headers=[*made.headers, *draw(HEADERS)], key=draw(KEYS))


@given(damaged())
def test_damaged_events(made: Record) -> None:
    one_command(made)


@given(st.sampled_from([request(), overdue(), cancel()]), st.data())
def test_damaged_bytes(event: dict[str, Any], data: st.DataObject) -> None:
    raw = bytearray(json.dumps(event, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        raw[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    one_command(record(bytes(raw)))


CANARY = "canaryZq7"


def planted(value: Any) -> Any:
    """The value with a canary in every text, also made to look like a place, and in the name of a field not ours."""
    if isinstance(value, dict):
        return {key: planted(each) for key, each in value.items()} | {f"x` - at `$.{CANARY}": CANARY}
    if isinstance(value, list):
        return [planted(each) for each in value]
    return f"{CANARY}-{value}` - at `$.{CANARY}" if isinstance(value, str) else value


@given(st.sampled_from([request(), overdue()]), st.booleans(), st.data())
def test_a_letter_tells_nothing_of_the_content(event: dict[str, Any], in_binary: bool, data: st.DataObject) -> None:
    """Some part of the data gets canaries in every text and name."""
    event = copy.deepcopy(event)
    *way, last = data.draw(st.sampled_from([each for each in places(event) if each[0] == "data"]))
    place: Any = event
    for step in way:
        place = place[step]
    place[last] = planted(place[last])
    decoded = decode(binary(event) if in_binary else event)
    assert CANARY not in repr(decoded)
    if isinstance(decoded.command, Letter):
        assert CANARY not in repr(astuple(replace(decoded.command, sealed=b"")))


PERSONAL = ["+8613900001234", "王小明", "fcm-device-token-8d1f0c72e5", "1234.50", "M-000417", "400-000-1234", "7Kq2Xw"]


def test_a_request_shows_nothing_personal() -> None:
    raw = record(request())
    decoded = decode(raw)
    shown = repr(decoded) + repr(decoded.command) + repr(raw)
    assert isinstance(decoded.command, Request)
    clear = repr([getattr(decoded.command, name) for name in Request.__struct_fields__ if name != "sealed"])
    assert [each for each in PERSONAL if each in shown or each in clear] == []
    assert [each for each in PERSONAL if each.encode() in decoded.command.sealed] == []


@given(
    st.sampled_from(["+8613900001234", "13900001234", "139-0000-1234", "王小明", "11010519491231002X"]),
    st.sampled_from(["lender", "borrower_ref", "scope", "as_of"]),
    st.booleans(),
)
def test_an_unreadable_stop_shows_nothing_personal(what: str, where: str, key_too: bool) -> None:
    event = cancel()
    event["data"] |= {where: what, what: what}
    for mode in (record, binary):
        command = decode(mode(event, key=what.encode() if key_too else None)).command
        assert isinstance(command, Letter)
        assert what not in repr(command)
