"""What the intake tests are made of: worked examples, changed in one place, as Kafka records."""

from __future__ import annotations

import copy
import datetime as dt
import json
from pathlib import Path
from typing import Any

from gateway.content import Catalogue
from gateway.ids import IdSource, subject_key
from gateway.intake.decode import Decoded, Decoder, LenderFacts, Record
from gateway.ledger.commands import Letter
from gateway.sealing import Sealer

NOW = dt.datetime(2026, 11, 18, 14, 10, tzinfo=dt.UTC)
SEALER = Sealer({7: b"k" * 32}, 7, b"i" * 32)
DECODER = Decoder(
    lenders={"harbour": LenderFacts("Harbour Credit", "zh-CN"), "northwind": LenderFacts("Northwind")},
    catalogue=Catalogue.load(),
    sealer=SEALER,
)
EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples"
KEY = b"b-7f3a9c21"
GONE: Any = object()  # as a value: the field is left out


def example(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_bytes())
    return event


def request(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    return changed(example("reminder.requested.v1"), changes or {})


def overdue(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    return changed(example("reminder.requested.v1.en"), changes or {})


def cancel(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    return changed(example("reminder.cancelled.v1"), changes or {})


def changed(event: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The event with each `data.contacts.1.address` set to its value, or left out."""
    event = copy.deepcopy(event)
    for path, value in changes.items():
        *way, last = (int(step) if step.isdigit() else step for step in path.split("."))
        place: Any = event
        for step in way:
            place = place[step]
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return event


def record(
    value: Any, headers: list[tuple[str, bytes | None]] | None = None, key: bytes | None = KEY, offset: int = 41
) -> Record:
    """`value` as bytes, or as anything JSON can hold."""
    if value is not None and not isinstance(value, bytes):
        value = json.dumps(value, ensure_ascii=False).encode()
    return Record("reminders.requests", 3, offset, key, value, headers or [], 0)


def binary(event: dict[str, Any], **more: Any) -> Record:
    """The event in binary mode."""
    headers: list[tuple[str, bytes | None]] = [
        (f"ce_{name}", str(value).encode()) for name, value in event.items() if name not in ("data", "datacontenttype")
    ]
    headers.append(("content-type", b"application/json"))
    return record(event.get("data"), headers, **more)


def decode(what: Any, now: dt.datetime = NOW) -> Decoded:
    return DECODER.decode(what if isinstance(what, Record) else record(what), IdSource(5), now)


def letter(what: Any, now: dt.datetime = NOW) -> Letter:
    command = decode(what, now).command
    assert isinstance(command, Letter), type(command)
    return command


def everywhere(*borrowers: str) -> tuple[tuple[bytes, str, str], ...]:
    """These borrowers under every lender there is."""
    return tuple((subject_key(lender, each), lender, each) for each in borrowers for lender in ("harbour", "northwind"))
