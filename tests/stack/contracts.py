"""What the gateway tells is held to the published contracts, by a validator nobody here wrote."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_SCHEMAS = Path(__file__).parents[2] / "schemas" / "json"
EVENTS = frozenset(
    {
        "reminder.status.v1",
        "contact.replied.v1",
        "contact.callback_requested.v1",
        "contact.opted_out.v1",
        "contact.wrong_party.v1",
    }
)
DEADLETTERS = frozenset({"reminder.deadletter.v1"})


@functools.cache
def judge(kind: str) -> Draft202012Validator:
    """As published, and stricter in one thing: a field that the contract does not know has no place here."""
    schema = json.loads((_SCHEMAS / f"{kind}.cloudevent.json").read_text(encoding="utf-8"))
    for shape in schema["$defs"].values():
        if shape.get("type") == "object":
            shape["additionalProperties"] = False
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def hold(kind: str, key: bytes | None, value: bytes) -> None:
    """Fails, with every reason, unless a record is an event of this kind by its JSON Schema, keyed by its subject."""
    problems = list(_problems(kind, value))
    event = json.loads(value)
    if key is None or key.decode() != event.get("subject"):
        problems.append(f"key {key!r}, subject {event.get('subject')!r}")
    assert problems == [], f"{value!r} is no {kind}: {problems}"


def hold_any(kinds: frozenset[str], key: bytes | None, value: bytes) -> None:
    """Holds a record to the contract of the kind it says it is, which must be one of these."""
    kind = json.loads(value).get("type")
    assert kind in kinds, f"{value!r} is none of {sorted(kinds)}"
    hold(kind, key, value)


@functools.lru_cache(maxsize=100_000)  # a test that waits reads the same records again and again
def _problems(kind: str, value: bytes) -> tuple[str, ...]:
    event: Any = json.loads(value)
    errors = sorted(judge(kind).iter_errors(event), key=lambda each: list(each.absolute_path))
    return tuple(f"{each.json_path}: {each.message}" for each in errors)
