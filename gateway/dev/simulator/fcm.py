"""Firebase Cloud Messaging, HTTP v1, and the lender's app on the phone.

FCM sends no receipts.  What the phone did is told by the app itself, so the simulator plays the app too: it posts
`{attempt, kind, at}` to the app-events URL with a bearer token, `attempt` being the message's `data.mid`.
Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import ClientTimeout

from gateway.dev.simulator.codes import APP_EVENTS, FCM_PLAIN
from gateway.dev.simulator.config import ReceiptSettings
from gateway.dev.simulator.credentials import Credentials
from gateway.dev.simulator.names import Kind, Vendor
from gateway.dev.simulator.oauth import TokenOffice
from gateway.dev.simulator.script import ReceiptPlan
from gateway.dev.simulator.wire import Incoming, Order, Post, Refusal, Reply, Route, json_reply

MAX_PAYLOAD = 4096
APP_RETRIES = (1.0, 5.0, 25.0)  # the app is ours: a few patient tries
_TARGETS = ("token", "fid", "topic", "condition")
_OBJECTS = ("notification", "data", "android")
_FIELDS = frozenset({"name", *_OBJECTS, "webpush", "apns", "fcm_options", *_TARGETS})


class Fcm:
    """One project."""

    vendor = Vendor.FCM

    def __init__(self, credentials: Credentials, office: TokenOffice, settings: ReceiptSettings) -> None:
        self._project = credentials.google_project_id
        self._app_token = credentials.app_events_token
        self._office = office
        self._settings = settings
        self.app_events_url = settings.app_events_url
        self.path = f"/v1/projects/{self._project}/messages:send"

    def read(self, incoming: Incoming) -> Order | Refusal:
        if not self._office.knows(incoming.headers.get("authorization", ""), incoming.now):
            return Refusal("UNAUTHENTICATED")
        if incoming.path != self.path:
            return Refusal("PERMISSION_DENIED")
        try:
            call = msgspec.json.decode(incoming.body)
            message = call["message"]
            problem = _problem(call, message)
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError):
            return Refusal("BAD_PAYLOAD")
        if problem:
            return Refusal("BAD_PAYLOAD", message=f"Invalid JSON payload received. {problem}")
        shown, data, android = (message.get(name, {}) for name in _OBJECTS)
        tag = android["notification"].get("tag") if isinstance(android.get("notification"), dict) else None
        return Order(
            recipient=next(message[target] for target in _TARGETS if target in message),
            reference=data.get("mid"),
            text_or_template="\n".join(str(shown[part]) for part in ("title", "body") if shown.get(part)),
            params={"data": data, "android": android},
            kind=Kind.VALIDATED if call.get("validate_only") else Kind.ACCEPTED,
            replaces=tag if isinstance(tag, str) else None,
        )

    def message_id(self, seed: bytes) -> str:
        return f"projects/{self._project}/messages/0:{int.from_bytes(seed[:6], 'big')}%{seed[6:].hex()}"

    def accepted(self, order: Order, message_id: str, now: datetime) -> Reply:
        return json_reply(200, {"name": message_id})

    def refused(self, refusal: Refusal) -> Reply:
        fault, code = refusal.fault(self.vendor), refusal.code
        error: dict[str, Any] = {"code": fault.status, "message": fault.message, "status": fault.canonical or code}
        if code == "BAD_PAYLOAD":
            violation = {"field": "message", "description": fault.message}
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]
        elif code not in FCM_PLAIN:
            kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
            error["details"] = [{"@type": kind, "errorCode": code}]
        return json_reply(fault.status, {"error": error}, refusal.retry_after)

    def posts(self, order: Order, message_id: str, plan: ReceiptPlan) -> list[Post]:
        if self.app_events_url is None or order.reference is None:
            return []
        route = Route(
            vendor=self.vendor,
            url=self.app_events_url,
            pack=self._pack,
            delays=tuple(self._settings.retry_scale * delay for delay in APP_RETRIES),
            timeout=ClientTimeout(total=15),
            again=lambda answer: not isinstance(answer, int) or answer >= 500,
        )

        def post(kind: str) -> Post:
            def item(now: datetime) -> dict[str, Any]:
                return {"attempt": order.reference, "kind": kind, "at": now.isoformat(timespec="milliseconds")}

            return Post(route, message_id, order.reference, kind, item)

        return [post(kind) for kind in APP_EVENTS.get(plan.outcome, ())]

    def _pack(self, items: list[Any]) -> tuple[Mapping[str, str], bytes]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._app_token}"}
        return headers, msgspec.json.encode(items[0])


def _problem(call: Any, message: Any) -> str | None:
    """What Google would object to in the payload, or None."""
    if not isinstance(message, dict) or any(not isinstance(message.get(name, {}), dict) for name in _OBJECTS):
        return "Starting an object on a scalar field"
    unknown = (set(call) - {"message", "validate_only"}) | (set(message) - _FIELDS)
    if unknown:
        return f"Unknown name {sorted(unknown)[0]!r}"
    targets = [message[target] for target in _TARGETS if target in message]
    if len(targets) != 1 or not isinstance(targets[0], str) or not targets[0]:
        return "Exactly one of token, fid, topic or condition must be set"
    data = message.get("data", {})
    if not all(isinstance(value, str) for value in data.values()):
        return "data values must be strings"
    if any(key in ("from", "message_type") or key.startswith(("google", "gcm")) for key in data):
        return "Invalid data payload key"
    visible = msgspec.json.encode([message.get("notification"), data])
    return "Message is too big" if len(visible) > MAX_PAYLOAD else None
