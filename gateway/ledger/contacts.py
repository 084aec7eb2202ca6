"""What borrowers say back: each told upstream once, and what they ask for done in the same transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from gateway.ids import to_reference
from gateway.ledger import outbox, stops
from gateway.ledger.database import Connection
from gateway.ledger.standing import Attempt, Move, Rules, Situation
from schemas.messages import (
    CALLBACK_REQUESTED,
    OPTED_OUT,
    REPLIED,
    WRONG_PARTY,
    CallbackRequested,
    ContactReplied,
    OptedOut,
    WrongParty,
)
from schemas.vocabulary import Choice

_encode = msgspec.json.Encoder().encode
_Wish = CallbackRequested | OptedOut | WrongParty
_TOLD: dict[str, tuple[str, type[_Wish]]] = {
    Choice.CALL_BACK: (CALLBACK_REQUESTED, CallbackRequested),
    Choice.STOP: (OPTED_OUT, OptedOut),
    Choice.NOT_ME: (WRONG_PARTY, WrongParty),
}


class Heard(Struct, frozen=True, gc=False):
    """A reply, or a key press with its `choice`, by the id of its receipt.

    `was` and `attempt` are what it belongs to, where that is known.
    """

    id: int
    provider: str
    at: dt.datetime
    choice: str | None = None
    was: Situation | None = None
    attempt: Attempt | None = None


async def write(connection: Connection, heard: Sequence[Heard], now: dt.datetime, rules: Rules) -> list[Move]:
    """Tells of what was heard and obeys it; the caller holds the locks of everybody it concerns.

    Repeatable: an event has the id of its receipt, and a stop that stands already stops nothing more.
    """
    if not heard:
        return []
    replies = [each for each in heard if each.choice is None]
    await outbox.add(connection, [_row(each, _reply(each)) for each in replies], REPLIED)
    for choice, (type_, event) in _TOLD.items():
        wished = [each for each in heard if each.choice == choice]
        await outbox.add(connection, [_row(each, _wish(each, event)) for each in wished], type_)
    since: dict[bytes, dt.datetime] = {}
    for each in heard:
        if each.choice == Choice.STOP and each.was is not None:
            since[each.was.subject] = max(each.at, since.get(each.was.subject, each.at))
    return await stops.opt_out(connection, since, now, rules)


def _row(heard: Heard, event: Struct) -> outbox.Row:
    was = heard.was
    if was is None:
        return heard.id, heard.id, _encode(event), None
    return was.id, heard.id, _encode(event), was.traceparent


def _reply(heard: Heard) -> ContactReplied:
    reply, was, attempt = to_reference(heard.id), heard.was, heard.attempt
    if was is None or attempt is None:
        return ContactReplied(reply, heard.provider, heard.at)
    return ContactReplied(
        reply, heard.provider, heard.at, attempt.channel, was.lender, was.source, was.request_id,
        to_reference(was.id), to_reference(attempt.id),
    )  # fmt: skip


def _wish(heard: Heard, event: type[_Wish]) -> _Wish:
    was, attempt = heard.was, heard.attempt
    assert was is not None
    assert attempt is not None
    return event(
        was.lender, was.source, was.request_id, to_reference(was.id), to_reference(attempt.id),
        attempt.channel, heard.provider, heard.at,
    )  # fmt: skip
