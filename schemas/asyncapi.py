"""The Kafka side as an AsyncAPI 3 document."""

from __future__ import annotations

from typing import Any, Final

from schemas.messages import (
    CALLBACK_REQUESTED,
    CANCELLED,
    DEADLETTER,
    DEADLETTERS_TOPIC,
    EVENTS_TOPIC,
    OPTED_OUT,
    REPLIED,
    REQUESTED,
    REQUESTS_TOPIC,
    STATUS,
    WRONG_PARTY,
)
from schemas.repayments import FACT_TYPES, REPAYMENTS, REPAYMENTS_TOPIC, WATERMARK
from schemas.shapes import MESSAGES, components, envelope, name_of

STRUCTURED: Final = "application/cloudevents+json"
BINARY: Final = "application/json"
REF: Final = "#/components/schemas/{name}"

_CONTACTS: Final = {
    REPLIED: "A borrower wrote back.",
    CALLBACK_REQUESTED: "A borrower asks to be called back by a person.",
    OPTED_OUT: "A borrower asks for no more reminders.",
    WRONG_PARTY: "Somebody else answered the borrower's phone.",
}
_REQUEST_KEY: Final = {
    "type": "string",
    "description": "The borrower's reference.  It keeps one borrower's records in order; correctness never depends on "
    "it, and any key or none is accepted.",
}
_BEAT_KEY: Final = {"type": "string", "description": "Means nothing: the producer names the partition."}
_EVENT_KEY: Final = {
    "type": "string",
    "description": "The reminder's id, so that one reminder's events arrive in the order of `seq`.  The key of an "
    "answer that names no reminder means nothing.",
}
_CONTACT_KEY: Final = {
    "type": "string",
    "description": "The id of the reminder it belongs to, else of the reply itself.",
}
_TRACE: Final = {
    "type": "string",
    "description": "W3C Trace Context, where OpenTelemetry's Kafka clients look for it.  Of a request it counts where "
    "the event itself has none; of an event it is a copy of the event's own.",
}
_ANY_KEY: Final = {"type": "string", "description": "Means nothing; dead letters are independent of each other."}


def document(examples: dict[str, list[Any]]) -> dict[str, Any]:
    """AsyncAPI 3.0.0.  `examples` maps a message to its worked examples as structured CloudEvents."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Reminder gateway on Kafka",
            "version": "1.0.0",
            "description": "Requests in, statuses and dead letters out.  Delivery is at least once in both directions: "
            "`(source, id)` is the idempotency key of a request; an event is known by its `id`, and a "
            "reminder's events are ordered by `seq`.  Nothing that goes out carries personal data.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": STRUCTURED,
        "channels": {
            "requests": _channel(REQUESTS_TOPIC, "What upstream services hand over.", *_modes(REQUESTED, CANCELLED)),
            "repayments": _channel(
                REPAYMENTS_TOPIC,
                "What a lender's core knows anyway.  Facts may come in any order and any number of times: of "
                "each thing that can be known the latest `as_of` counts.  A source's heartbeats go to every "
                "partition.",
                *_modes(*REPAYMENTS),
            ),
            "events": _channel(
                EVENTS_TOPIC,
                "What became of each request, and what borrowers say back.",
                *map(_message_name, (STATUS, *_CONTACTS)),
            ),
            "deadletters": _channel(DEADLETTERS_TOPIC, "Records that became no command.", _message_name(DEADLETTER)),
        },
        "operations": {
            "takeRequests": _operation("receive", "requests", "The gateway reads requests and cancels."),
            "takeFacts": _operation("receive", "repayments", "The gateway reads facts, and plans reminders by them."),
            "tellStatus": _operation("send", "events", "The gateway tells every request's way and end."),
            "tellContact": _operation("send", "events", "The gateway tells what a borrower said back."),
            "tellDeadLetter": _operation("send", "deadletters", "The gateway tells why a record was refused."),
        },
        "components": {
            "messages": {
                **_both_modes(REQUESTED, "A reminder to be made.", examples),
                **_both_modes(CANCELLED, "A stop; it beats every send that comes after it.", examples),
                **{
                    name: message
                    for each, type_ in FACT_TYPES.items()
                    for name, message in _both_modes(each, _first_line(type_), examples).items()
                },
                **_both_modes(WATERMARK, _first_line(REPAYMENTS[WATERMARK]), examples, _BEAT_KEY),
                _message_name(STATUS): _structured(STATUS, "A reminder's state, or an answer.", _EVENT_KEY, examples),
                **{
                    _message_name(name): _structured(name, summary, _CONTACT_KEY, examples)
                    for name, summary in _CONTACTS.items()
                },
                _message_name(DEADLETTER): _structured(DEADLETTER, "A refused record.", _ANY_KEY, examples),
            },
            "schemas": {
                **components(list(MESSAGES.values()), REF),
                **{
                    f"{name_of(type_)}Event": envelope(name, REF.format(name=name_of(type_)))
                    for name, type_ in MESSAGES.items()
                },
            },
        },
    }


def _first_line(type_: type) -> str:
    return (type_.__doc__ or "").strip().split("\n", 1)[0]


def _message_name(type_name: str, mode: str = "") -> str:
    return name_of(MESSAGES[type_name]) + mode


def _modes(*type_names: str) -> list[str]:
    return [_message_name(type_name, mode) for type_name in type_names for mode in ("", "Binary")]


def _channel(topic: str, description: str, *messages: str) -> dict[str, Any]:
    return {
        "address": topic,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _both_modes(
    type_name: str, summary: str, examples: dict[str, list[Any]], key: dict[str, Any] = _REQUEST_KEY
) -> dict[str, Any]:
    return {
        _message_name(type_name): _structured(type_name, summary, key, examples),
        _message_name(type_name, "Binary"): _binary(type_name, summary, key, examples),
    }


def _structured(type_name: str, summary: str, key: dict[str, Any], examples: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "name": type_name,
        "summary": summary,
        "contentType": STRUCTURED,
        "headers": {
            "type": "object",
            "properties": {"content-type": {"type": "string", "pattern": f"^{STRUCTURED}"}, "traceparent": _TRACE},
        },
        "payload": {"$ref": REF.format(name=f"{_message_name(type_name)}Event")},
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
        "examples": [{"payload": event} for event in examples.get(type_name, [])],
    }


def _binary(type_name: str, summary: str, key: dict[str, Any], examples: dict[str, list[Any]]) -> dict[str, Any]:
    """CloudEvents Kafka binding 1.0, §3.2: the attributes are headers, the value is the data alone."""
    required = {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "minLength": 1, "maxLength": 256},
        "ce_source": {"type": "string", "minLength": 1, "maxLength": 256},
        "ce_type": {"const": type_name},
    }
    optional = {
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_traceparent": {"type": "string"},
        "content-type": {"type": "string"},
        "traceparent": _TRACE,
    }
    return {
        "name": f"{type_name} (binary mode)",
        "summary": summary,
        "contentType": BINARY,
        "headers": {"type": "object", "properties": {**required, **optional}, "required": list(required)},
        "payload": {"$ref": REF.format(name=_message_name(type_name))},
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
        "examples": [
            {"headers": _binary_headers(event), "payload": event["data"]} for event in examples.get(type_name, [])
        ],
    }


def _binary_headers(event: dict[str, Any]) -> dict[str, str]:
    attributes = {f"ce_{key}": value for key, value in event.items() if key not in ("data", "datacontenttype")}
    return {**attributes, "content-type": BINARY}
