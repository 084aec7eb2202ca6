"""Mistakes in the ledger: what requests, workers, stops, freezes, receipts and hands do to it."""

from __future__ import annotations

from typing import Any, Final

from gateway.ledger import (
    follow,
    freezes,
    frozen,
    intend,
    moves,
    outcomes,
    queueing,
    receipts,
    redrives,
    releases,
    stops,
    subjects,
    timers,
    tombstones,
    unknowns,
    volume,
    writing,
)  # fmt: skip
from schemas.vocabulary import AttemptState, Disposition, Failure, Found
from tests.faults.unfenced import without_fences
from tests.mutants.planting import Change, Loose, Text, Value


async def _no_freezes(connection: Any, now: Any) -> freezes.Freezes:
    return freezes.Freezes({})


async def _nobody_held(connection: Any, keys: Any) -> frozenset[bytes]:
    await _lock(connection, keys)
    return frozenset()


async def _no_bound(*_: Any) -> volume.Bounded:
    return volume.Bounded()


async def _held_by_nobody(connection: Any, held: Any, *_: Any) -> dict[bytes, list[int]]:
    return {key: [] for key in held}


_lock: Final = subjects.lock
_NOBODY: Final = "select null::bytea, '', '' where $1::bytea[] is null"
_NEVER: Final = "select null::bigint, now(), '', '', null::bigint, false where $1::bigint[] is null"
_LEASE: Final = "where exists (select 1 from worker w where w.id = $1 and w.lease_until > clock_timestamp())"


def _unfenced(*fences: str) -> list[Change]:
    return [Value(intend, "_INTEND", without_fences(intend._INTEND, fences))]


_UNSENT: Final = {Found.UNCONFIRMED: (AttemptState.NOT_SENT, Failure.TRANSIENT)}
_OTHERS: Final = "    if others:\n"

LEDGER: Final[dict[str, list[Change]]] = {
    # intend, and asking again
    "intend does not ask for the claim's token": _unfenced("token"),
    "intend does not ask for the lease": _unfenced("lease"),
    "intend does not ask for the reminder's state": _unfenced("state"),
    "another first byte does not ask for the lease": [Text(intend, "_AGAIN", _LEASE, "")],
    "intend forgets the freezes": [Value(freezes, "read_shared", _no_freezes)],
    "intend forgets stops that cannot be read": [Value(intend.subjects, "lock", _nobody_held)],
    "intend forgets the borrower's own stop": [Value(tombstones, "_CHANNELS_OUT", _NOBODY)],
    # stops
    "a cancel leaves nothing for what comes later": [
        Text(tombstones, "_BURY", "group by 1, 2, 3", "where false group by 1, 2, 3")
    ],
    "a cancel forgets what lives": [Text(stops, "_LIVING", "where l.subject", "where false and l.subject")],
    "a cancel of one request does not find it": [Text(stops, "_BY_REQUEST", "where i.key", "where false and i.key")],
    "a cancel does not close what is being sent": [
        Text(follow, "cancel", "closed = was.closed or by", "closed = was.closed")
    ],
    # Either alone is harmless: who is tried again meets the other.
    "what is closed is tried again, and intend does not ask": [
        Text(follow, "_after_failure", "if was.closed is not None:", "if False:"),
        Text(intend, "_INTEND", "and l.closed is null ", ""),
    ],
    "a stop that cannot be read holds nobody": [Text(subjects, "_HOLD_KEYS", "where key", "where false and key")],
    "a borrower's own stop waits until its receipt is applied": [
        Text(receipts, "_STOP_AT_ONCE", "order by 1", "where false order by 1")
    ],
    # freezes, releases, quotas
    "what a freeze has held stays for ever": [
        Text(frozen, "_HOLDERS", "is not null and freeze_id <> all($1::bigint[])", "is null and $1::bigint[] is null")
    ],
    "what a freeze has held leaves at once": [Text(releases, "_move", "timetable.take()", "None")],
    "what a freeze has held leaves into another": [Text(releases, "_move", "elif was.id in holders:", "elif False:")],
    "what a freeze has held leaves after its not_after": [
        Text(releases, "_move", "if now >= was.not_after:", "if False:")
    ],
    "what was frozen is not taken off the list": [Text(frozen, "note", "leaving.append(was.id)", "pass")],
    "quotas are not counted": [Value(volume, "bound", _no_bound)],
    "a quota forgets what was counted before": [Text(volume, "_STORE", "hour_sent = i.hour_sent,", "hour_sent = 0,")],
    # by hand
    "a letter may be redriven twice": [Value(redrives, "_DONE", _NEVER)],
    "a redrive lifts a hold that others cause too": [Value(redrives, "_held_by", _held_by_nobody)],
    "a redrive counts what was refused as done": [Text(redrives, "_refused", "Became.REFUSED", "Became.COMMAND")],
    "what nobody will ever know is taken for not sent": [Value(unknowns, "_BECOMES", unknowns._BECOMES | _UNSENT)],
    "a person may settle what is settled": [
        Text(unknowns, "settle", "if mine.state is not AttemptState.UNKNOWN:", "if False:"),
        Loose("attempt_moves"),
        Loose("reminder_moves"),
    ],
    # outcomes, receipts, rescues
    "a rescue takes what may have left for unsent": [
        Text(
            outcomes,
            "_take_back",
            "AttemptState.UNKNOWN, Failure.AMBIGUOUS",
            "AttemptState.NOT_SENT, Failure.TRANSIENT",
        )
    ],
    # Either alone is harmless: intend keeps every other rung from leaving while one is unknown.
    "after an unknown outcome comes the next contact, and intend does not ask": [
        Text(intend, "_ELSEWHERE", "(a.provider <> i.provider or a.rung <> i.rung)", "a.provider <> i.provider"),
        Text(
            follow,
            "_after_unknown",
            "return waiting.await_word(was, Reason.OUTCOME_UNKNOWN, now, rules, attempt)",
            "return _next_contact(was, now, rules)",
        ),
    ],
    "the next contact does not wait for an earlier attempt": [
        Text(follow, "_after_failure", _OTHERS, "    if False:\n")
    ],
    "what was taken is sent again": [
        Text(follow, "_may_resend", "if any(each.state in _TAKEN for each in was.attempts):", "if False:")
    ],
    "a delivery is one word among others": [Text(follow, "after_attempts", "if reached is not None:", "if False:")],
    "a receipt moves an attempt back": [
        Value(receipts, "receipt_disposition", lambda current, new: Disposition.APPLIED),
        Loose("attempt_moves"),
    ],
    "a late answer moves an attempt back": [
        Value(outcomes, "attempt_moves", lambda current, new: True),
        Loose("attempt_moves"),
    ],
    "an end may be lowered": [
        Text(follow, "_correction", "was.state is ReminderState.UNCONFIRMED and ", ""),
        Loose("reminder_moves"),
    ],
    # time
    "a receipt window never closes": [Text(timers, "_RIPE", "where t.at <= $1", "where false and t.at <= $1")],
    "a retry waits past its not_after": [Text(queueing, "schedule", "at = min(at, was.not_after)", "pass")],
    "what may have left expires": [Text(follow, "expire", "if _stands(was):", "if False:")],
    # rows beside rows
    "events are counted that nobody is told of": [
        Text(writing, "_ADVANCE", "case when s.event is null then 0 else 1 end", "1")
    ],
    "what is settled stays on the list": [Text(moves, "_note_unsettled", "elif each.unsettled and", "elif False and")],
    "an ended reminder keeps its queue row": [Text(writing, "_end_row", "was.queue,", "None,")],
}
