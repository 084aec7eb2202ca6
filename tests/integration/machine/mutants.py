"""The mistakes that the machine is tried against: the ledger with one thing wrong in it, each.

`python -m tests.integration.machine.mutate` runs them; a mutant is a context in which the ledger is wrong.
"""

from __future__ import annotations
import __future__

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

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
    unknowns,
    volume,
)  # fmt: skip
from schemas.vocabulary import AttemptState, Disposition, Failure, Found
from tests.faults.unfenced import without_fences


@dataclass(frozen=True)
class Text:
    """What stands once in the source of a function, or in a statement, and what stands there instead."""

    module: ModuleType
    name: str
    old: str
    new: str

    def planted(self) -> Any:
        found = getattr(self.module, self.name)
        source = found if isinstance(found, str) else inspect.getsource(found)
        if source.count(self.old) != 1:
            raise ValueError(f"{self.module.__name__}.{self.name} has {source.count(self.old)} times: {self.old}")
        changed: Any = source.replace(self.old, self.new)
        if not isinstance(found, str):
            made: dict[str, Any] = {}
            flags = __future__.annotations.compiler_flag
            code = compile(changed, f"<mutant of {self.name}>", "exec", flags=flags, dont_inherit=True)
            exec(code, self.module.__dict__, made)
            changed = made[self.name]
        return patch.object(self.module, self.name, changed)


@dataclass(frozen=True)
class Value:
    """Something else in the place of a name."""

    owner: Any
    name: str
    value: Any

    def planted(self) -> Any:
        return patch.object(self.owner, self.name, self.value)


@dataclass(frozen=True)
class Loose:
    """A guard of the schema that says yes to everything, so that only the machine's own table is left."""

    function: str

    @property
    def sql(self) -> str:
        kind = "attempt_state" if self.function == "attempt_moves" else "reminder_state"
        return (
            f"create or replace function {self.function}(was {kind}, becomes {kind}) returns boolean "
            "language sql immutable parallel safe as 'select true'"
        )


Change = Text | Value | Loose


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
_NOBODY: Final = "select null::bytea where $1::bytea[] is null"
_NEVER: Final = "select null::bigint, now(), '', '', null::bigint, false where $1::bigint[] is null"
_LEASE: Final = "where exists (select 1 from worker w where w.id = $1 and w.lease_until > clock_timestamp())"


def _unfenced(*fences: str) -> list[Change]:
    return [Value(intend, "_INTEND", without_fences(intend._INTEND, fences))]


_UNSENT: Final = {Found.UNCONFIRMED: (AttemptState.NOT_SENT, Failure.TRANSIENT)}
_OTHERS: Final = "    if others:\n"

MUTANTS: Final[dict[str, list[Change]]] = {
    # intend, and asking again
    "intend does not ask for the claim's token": _unfenced("token"),
    "intend does not ask for the lease": _unfenced("lease"),
    "intend does not ask for the reminder's state": _unfenced("state"),
    "another first byte does not ask for the lease": [Text(intend, "_AGAIN", _LEASE, "")],
    "intend forgets the freezes": [Value(freezes, "read_shared", _no_freezes)],
    "intend forgets stops that cannot be read": [Value(intend.subjects, "lock", _nobody_held)],
    "intend forgets the borrower's own stop": [Value(intend, "_OPTED_OUT", _NOBODY)],
    # stops
    "a cancel leaves nothing for what comes later": [
        Text(stops, "_BURY", "group by 1, 2, 3", "where false group by 1, 2, 3")
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
    "after an unknown outcome comes the next contact": [
        Text(
            follow,
            "_after_unknown",
            "return _await(was, Reason.OUTCOME_UNKNOWN, now, rules.window(attempt.provider))",
            "return _next_contact(was, now)",
        )
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
    "what may have left expires": [
        Text(follow, "expire", "if any(each.state in OPEN for each in was.attempts):", "if False:")
    ],
    # rows beside rows
    "events are counted that nobody is told of": [
        Text(moves, "_ADVANCE", "case when s.event is null then 0 else 1 end", "1")
    ],
    "what is settled stays on the list": [Text(moves, "_note_unsettled", "elif each.unsettled and", "elif False and")],
    "an ended reminder keeps its queue row": [Text(moves, "_end_row", "was.queue,", "None,")],
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    with ExitStack() as stack:
        for each in MUTANTS[name]:
            if not isinstance(each, Loose):
                stack.enter_context(each.planted())
        yield


def loosened(name: str) -> list[str]:
    """What must be done to the database beside it."""
    return [each.sql for each in MUTANTS[name] if isinstance(each, Loose)]
