"""JSON Schema (draft 2020-12) of the message types, as values: what all three documents are made of."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas import repayments, vocabulary
from schemas.messages import DATA_TYPES, AttemptSummary, CloudEvent, DeadLetter, ReminderStatus
from schemas.repayments import REPAYMENTS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
PUSH_EVENT: Final = "push-event"

# Everything on Kafka, by its type.
MESSAGES: Final[dict[str, type[Struct]]] = {**DATA_TYPES, **REPAYMENTS}

# What we send never holds a null: a field without a value is left out.
OUTGOING: Final = {type_.__name__ for type_ in (ReminderStatus, AttemptSummary, DeadLetter)}

# What a type says in words because its fields cannot: exactly one of `state` and `answer`, and only a state has `seq`.
RULES: Final[dict[str, dict[str, Any]]] = {
    "ReminderStatus": {
        "oneOf": [
            {"required": ["state", "seq", "reminder"], "not": {"required": ["answer"]}},
            {"required": ["answer"], "not": {"anyOf": [{"required": ["state"]}, {"required": ["seq"]}]}},
        ]
    },
}


def name_of(type_: type) -> str:
    return type_.__name__


def components(types: Sequence[type], ref: str) -> dict[str, dict[str, Any]]:
    """The schemas of `types` and of everything they name, by type name; `ref` is where they refer to each other."""
    _, found = msgspec.json.schema_components(types, ref_template=ref)
    return {name: _tidy(name, schema) for name, schema in found.items()}


def envelope(type_name: str, data: str) -> dict[str, Any]:
    """The CloudEvents 1.0 envelope (structured mode) of one message; `data` is the reference to its schema."""
    _, found = msgspec.json.schema_components([CloudEvent], ref_template="{name}")
    fields = found["CloudEvent"]["properties"]
    return {
        "title": f"{type_name} as a CloudEvent",
        "description": "CloudEvents 1.0, structured mode.  Extension attributes are ignored, all but traceparent.",
        "type": "object",
        "properties": {
            **fields,
            "specversion": {"const": "1.0"},
            "type": {"const": type_name},
            "data": {"$ref": data},
        },
        "required": ["specversion", "id", "source", "type", "data"],
    }


def _tidy(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    tidy: dict[str, Any] = _without_discriminator(schema)
    words = getattr(vocabulary, name, None) or getattr(repayments, name, None)
    if isinstance(words, type) and issubclass(words, Enum):
        tidy["type"] = "string"
        tidy["enum"] = [word.value for word in words]  # in the order they were written, which tells more than a-z
    if name in OUTGOING:
        tidy["properties"] = {field: _never_null(value) for field, value in tidy["properties"].items()}
    return {**tidy, **RULES.get(name, {})}


def _without_discriminator(schema: Any) -> Any:
    """OpenAPI's keyword, unknown to JSON Schema and of another type in AsyncAPI; `kind` is a constant anyway."""
    if isinstance(schema, dict):
        return {key: _without_discriminator(value) for key, value in schema.items() if key != "discriminator"}
    return [_without_discriminator(item) for item in schema] if isinstance(schema, list) else schema


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else schema
