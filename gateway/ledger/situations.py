"""Reads reminders as they stand.  Call it under the borrower's lock when a move will follow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from gateway.ledger.database import Connection
from gateway.ledger.standing import Attempt, Queue, Situation
from schemas.vocabulary import AttemptState, Channel, Failure, Lane, Reason, ReminderState

_LIVING: Final = """
select l.id, l.subject, l.lender, l.source, l.request_id, l.stage, l.lane, l.ladder, l.not_after,
       l.state, l.reason, l.seq, l.at, l.rung, l.tries, l.rescues, l.attempt, l.closed, c.worker, c.token, l.attempts,
       l.resume_at, a.rung, a.channel, a.provider, a.state, a.intended_at, a.failure, a.final_at,
       l.traceparent, l.occasion
from unnest($1::bigint[]) as i(id)
cross join lateral (select * from live l where l.id = i.id offset 0) l
left join lateral (select c.worker, c.token from claim c where c.id = i.id offset 0) c on true
left join lateral (select * from attempt a where a.id = l.attempt offset 0) a on true
"""

_ENDED: Final = """
select r.id, r.subject, r.lender, r.source, r.request_id, r.stage, r.lane, r.ladder, r.not_after,
       e.state, e.reason, e.seq, e.at, r.traceparent, r.occasion
from unnest($1::bigint[]) as i(id)
cross join lateral (select * from ending e where e.reminder = i.id offset 0) e
cross join lateral (select * from reminder r where r.id = i.id offset 0) r
"""

_ATTEMPTS: Final = """
select a.reminder, a.id, a.rung, a.channel, a.provider, a.state, a.intended_at, a.failure, a.final_at
from unnest($1::bigint[]) as i(id)
cross join lateral (select * from attempt a where a.reminder = i.id offset 0) a order by a.id
"""

# Enum constructors cost more than a dict: these run for every row.
REMINDER_STATE: Final = {state.value: state for state in ReminderState}
ATTEMPT_STATE: Final = {state.value: state for state in AttemptState}
CHANNEL: Final = {channel.value: channel for channel in Channel}
FAILURE: Final[dict[str | None, Failure | None]] = {None: None} | {failure.value: failure for failure in Failure}
REASON: Final[dict[str | None, Reason | None]] = {None: None} | {reason.value: reason for reason in Reason}
LANE: Final = {lane.value: lane for lane in Lane}
_UNKNOWN: Final = AttemptState.UNKNOWN.value


async def attempts_of(connection: Connection, reminders: Iterable[int]) -> dict[int, list[Attempt]]:
    """Every attempt of these reminders, oldest first."""
    found: dict[int, list[Attempt]] = {}
    for row in await connection.fetch(_ATTEMPTS, list(reminders)):
        found.setdefault(row[0], []).append(_attempt(row[1], row[2:]))
    return found


async def read(connection: Connection, reminders: Iterable[int]) -> dict[int, Situation]:
    """The situation of each reminder that exists, by id.

    A living reminder with one attempt, the usual case, comes with a single query; histories and endings take more.
    """
    wanted = set(reminders)
    if not wanted:
        return {}
    situations: dict[int, Situation] = {}
    histories = []
    for row in await connection.fetch(_LIVING, list(wanted)):
        (
            id_, subject, lender, source, request_id, stage, lane, ladder, not_after, state, reason, seq, at, rung,
            tries, rescues, attempt, closed, worker, token, made, resume_at, a_rung, channel, provider, a_state,
            intended_at, failure, final_at, traceparent, occasion,
        ) = row  # fmt: skip
        if made > 1:
            histories.append(id_)
        situations[id_] = Situation(
            id_, subject, lender, source, request_id, stage, LANE[lane], ladder, not_after,
            REMINDER_STATE[state], REASON[reason], seq, at, queue_of(state, worker),
            rung, tries, rescues, attempt, REASON[closed], worker, token,
            (
                Attempt(
                    attempt, a_rung, CHANNEL[channel], provider, ATTEMPT_STATE[a_state], intended_at, FAILURE[failure],
                    final_at,
                ),
            )
            if made == 1
            else (),
            resume_at,
            a_state == _UNKNOWN,
            traceparent,
            occasion,
        )  # fmt: skip
    if ended := wanted - situations.keys():
        situations |= await _ended(connection, ended)
        histories += ended
    if histories:
        for id_, attempts in (await attempts_of(connection, histories)).items():
            situations[id_].attempts = tuple(attempts)
            situations[id_].unsettled = any(each.state is AttemptState.UNKNOWN for each in attempts)
    return situations


async def _ended(connection: Connection, reminders: Iterable[int]) -> dict[int, Situation]:
    found = {}
    for row in await connection.fetch(_ENDED, list(reminders)):
        (
            id_, subject, lender, source, request_id, stage, lane, ladder, not_after, state, reason, seq, at,
            traceparent, occasion,
        ) = row  # fmt: skip
        found[id_] = Situation(
            id_, subject, lender, source, request_id, stage, LANE[lane], ladder, not_after,
            REMINDER_STATE[state], REASON[reason], seq, at, None, traceparent=traceparent,
            occasion=occasion,
        )  # fmt: skip
    return found


def _attempt(id_: int, columns: tuple[Any, ...]) -> Attempt:
    rung, channel, provider, state, intended_at, failure, final_at = columns
    return Attempt(id_, rung, CHANNEL[channel], provider, ATTEMPT_STATE[state], intended_at, FAILURE[failure], final_at)


def queue_of(state: str, worker: int | None) -> Queue:
    """The queue a live row's state implies; the invariant that exactly one row stands there is tested, not assumed."""
    if worker is not None:
        return Queue.CLAIM
    return Queue.DUE if state == "scheduled" else Queue.TIMER
