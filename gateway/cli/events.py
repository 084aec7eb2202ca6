"""From a row of a file to the CloudEvent that is published.

A row is the data of a reminder.requested.v1, optionally with its `id` and `source` beside it; or a whole CloudEvent,
which is published as it is.  In a row, times may be relative, for files that never grow old: not_after, send_at and
debt.state_as_of as `now`, `+6h`, `-30m`; debt.due_date as `today`, `+3d`, `-10d` in the borrower's own zone.

A row without an `id` gets one made from what it says once its times are resolved.  So the same request has the same id
and is answered as a duplicate; a row that means other times by now is another request, never a changed one, which would
be a conflict.  The same moment (`--now`) makes the same request again of a row with relative times.

Every event of a row is one that the gateway can read: it is read here as the gateway reads it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.intake import fields
from gateway.intake.cloudevents import Record, Unread, read_event
from gateway.intake.faults import Fault
from schemas.messages import REQUESTED, ReminderRequested

_RELATIVE: Final = re.compile(r"([+-][0-9]{1,5})([smhd])", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MOMENTS: Final = (("not_after",), ("send_at",), ("debt", "state_as_of"))


class BadRow(ValueError):
    """Why a row is no request; the message holds none of its values."""


@dataclass(frozen=True, slots=True)
class Event:
    """What goes to Kafka."""

    source: str
    id: str
    key: bytes | None
    value: bytes
    relative: bool = False  # its times depend on when it was made


def event(row: Mapping[str, Any], source: str, now: dt.datetime, *, validate_only: bool = False) -> Event:
    """The event of a row.  Raises BadRow with the gateway's own reason and the field."""
    if "specversion" in row:
        return _as_it_is(dict(row), validate_only)
    data = dict(row)
    identifier, source = data.pop("id", None), data.pop("source", source)
    try:
        resolved = absolute(data, now)
    except OverflowError:
        raise BadRow("a relative time is beyond every calendar") from None
    relative, data = resolved != data, _typed(resolved)
    if validate_only:
        data["validate_only"] = True
    text = as_json(data)  # first: what is no text could not be named either
    checked = fields.convert(data, ReminderRequested)
    if isinstance(checked, Fault):
        raise BadRow(str(checked))
    if identifier is None:
        identifier = "file-" + hashlib.sha256(text).hexdigest()[:24]
    return replace(_readable(made(REQUESTED, source, identifier, data, now)), relative=relative)


def made(kind: str, source: str, identifier: str, data: dict[str, Any], now: dt.datetime) -> Event:
    """The CloudEvent around `data`, whatever is in it."""
    envelope = {
        "specversion": "1.0",
        "id": identifier,
        "source": source,
        "type": kind,
        "time": now.isoformat(timespec="milliseconds"),
        "datacontenttype": "application/json",
        "data": data,
    }
    value = as_json(envelope)
    return Event(source, identifier, key_of(data), value)


def _as_it_is(envelope: dict[str, Any], validate_only: bool) -> Event:
    data = envelope.get("data")
    if validate_only:
        if envelope.get("type") != REQUESTED or not isinstance(data, dict):
            raise BadRow(f"only a {REQUESTED} can be validated")
        envelope["data"] = data = {**data, "validate_only": True}
    value = as_json(envelope)
    return _readable(Event(str(envelope.get("source")), str(envelope.get("id")), key_of(data), value))


def _readable(event: Event) -> Event:
    """The event, if it is one to the gateway too.  Raises BadRow with the gateway's reason where it is none."""
    read = read_event(Record("", 0, 0, event.key, event.value))
    if isinstance(read, Unread):
        raise BadRow(str(read.fault))
    return event


def key_of(data: Any) -> bytes | None:
    """The borrower's reference, so that the records of one borrower stay in order."""
    if not isinstance(data, dict):
        return None
    borrower = data.get("borrower")
    ref = borrower.get("ref") if isinstance(borrower, dict) else data.get("borrower_ref")
    return ref.encode() if isinstance(ref, str) else None


def absolute(data: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    """A copy of a request's data with its relative times resolved."""
    data = {name: dict(value) if isinstance(value, dict) else value for name, value in data.items()}
    for *parents, last in _MOMENTS:
        holder = data.get(parents[0]) if parents else data
        if isinstance(holder, dict) and (moment := moved(holder.get(last), "now", now)) is not None:
            holder[last] = moment.isoformat(timespec="milliseconds")
    debt, borrower = data.get("debt"), data.get("borrower")
    if isinstance(debt, dict):
        zone = borrower.get("timezone") if isinstance(borrower, dict) else None
        day = moved(debt.get("due_date"), "today", now.astimezone(zone_of(zone)))
        if day is not None:
            debt["due_date"] = day.date().isoformat()
    return data


def moved(value: Any, zero: str, now: dt.datetime) -> dt.datetime | None:
    """`now` moved by a relative time; None when the value is not one."""
    if value == zero:
        return now
    match = _RELATIVE.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else now + dt.timedelta(**{_UNITS[match[2]]: int(match[1])})


def zone_of(name: Any) -> dt.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (TypeError, ValueError, zoneinfo.ZoneInfoNotFoundError, OSError):
        return dt.UTC  # the gateway says what is wrong with it


def _typed(data: dict[str, Any]) -> dict[str, Any]:
    """The two fields of a request that are no text, from the cells of a table."""
    debt, only = data.get("debt"), data.get("validate_only")
    if isinstance(debt, dict) and isinstance(number := debt.get("instalment"), str) and _NUMBER.fullmatch(number):
        debt["instalment"] = int(number)
    if only in ("true", "false"):
        data["validate_only"] = only == "true"
    return data


def as_json(value: Any) -> bytes:
    """JSON text that any reader takes.  Raises BadRow for what Python can hold and JSON cannot."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise BadRow("is not JSON: half a surrogate pair") from None
    except ValueError:
        raise BadRow("is not JSON: a number beyond a double's range, or none") from None
    except RecursionError:
        raise BadRow("is nested too deeply") from None
