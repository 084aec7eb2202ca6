"""Files of facts, as a lender's core would publish them: rows of `type` and `data`, or whole CloudEvents.

In a row times may be relative, as in files of requests: as_of as `now` or `-2h`; due_date as `today`, `+3d` in the
borrower's own zone, where the row tells it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.cli.events import Event
    from schemas.repayments import Fact

SOURCE: Final = "command-line"


@dataclass(frozen=True, slots=True)
class Row:
    """A fact, and the event that tells it."""

    event: Event
    fact: Fact


def read(
    files: list[Path], source: str, now: dt.datetime, lenders: Collection[str] | None = None
) -> Iterator[tuple[str, Row | str]]:
    """Where each row stands, and its fact or what is wrong with it, without any of its values; without `lenders` any
    may speak.  Heartbeats say nothing here: they are of a partition, and on a rehearsal's calendar everything is known
    when it is so.
    """
    from gateway.cli.rows import rows

    for file in files:
        for row in rows(file):
            found = (row.problem or "is empty") if row.value is None else _row(row.value, source, now, lenders)
            if found is not None:
                yield row.where, found


def _row(row: Mapping[str, Any], source: str, now: dt.datetime, lenders: Collection[str] | None) -> Row | str | None:
    from gateway.cli.events import BadRow, Event, as_json, key_of
    from gateway.intake import facts
    from gateway.intake.cloudevents import Record, Unread, read_event
    from gateway.intake.faults import Fault
    from schemas.repayments import WATERMARK

    try:
        event = row if "specversion" in row else _event(row, source, now)
        value = as_json(event)
    except OverflowError:
        return "a relative time is beyond every calendar"
    except BadRow as error:
        return str(error)
    read = read_event(Record("", 0, 0, None, value))
    if not isinstance(read, Unread) and read.type == WATERMARK:
        return None
    found = read.fault if isinstance(read, Unread) else facts.read(read, now, lenders)
    if isinstance(found, Fault):
        return str(found)
    return Row(Event(str(event["source"]), str(event["id"]), key_of(event["data"]), value), found)


def _event(row: Mapping[str, Any], source: str, now: dt.datetime) -> dict[str, Any]:
    """The CloudEvent of a row; what says the same has the same id."""
    from gateway.cli.events import as_json

    row = {**row, "data": _absolute(row["data"], now)} if isinstance(row.get("data"), dict) else row
    digest = hashlib.sha256(as_json([row.get("type"), row.get("data")])).hexdigest()
    return {"specversion": "1.0", "id": f"file-{digest[:24]}", "source": source, **row}


def _absolute(data: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    """A copy of a fact's data with its relative times resolved."""
    from gateway.cli.events import moved, zone_of

    made = dict(data)
    if (moment := moved(made.get("as_of"), "now", now)) is not None:
        made["as_of"] = moment.isoformat(timespec="milliseconds")
    borrower, instalments = made.get("borrower"), made.get("instalments")
    if isinstance(instalments, list):
        zone = zone_of(borrower.get("timezone") if isinstance(borrower, dict) else None)
        made["instalments"] = [_due(each, now.astimezone(zone)) for each in instalments]
    return made


def _due(instalment: Any, now: dt.datetime) -> Any:
    from gateway.cli.events import moved

    day = moved(instalment.get("due_date"), "today", now) if isinstance(instalment, dict) else None
    return instalment if day is None else {**instalment, "due_date": day.date().isoformat()}
