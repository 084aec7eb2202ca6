"""The HTTP side as an OpenAPI 3.1 document: the public listener and the internal one."""

from __future__ import annotations

from typing import Any, Final

from schemas.messages import PushEvent
from schemas.shapes import PUSH_EVENT, components, name_of
from schemas.vocabulary import Mode

REF: Final = "#/components/schemas/{name}"
TOO_LARGE: Final = "Too large."
NO_HTTP: Final = "Not HTTP as we can read it."
TOO_SLOW: Final = "The body did not come in time."
COMPRESSED: Final = "Compressed: it must come as it is."
SEND_AGAIN: Final = "It could not be stored: send it again."

_PROVIDER: Final = {
    "name": "provider",
    "in": "path",
    "required": True,
    "description": "The provider's name in the configuration.",
    "schema": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
}
_TOKEN: Final = {
    "name": "token",
    "in": "path",
    "required": True,
    "description": "The unguessable part of the callback URL; never logged, and two are valid while it rotates.",
    "schema": {"type": "string"},
}
_ATTEMPT: Final = {
    "name": "attempt",
    "in": "path",
    "required": True,
    "description": "The attempt's reference, where the provider takes a callback URL per message.",
    "schema": {"type": "string", "pattern": "^[0-9a-hjkmnp-tv-z]{13}$"},
}


def document(examples: dict[str, list[Any]]) -> dict[str, Any]:
    """OpenAPI 3.1.0.  `examples` maps a message to its worked examples."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Reminder gateway over HTTP",
            "version": "1.0.0",
            "description": "Two listeners.  The public one takes what providers and the lender's app tell; the "
            "internal one is for the platform and is never exposed.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Wherever the listener of the operation's tag is bound."}],
        "tags": [
            {"name": "public", "description": "The public listener."},
            {"name": "internal", "description": "The internal listener."},
        ],
        "paths": {
            "/callbacks/{provider}/{token}": {
                "parameters": [_PROVIDER, _TOKEN],
                "post": _callback("takeCallback"),
            },
            "/callbacks/{provider}/{token}/{attempt}": {
                "parameters": [_PROVIDER, _TOKEN, _ATTEMPT],
                "post": _callback("takeAttemptCallback"),
            },
            "/events/push": {"post": _push_event(examples.get(PUSH_EVENT, []))},
            "/livez": {"get": _livez()},
            "/readyz": {"get": _readyz()},
            "/metrics": {"get": _metrics()},
        },
        "components": {
            "schemas": {
                **components([PushEvent], REF),
                "Readiness": {
                    "title": "Readiness",
                    "type": "object",
                    "properties": {
                        "ready": {"type": "boolean"},
                        "reasons": {
                            "description": "Why it is not ready, by component; empty when it is.",
                            "type": "object",
                            "additionalProperties": {"type": "string"},
                        },
                        "mode": {
                            "description": "Whom it may reach.",
                            "type": "string",
                            "enum": [each.value for each in Mode],
                        },
                    },
                    "required": ["ready", "reasons", "mode"],
                },
            },
            "securitySchemes": {
                "appToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The lender's token for its app's backend; two are valid while it rotates.",
                }
            },
        },
    }


def _callback(operation: str) -> dict[str, Any]:
    return {
        "tags": ["public"],
        "operationId": operation,
        "summary": "A provider's receipt, reply or key press, in the provider's own format.",
        "description": "The raw bytes are authenticated before they are read: by the vendor's signature where there is "
        "one, else by the token in the path.  Stored before it is answered; a repeat is answered like "
        "the first and changes nothing.",
        "security": [],
        "requestBody": {"content": {"*/*": {}}},
        "responses": {
            "2XX": {"description": "Stored, now or before.  Status and body are what the provider expects."},
            "400": {"description": NO_HTTP},
            "401": {"description": "Not from the provider: signature missing, wrong or too old."},
            "404": {"description": "No such provider or token."},
            "408": {"description": TOO_SLOW},
            "413": {"description": TOO_LARGE},
            "415": {"description": COMPRESSED},
            "503": {"description": SEND_AGAIN},
        },
    }


def _push_event(examples: list[Any]) -> dict[str, Any]:
    return {
        "tags": ["public"],
        "operationId": "tellPushEvent",
        "summary": "The lender's app tells that a push arrived or was opened.",
        "description": "Push services send no receipts, so this is the only proof of delivery.  Repeats are harmless.",
        "security": [{"appToken": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": REF.format(name=name_of(PushEvent))},
                    "examples": {f"example{number}": {"value": value} for number, value in enumerate(examples, 1)},
                }
            },
        },
        "responses": {
            "204": {"description": "Stored, now or before."},
            "400": {"description": "Not a push event."},
            "401": {"description": "Token missing or wrong."},
            "404": {"description": "No push of ours has this attempt."},
            "408": {"description": TOO_SLOW},
            "413": {"description": TOO_LARGE},
            "415": {"description": COMPRESSED},
            "503": {"description": SEND_AGAIN},
        },
    }


def _internal(operation: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"tags": ["internal"], "operationId": operation, "summary": summary, "security": [], "responses": responses}


def _livez() -> dict[str, Any]:
    dead = {"description": "It is stuck and should be restarted."}
    return _internal("livez", "Is the process alive?", {"200": {"description": "Alive."}, "503": dead})


def _readyz() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF.format(name="Readiness")}}}
    return _internal(
        "readyz",
        "Can it do its work?",
        {
            "200": {"description": "Ready.", "content": content},
            "503": {"description": "Not ready; the body says why.", "content": content},
        },
    )


def _metrics() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return _internal("metrics", "Prometheus metrics.", {"200": {"description": "The metrics.", "content": text}})
