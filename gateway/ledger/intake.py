"""Intake: one transaction per batch of records.

Lock order: offsets, freezes, subjects, rest.  What Kafka accepted becomes one reminder, one recorded duplicate, one
dead letter or one command, and the next offsets are stored last, in the same transaction.  The batch may run again at
any time: keys make it repeatable, and offsets below the stored ones are dropped.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from gateway.ledger import accept, deadletters, freezes, offsets, stops, subjects
from gateway.ledger.accept import Accepted, Slots
from gateway.ledger.commands import Command, Letter, Request, Stop, Validation
from gateway.ledger.database import Connection
from gateway.ledger.follow import Move, Rules
from schemas.vocabulary import Rejection

Seal = Callable[[Command], bytes]


@dataclass(slots=True)
class Result:
    """What a batch came to.  `claimed` are requests handed to this process already claimed."""

    outcomes: Counter[tuple[int, str]] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    accepted: list[Accepted] = field(default_factory=list)
    claimed: list[Request] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    def add(self, other: Result) -> None:
        self.outcomes.update(other.outcomes)
        self.letters.update(other.letters)
        self.accepted.extend(other.accepted)
        self.claimed.extend(other.claimed)
        self.moves.extend(other.moves)


async def write(
    connection: Connection,
    topic: str,
    commands: Sequence[Command],
    following: dict[int, int],
    now: dt.datetime,
    rules: Rules,
    slots: Slots | None = None,
    *,
    careful: bool = False,
    seal: Seal = lambda command: b"",
) -> Result:
    """Writes a batch; `following` are the next offsets.  Commands of one borrower must be in their Kafka order.

    `seal` gives the bytes of a command's record, sealed under the command's id, for a command that becomes a dead
    letter only here: it is called for those alone.

    With `careful` every record is tried under savepoints and one that the ledger blames becomes a dead letter.
    Use it after the plain way raised an error for which `blames_record` is true.
    """
    stored = await offsets.lock(connection, topic, list(following))
    fresh = [each for each in commands if each.origin.offset >= stored.get(each.origin.partition, 0)]
    in_force = await freezes.read_shared(connection, now)
    await _lock_subjects(connection, fresh)
    body = _Body(connection, now, rules, in_force, slots, seal)
    result = await body.bisect(fresh) if careful else await body.write(fresh)
    await offsets.count(connection, topic, result.outcomes)
    await offsets.store(connection, topic, following)
    return result


# 22: our value does not fit a type.  23 with a name: one of our own constraints.  A missing partition raises 23514
# without a name, and that blames nobody's record.
_CLASS_DATA: Final = "22"
_CLASS_INTEGRITY: Final = "23"


def blames_record(error: BaseException) -> bool:
    """Whether the error is about one record's data, so that bisection will find it."""
    state: str = getattr(error, "sqlstate", None) or ""
    if state.startswith(_CLASS_INTEGRITY):
        return bool(getattr(error, "constraint_name", None))
    return state.startswith(_CLASS_DATA)


async def _lock_subjects(connection: Connection, commands: Iterable[Command]) -> None:
    named: set[tuple[bytes, str, str]] = set()
    borrowers: set[str] = set()
    for each in commands:
        if isinstance(each, Request | Stop):
            named.add((each.subject, each.lender, each.borrower))
        elif isinstance(each, Letter):
            if each.subject is not None:
                named.add(each.subject)
            elif each.borrower is not None:
                borrowers.add(each.borrower)
    if named:
        await subjects.create(connection, list(named))
    keys = {each[0] for each in named}
    if borrowers:
        keys.update(await subjects.of_borrowers(connection, sorted(borrowers)))
    await subjects.lock(connection, keys)


@dataclass(slots=True)
class _Body:
    """The part of the transaction that may be bisected."""

    connection: Connection
    now: dt.datetime
    rules: Rules
    in_force: freezes.Freezes
    slots: Slots | None
    seal: Seal

    async def bisect(self, commands: Sequence[Command]) -> Result:
        """Halves until the blamed records stand alone; those become dead letters, their neighbours are written."""
        if not commands:
            return Result()
        try:
            async with self.connection.transaction():
                return await self.write(commands)
        except asyncpg.PostgresError as error:
            if not blames_record(error):
                raise
            if len(commands) == 1:
                return await self.write([self._blamed(commands[0])])
        middle = len(commands) // 2
        result = await self.bisect(commands[:middle])
        result.add(await self.bisect(commands[middle:]))
        return result

    async def write(self, commands: Sequence[Command]) -> Result:
        """Runs of requests and runs of stops alternate only where one borrower has both: his order is kept."""
        result = Result()
        for wave in _waves(commands):
            requests = [each for each in wave if isinstance(each, Request)]
            halts = [each for each in wave if isinstance(each, Stop)]
            letters = [each for each in wave if isinstance(each, Letter)]
            validations = [each for each in wave if isinstance(each, Validation)]
            if requests:
                conflicts = await self._accept(requests, result)
                letters.extend(conflicts)
            if halts:
                result.moves += await stops.write(self.connection, halts, self.now, self.rules)
                result.outcomes.update((each.origin.partition, "command") for each in halts)
            if validations:
                await accept.answer_validations(self.connection, validations, self.now)
                result.outcomes.update((each.origin.partition, "command") for each in validations)
            if letters:
                await deadletters.write(self.connection, letters, self.now)
                result.moves += await stops.hold_unreadable(self.connection, letters, self.now, self.rules)
                result.outcomes.update((each.origin.partition, "deadletter") for each in letters)
                result.letters.update(each.reason for each in letters)
        return result

    async def _accept(self, requests: Sequence[Request], result: Result) -> list[Letter]:
        done = await accept.write(self.connection, requests, self.now, self.in_force, self.slots)
        result.accepted.extend(done.accepted)
        result.claimed.extend(done.claimed)
        result.outcomes.update((each.request.origin.partition, "accepted") for each in done.accepted)
        result.outcomes.update((each.origin.partition, "duplicate") for each in done.duplicates)
        return [
            Letter(each.origin, each.id, Rejection.CONFLICT, self.now, self.seal(each), "data", each.source)
            for each in done.conflicts
        ]

    def _blamed(self, command: Command) -> Letter:
        if isinstance(command, Letter | Validation):
            raise AssertionError("the ledger refused a record without data of its own")
        reason, named = Rejection.REFUSED_BY_LEDGER, None
        if isinstance(command, Stop):
            # Losing a stop is worse than losing a reminder: hold what it names.
            reason, named = Rejection.UNREADABLE_STOP, (command.subject, command.lender, command.borrower)
        return Letter(command.origin, command.id, reason, self.now, self.seal(command), None, command.source, named)


def _waves(commands: Sequence[Command]) -> list[list[Command]]:
    """Splits where a borrower's request follows his stop or the reverse; usually there is one wave."""
    waves: list[list[Command]] = [[]]
    last: dict[bytes, type[Command]] = {}
    for each in commands:
        if isinstance(each, Request | Stop):
            if last.get(each.subject, type(each)) is not type(each):
                waves.append([])
                last.clear()
            last[each.subject] = type(each)
        waves[-1].append(each)
    return waves
