"""Record and rescue: the outcome of attempts, from the worker that made them or in place of one that died."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from gateway.ledger import claims, follow, freezes, merging, moves, pacing, queueing, situations, subjects, writing
from gateway.ledger.database import Connection
from gateway.ledger.standing import Attempt, Move, Rules
from gateway.ledger.states import attempt_moves
from schemas.vocabulary import AttemptState, Failure, Reason, ReminderState

Jitter = Callable[[], float]


class Outcome(Struct, frozen=True, gc=False):
    """What one attempt came to.  `ref` is the provider's message id; `retry_after` in seconds."""

    attempt: int
    reminder: int
    subject: bytes
    provider: str
    state: AttemptState
    failure: Failure | None = None
    code: str | None = None
    ref: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision not to send now; one of the last fields says which."""

    reminder: int
    token: int
    rule: str
    inputs: str
    hold: Reason | None = None
    suppress: Reason | None = None
    cancel: Reason | None = None
    expire: bool = False
    skip: Reason | None = None
    defer_until: dt.datetime | None = None
    max_fact_age: dt.timedelta | None = None  # of a hold for stale facts

    @property
    def name(self) -> str:
        for name in ("expire", "hold", "suppress", "cancel", "skip"):
            if getattr(self, name):
                return name
        return "defer"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The attempts that moved, and the reminders' moves."""

    attempts: frozenset[int]
    moves: list[Move]


_DECISIONS: Final = """
insert into decision (reminder, at, verdict, rule, inputs)
select i.reminder, $1, i.verdict, i.rule, i.inputs
from unnest($2::bigint[], $3::text[], $4::text[], $5::jsonb[]) as i(reminder, verdict, rule, inputs)
"""


async def record(
    connection: Connection, outcomes: Sequence[Outcome], now: dt.datetime, rules: Rules, jitter: Jitter
) -> Recorded:
    """Records outcomes, however late: the attempt moves by its rank, the reminder if the attempt is its current one.

    Repeatable: an attempt that moved already does not move again.  The provider's id is kept in any case.
    """
    await subjects.lock(connection, (outcome.subject for outcome in outcomes))
    found = await situations.read(connection, (outcome.reminder for outcome in outcomes))
    changed: dict[int, dict[int, Attempt]] = {}
    retry_after: dict[int, float] = {}
    for outcome in outcomes:
        was = found[outcome.reminder]
        attempt = was.find(outcome.attempt)
        if attempt is None or not attempt_moves(attempt.state, outcome.state):
            continue
        attempt.become(outcome.state, outcome.failure, outcome.code, now)
        changed.setdefault(was.id, {})[attempt.id] = attempt
        if outcome.retry_after is not None and attempt.id == was.attempt:
            retry_after[was.id] = outcome.retry_after
    planned = []
    for reminder, attempts in changed.items():
        move = follow.after_attempts(
            found[reminder], attempts.values(), now, rules, retry_after=retry_after.get(reminder), jitter=jitter()
        )
        if move is not None:
            planned.append(move)
    changes = [writing.change_of(each, now) for attempts in changed.values() for each in attempts.values()]
    refs = [(each.provider, each.ref, each.attempt) for each in outcomes if each.ref is not None]
    planned += await moves.apply(connection, planned, changes, refs, [found[each] for each in changed])
    await pacing.give_back(connection, found, changed, rules)
    return Recorded(frozenset(change[0] for change in changes), planned)


async def settle(
    connection: Connection, worker: int, verdicts: Sequence[Verdict], now: dt.datetime, rules: Rules
) -> list[Move]:
    """Applies verdicts other than send to claims this worker still has, and stores each as evidence."""
    await subjects.lock_reminders(connection, [verdict.reminder for verdict in verdicts])
    found = await situations.read(connection, [verdict.reminder for verdict in verdicts])
    planned: list[Move] = []
    changes: list[writing.AttemptChange] = []
    kept: list[Verdict] = []
    holders: Mapping[int, int] = {}
    if frozen := {each.reminder: found[each.reminder] for each in verdicts if each.hold is Reason.FROZEN}:
        # Lifted meanwhile: then nobody holds it, and it waits for its turn.
        holders = await freezes.holders(connection, frozen, await freezes.read(connection, now), rules)
    for verdict in verdicts:
        was = found[verdict.reminder]
        if was.worker != worker or was.token != verdict.token or was.state is not ReminderState.SCHEDULED:
            continue
        kept.append(verdict)
        if verdict.expire:
            planned.append(follow.expire(was, now))
            changes += [writing.change_of(each, now) for each in follow.close_open(was, now)]
        elif verdict.suppress is not None:
            planned.append(follow.suppress(was, verdict.suppress, now, rules))
        elif verdict.cancel is not None:
            move, _ = follow.cancel(was, verdict.cancel, now, rules)
            assert move is not None  # it is scheduled
            planned.append(move)
        elif verdict.skip:
            planned.append(follow.skip(was, verdict.skip, now, rules))
        elif verdict.hold is Reason.FROZEN:
            planned.append(queueing.freeze(was, now, holders.get(was.id, freezes.OF_NONE)))
        elif verdict.hold is Reason.STALE_FACTS:
            assert verdict.max_fact_age is not None
            planned.append(queueing.stale(was, now, verdict.max_fact_age))
        elif verdict.hold is not None:
            recheck = now + rules.freeze_recheck if verdict.hold in RECHECKED else was.not_after
            planned.append(queueing.hold(was, verdict.hold, now, recheck))
        else:
            planned.append(queueing.defer(was, now, verdict.defer_until or now))
    planned += await moves.apply(connection, planned, changes)
    if kept:
        await connection.execute(
            _DECISIONS,
            now,
            [each.reminder for each in kept],
            [each.name for each in kept],
            [each.rule for each in kept],
            [each.inputs for each in kept],
        )
    return planned


async def never(connection: Connection, reminder: int, reason: Reason, now: dt.datetime, rules: Rules) -> list[Move]:
    """Its lender says that it is not to be told of: it ends, where it waits on another one's message, and whoever was
    to tell of it is taken out of the hands it is in.  Repeatable.
    """
    await subjects.lock_reminders(connection, [reminder])
    found = await situations.read(connection, [reminder])
    waits = [was for was in found.values() if was.reason is Reason.MERGED_INTO and was.queue is not None]
    planned = [move for was in waits if (move := follow.cancel(was, reason, now, rules)[0]) is not None]
    planned += await moves.apply(connection, planned)
    planned += await merging.forget(connection, [reminder], now)
    if waits:
        columns = [[reminder], ["cancel"], ["question_never"], ["{}"]]
        await connection.execute(_DECISIONS, now, *columns)
    return planned


# Holds whose cause can go away by itself and that nothing else looks after; the others end with an operator or at
# not_after.
RECHECKED: Final = frozenset({Reason.STOP_UNREADABLE})


async def rescue(
    connection: Connection, worker: int, now: dt.datetime, rules: Rules, jitter: Jitter, limit: int = 500
) -> list[Move]:
    """Takes a dead worker's claims back: un-intended ones become due again, intended attempts become unknown.

    The caller found the lease ended; renewals of an ended lease fail, so it stays dead.
    """
    held = await claims.held_by(connection, worker)
    return await _take_back(connection, worker, dict(sorted(held.items())[:limit]), now, rules, jitter)


async def give_back(
    connection: Connection, worker: int, forgotten: Mapping[int, int], now: dt.datetime, rules: Rules, jitter: Jitter
) -> list[Move]:
    """A living worker returns claims (token by reminder) that it has in the ledger but not in memory."""
    return await _take_back(connection, worker, forgotten, now, rules, jitter)


async def _take_back(
    connection: Connection, worker: int, tokens: Mapping[int, int], now: dt.datetime, rules: Rules, jitter: Jitter
) -> list[Move]:
    await subjects.lock_reminders(connection, list(tokens))
    planned = []
    changes = []
    found = await situations.read(connection, tokens)
    for was in found.values():
        if was.worker != worker or was.token != tokens[was.id]:
            continue
        current = None if was.attempt is None else was.find(was.attempt)
        if was.state is ReminderState.SCHEDULED:
            planned.append(queueing.rescue(was, now, rules))
        elif current is not None:
            if current.state is AttemptState.INTENDED:
                current.become(AttemptState.UNKNOWN, Failure.AMBIGUOUS, "worker_lost", now)
                changes.append(writing.change_of(current, now))
            move = follow.after_attempt(was, current, now, rules, jitter=jitter())
            if move is not None:
                planned.append(move)
    planned += await moves.apply(connection, planned, changes, changed=found.values())
    return planned
