"""CloudEvents 1.0 on Kafka: structured and binary mode.

Source: CloudEvents 1.0.2, kafka-protocol-binding §3 and json-format §2 and §3.  Batches are not part of the binding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway import tracing
from gateway.intake import fields, reading
from gateway.intake.faults import Fault
from schemas.messages import CloudEvent
from schemas.vocabulary import Rejection

_STRUCTURED: Final = "application/cloudevents"
_WE_READ: Final = re.compile(r"application/cloudevents(?:\+json)?\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_JSON_TYPE: Final = re.compile(r"[^/;\s]+/(?:[^/;\s]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)

_PREFIX: Final = "ce_"
_TRACE: Final = "traceparent"
_ATTRIBUTES: Final = frozenset(CloudEvent.__struct_encode_fields__) - {"data", "datacontenttype", _TRACE}
_CONTENT_TYPE: Final = "content-type"
_NO_HEADERS: Final[dict[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stood in Kafka."""

    topic: str
    partition: int
    offset: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Sequence[tuple[str, bytes | None]] = field(default=(), repr=False)
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class Unread:
    """A record that is no CloudEvent we can take, with what it says about itself all the same; that is unchecked."""

    fault: Fault
    type: str | None = field(default=None, repr=False)
    source: str | None = field(default=None, repr=False)
    data: Any = field(default=None, repr=False)
    traceparent: str | None = None


def read_event(record: Record) -> CloudEvent | Unread:
    """Reads a record in either mode; extension attributes are ignored, all but `traceparent`.

    The trace is the one the event itself says it belongs to; without that the one its transport was in, as producers
    instrumented with OpenTelemetry write it into a header of that name.  A bad one is none.

    A CloudEvent has specversion 1.0, a printable `source`, `id` and `type`, every other attribute we know with its own
    type, and a JSON value as `data`.
    """
    headers, fault = _read_headers(record.headers) if record.headers else (_NO_HEADERS, None)
    content_type = headers.get(_CONTENT_TYPE, "")
    structured = content_type.lower().startswith(_STRUCTURED)
    if structured:  # then copies of the attributes in headers mean nothing
        fault = None if _WE_READ.fullmatch(content_type) else Fault(Rejection.NOT_A_CLOUDEVENT, "content-type")
    value = Fault(Rejection.NULL_VALUE) if record.value is None else reading.read(record.value)
    if isinstance(value, Fault):
        return _unread(fault or value, headers)
    if record.value is not None and reading.has_nul(record.value):
        fault = fault or Fault(Rejection.NUL_CHARACTER)
    binary = not structured and not _ATTRIBUTES.isdisjoint(headers)
    if binary:
        attributes = {**headers, "data": value}
        if content_type:
            attributes["datacontenttype"] = attributes.pop(_CONTENT_TYPE)
    elif isinstance(value, dict):
        attributes = value
    else:
        return _unread(fault or Fault(Rejection.NOT_A_CLOUDEVENT), headers)
    own = _header(record.headers, _PREFIX + _TRACE) if binary else attributes.pop(_TRACE, None)
    trace = tracing.clean(own) or (tracing.clean(_header(record.headers, _TRACE)) if record.headers else None)
    if trace is not None:
        attributes[_TRACE] = trace
    event = fault or _convert(attributes)
    if isinstance(event, CloudEvent):
        fault = _fault_of(event, attributes)
        return event if fault is None else _unread(fault, attributes)
    return _unread(event, {**headers, **attributes})


def _convert(attributes: dict[str, Any]) -> CloudEvent | Fault:
    if attributes.get("specversion") != "1.0":
        return Fault(Rejection.NOT_A_CLOUDEVENT, "specversion")
    try:
        return msgspec.convert(attributes, CloudEvent)
    except msgspec.ValidationError as error:
        # An attribute that is null is one that is not set; the data may be null itself.
        known = {name: value for name, value in attributes.items() if value is not None or name == "data"}
        if len(known) < len(attributes):
            return _convert(known)
        return Fault(Rejection.NOT_A_CLOUDEVENT, fields.place_of(str(error), "") or None)


def _fault_of(event: CloudEvent, attributes: dict[str, Any]) -> Fault | None:
    for name in ("source", "id", "type"):
        if not attributes[name].isprintable():
            return Fault(Rejection.NOT_A_CLOUDEVENT, name)
    if event.datacontenttype is not msgspec.UNSET and not _JSON_TYPE.fullmatch(event.datacontenttype):
        return Fault(Rejection.WRONG_FIELD, "datacontenttype")
    if event.data is msgspec.UNSET:
        if "data_base64" in attributes:
            return Fault(Rejection.WRONG_FIELD, "data_base64")
        return Fault(Rejection.MISSING_FIELD, "data")
    return None


def _unread(fault: Fault, attributes: Mapping[str, Any]) -> Unread:
    return Unread(
        fault,
        _text(attributes.get("type")),
        _text(attributes.get("source")),
        attributes.get("data"),
        tracing.clean(attributes.get(_TRACE)),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """The value of a header that is there once."""
    values = [value for each, value in headers if each == name and value is not None]
    return values[0].decode(errors="replace") if len(values) == 1 else None


def _read_headers(headers: Sequence[tuple[str, bytes | None]]) -> tuple[dict[str, str], Fault | None]:
    """Our attributes among the headers, by their names without the prefix, and the first that is wrong."""
    found: dict[str, str] = {}
    fault: Fault | None = None
    for name, value in headers:
        known = name == _CONTENT_TYPE or (name.startswith(_PREFIX) and name[len(_PREFIX) :] in _ATTRIBUTES)
        if not known or value is None:
            continue
        attribute = name.removeprefix(_PREFIX)
        place = "datacontenttype" if name == _CONTENT_TYPE else attribute
        if attribute in found:
            fault = fault or Fault(Rejection.DUPLICATE_KEY, place)
            continue
        try:
            found[attribute] = value.decode()
        except UnicodeDecodeError:
            fault = fault or Fault(Rejection.INVALID_UTF8, place)
            continue
        if "\0" in found[attribute]:
            fault = fault or Fault(Rejection.NUL_CHARACTER, place)
    return found, fault
