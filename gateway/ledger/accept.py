"""Requests become reminders: idempotency keys, tombstones, the business key, the first state, the first event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.ids import to_reference
from gateway.ledger import frozen, outbox, tombstones
from gateway.ledger.claims import FRONT, Place
from gateway.ledger.commands import Letter, Request, Validation
from gateway.ledger.database import Connection
from gateway.ledger.freezes import Freezes
from gateway.ledger.standing import LADDER_CHANNEL, Rules
from gateway.ledger.tombstones import Stone
from schemas.messages import EVENTS_TOPIC, ReminderStatus
from schemas.vocabulary import Answer, Lane, Reason, ReminderState

_INBOX: Final = """
insert into inbox (key, hash, reminder) select * from unnest($1::inbox[])
on conflict (key) do nothing returning reminder
"""
# A second statement: the first does not see rows another transaction has just inserted.
_KNOWN: Final = "select key, hash, reminder from inbox where key = any($1::bytea[])"

_NAMES: Final = "select id, lender, source, request_id from reminder where id = any($1::bigint[])"

_HELD: Final = "select key from subject where key = any($1::bytea[]) and unreadable_stop_at is not null"

_STAGES: Final = """
insert into stage_key (key, reminder) select * from unnest($1::stage_key[])
on conflict (key) do nothing returning reminder
"""
_STAGE_OWNERS: Final = "select key, reminder from stage_key where key = any($1::bytea[])"

_BUSY_LANES: Final = """
select lane from unnest($1::lane[], $3::timestamptz[], $4::bigint[]) as i(lane, since, id)
where exists (
    select 1 from due d where d.lane = i.lane and d.due_at <= $2 and (d.due_at, d.id) >= (i.since, i.id))
"""

_BIRTHS: Final = """
with i as (
    select * from unnest($1::planned_row[])
), facts as (
    insert into reminder (id, subject, source, request_id, lender, borrower, debt, instalment, product, stage, step,
                          stage_key, template, lane, ladder, send_at, not_after, state_as_of, received_at, topic,
                          partition, "offset", sealed, traceparent, occasion)
    select id, subject, source, request_id, lender, borrower, debt, instalment, product, stage, step,
           stage_key, template, lane, ladder, send_at, not_after, state_as_of, $5, topic, partition, "offset", sealed,
           traceparent, occasion
    from i
), living as (
    insert into live (id, subject, lender, source, request_id, stage, lane, ladder, not_after, state, reason, seq, at,
                      resume_at, traceparent, occasion)
    select id, subject, lender, source, request_id, stage, lane, ladder, not_after, state, reason, 1, at, resume_at,
           traceparent, occasion
    from i where queue <> 'none'
), ended as (
    insert into ending (reminder, state, reason, seq, at) select id, state, reason, 1, at from i where queue = 'none'
), dues as (
    insert into due (lane, due_at, id) select lane, at, id from i where queue = 'due'
), timers as (
    insert into timer (at, id) select at, id from i where queue = 'timer'
), claims as (
    insert into claim (id, worker, lane, due_at, token) select id, $2, lane, at, $3 from i where queue = 'claim'
)
insert into outbox (bucket, reminder, seq, id, topic, payload, traceparent)
select id & 255, id, 1, 0, $4, event, traceparent from i
"""

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Slots:
    """How many new rows this process can take at once, already claimed; the fast path past the queue.

    `since` are places before which nothing waits, as far as this process knows.
    """

    worker: int
    token: int
    free: int
    since: Mapping[Lane, Place] = field(default_factory=dict)


class Accepted(Struct, frozen=True, gc=False):
    """A request that became a reminder, and the state it was born in."""

    request: Request
    state: ReminderState
    reason: Reason | None


@dataclass(slots=True)
class Written:
    accepted: list[Accepted] = field(default_factory=list)
    claimed: list[Request] = field(default_factory=list)
    duplicates: list[Request] = field(default_factory=list)
    conflicts: list[Request] = field(default_factory=list)


class _Birth(Struct, gc=False):
    request: Request
    state: ReminderState
    reason: Reason | None
    at: dt.datetime
    queue: str
    duplicate_of: int | None = None
    resume_at: dt.datetime | None = None
    freeze: int | None = None  # the id of what holds it


async def write(
    connection: Connection,
    requests: Sequence[Request],
    now: dt.datetime,
    in_force: Freezes,
    rules: Rules,
    slots: Slots | None,
) -> Written:
    """Writes requests whose subjects are locked.  Known keys are duplicates or conflicts; the first is untouched."""
    written = Written()
    fresh = await _new_keys(connection, requests, written, now)
    if not fresh:
        return written
    births = await _births(connection, fresh, now, in_force, rules)
    births = await _fast_path(connection, births, now, slots)
    written.accepted = await _write_births(connection, births, now, slots)
    written.claimed = [each.request for each in births if each.queue == "claim"]
    return written


async def bear(
    connection: Connection, requests: Sequence[Request], now: dt.datetime, in_force: Freezes, rules: Rules
) -> list[Accepted]:
    """Writes requests that nobody has sent: a plan makes them, whose occasions are the keys that make them once."""
    births = await _births(connection, requests, now, in_force, rules)
    return await _write_births(connection, births, now, None)


async def _write_births(
    connection: Connection, births: Sequence[_Birth], now: dt.datetime, slots: Slots | None
) -> list[Accepted]:
    await connection.execute(
        _BIRTHS,
        [_row(each, now) for each in births],
        slots.worker if slots else None,
        slots.token if slots else None,
        EVENTS_TOPIC,
        now,
    )
    if held := [
        (each.request.id, each.freeze, each.request.lane, each.request.send_at)
        for each in births
        if each.freeze is not None
    ]:
        await frozen.enter(connection, held)
    return [Accepted(each.request, each.state, each.reason) for each in births]


async def _new_keys(
    connection: Connection, requests: Sequence[Request], written: Written, now: dt.datetime
) -> list[Request]:
    rows = await connection.fetch(_INBOX, [(each.request_key, each.hash, each.id) for each in requests])
    mine = {row[0] for row in rows}
    fresh = [each for each in requests if each.id in mine]
    if len(fresh) < len(requests):
        others = [each for each in requests if each.id not in mine]
        known = {row[0]: row for row in await connection.fetch(_KNOWN, [each.request_key for each in others])}
        for each in others:
            same = known[each.request_key][1] == each.hash
            (written.duplicates if same else written.conflicts).append(each)
        await _answer_duplicates(connection, written.duplicates, known, now)
    return fresh


async def _answer_duplicates(
    connection: Connection, duplicates: Sequence[Request], known: dict[bytes, Any], now: dt.datetime
) -> None:
    rows = []
    for each in duplicates:
        original = known[each.request_key][2]
        payload = _answer(each.lender, each.source, each.request_id, now, Answer.DUPLICATE, original)
        rows.append((original, each.id, payload, each.traceparent))
    await outbox.add(connection, rows)


async def known(connection: Connection, letters: Sequence[Letter], now: dt.datetime) -> list[Letter]:
    """Those among dead letters that are requests taken before, read again; they are answered as duplicates."""
    asked = [each.known_as[0] for each in letters if each.known_as is not None]
    if not asked:
        return []
    rows = {row[0]: row for row in await connection.fetch(_KNOWN, asked)}
    found = [
        each
        for each in letters
        if each.known_as is not None and each.known_as[0] in rows and rows[each.known_as[0]][1] == each.known_as[1]
    ]
    if found:
        originals = [rows[each.known_as[0]][2] for each in found if each.known_as is not None]
        names = {row[0]: row for row in await connection.fetch(_NAMES, originals)}
        answers = []
        for each, original in zip(found, originals, strict=True):
            _, lender, source, request_id = names[original]
            payload = _answer(lender, source, request_id, now, Answer.DUPLICATE, original)
            answers.append((original, each.id, payload, each.traceparent))
        await outbox.add(connection, answers)
    return found


async def answer_validations(connection: Connection, validations: Sequence[Validation], now: dt.datetime) -> None:
    await outbox.add(
        connection,
        [
            (
                each.id,
                each.id,
                _answer(each.lender, each.source, each.request_id, now, Answer.VALIDATED, None),
                each.traceparent,
            )
            for each in validations
        ],
    )


def _answer(lender: str, source: str, request_id: str, now: dt.datetime, kind: Answer, reminder: int | None) -> bytes:
    return _encode(
        ReminderStatus(
            lender=lender,
            source=source,
            request_id=request_id,
            at=now,
            answer=kind,
            reminder=None if reminder is None else to_reference(reminder),
        )
    )


async def _births(
    connection: Connection, fresh: Sequence[Request], now: dt.datetime, in_force: Freezes, rules: Rules
) -> list[_Birth]:
    subjects = list({each.subject for each in fresh})
    stones = await tombstones.read(connection, fresh)
    held = {row[0] for row in await connection.fetch(_HELD, subjects)}

    cancelled = {
        each.id: reason
        for each in fresh
        if each.subject in stones and (reason := tombstones.stopped(each, _stones_of(each, stones), each.request_key))
    }
    owners = await _own_stages(connection, [each for each in fresh if each.id not in cancelled])

    births = []
    for each in fresh:
        if reason := cancelled.get(each.id):
            own = reason is Reason.OPTED_OUT
            state = ReminderState.SUPPRESSED if own else ReminderState.CANCELLED
            births.append(_Birth(each, state, reason, now, "none"))
        elif (owner := owners[each.stage_key]) != each.id:
            births.append(
                _Birth(each, ReminderState.SUPPRESSED, Reason.DUPLICATE_STAGE, now, "none", duplicate_of=owner)
            )
        elif each.lacks:
            # Before everything that holds it, too: whatever else that is, is looked at again when it goes on.
            births.append(
                _Birth(each, ReminderState.HELD, Reason.FACT_MISSING, each.not_after, "timer", resume_at=each.send_at)
            )
        elif in_force.slices and (freeze := in_force.holder(_facts(each, rules))) is not None:
            births.append(
                _Birth(
                    each,
                    ReminderState.HELD,
                    Reason.FROZEN,
                    each.not_after,
                    "timer",
                    resume_at=each.send_at,
                    freeze=freeze,
                )
            )
        elif each.subject in held:
            births.append(
                _Birth(each, ReminderState.HELD, Reason.STOP_UNREADABLE, now, "timer", resume_at=each.send_at)
            )
        else:
            births.append(_Birth(each, ReminderState.SCHEDULED, None, max(each.send_at, now), "due"))
    return births


def _stones_of(
    each: Request, stones: Mapping[bytes, Sequence[tuple[Stone, dt.datetime]]]
) -> list[tuple[Stone, dt.datetime]]:
    """Those that may stop it.  A plan is made of the facts: theirs say less than it does."""
    mine = stones[each.subject]
    return [stone for stone in mine if each.occasion is None or stone[0].kind not in tombstones.OF_FACTS]


async def _own_stages(connection: Connection, requests: Sequence[Request]) -> dict[bytes, int]:
    """Who owns each business key now: one of these requests, or an earlier reminder."""
    if not requests:
        return {}
    rows = [(each.stage_key, each.id) for each in requests]
    mine = {row[0] for row in await connection.fetch(_STAGES, rows)}
    owners = {key: reminder for key, reminder in rows if reminder in mine}
    lost = [key for key, _ in rows if key not in owners]
    if lost:
        owners.update((row[0], row[1]) for row in await connection.fetch(_STAGE_OWNERS, lost))
    return owners


async def _fast_path(
    connection: Connection, births: list[_Birth], now: dt.datetime, slots: Slots | None
) -> list[_Birth]:
    """Hands due rows over already claimed where nothing older is known to wait in their lane and a slot is free."""
    if slots is None or slots.free <= 0:
        return births
    ready = [each for each in births if each.queue == "due" and each.at <= now]
    if not ready:
        return births
    lanes = sorted({each.request.lane for each in ready})
    since = [slots.since.get(each, FRONT) for each in lanes]
    found = await connection.fetch(_BUSY_LANES, lanes, now, [at for at, _ in since], [id_ for _, id_ in since])
    busy = {row[0] for row in found}
    ready.sort(key=lambda each: each.request.lane is not Lane.URGENT)
    chosen = {each.request.id for each in ready if each.request.lane not in busy}
    taken = set([each.request.id for each in ready if each.request.id in chosen][: slots.free])
    slots.free -= len(taken)
    return [
        _Birth(each.request, each.state, each.reason, each.at, "claim") if each.request.id in taken else each
        for each in births
    ]


def _facts(each: Request, rules: Rules) -> dict[str, str | None]:
    """What a freeze can name about the first contact of a request."""
    channel = LADDER_CHANNEL[each.ladder[0]]
    return {
        "source": each.source,
        "lender": each.lender,
        "product": each.product,
        "stage": each.stage,
        "template": each.template,
        "channel": channel,
        "provider": rules.route(each.lender, channel),
    }


def _row(birth: _Birth, now: dt.datetime) -> tuple[Any, ...]:
    each = birth.request
    event = _encode(
        ReminderStatus(
            lender=each.lender,
            source=each.source,
            request_id=each.request_id,
            at=now,
            reminder=to_reference(each.id),
            state=birth.state,
            reason=birth.reason,
            duplicate_of=None if birth.duplicate_of is None else to_reference(birth.duplicate_of),
        )
    )
    return (
        each.id, each.subject, each.source, each.request_id, each.lender, each.borrower, each.debt, each.instalment,
        each.product, each.stage, each.step, each.stage_key, each.template, each.lane, each.ladder, each.send_at,
        each.not_after, each.state_as_of, each.origin.topic, each.origin.partition, each.origin.offset, each.sealed,
        birth.state, birth.reason, birth.at, birth.resume_at, birth.queue, event, each.traceparent,
        each.occasion,
    )  # fmt: skip
