"""Intake: one transaction per batch of records.

Lock order: offsets, freezes, subjects, rest.  What Kafka accepted becomes one reminder, one recorded duplicate, one
dead letter or one command, and the next offsets are stored last, in the same transaction.  The batch may run again at
any time: keys make it repeatable, and offsets below the stored ones are dropped.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import asyncpg

from gateway.ledger import accept, deadletters, freezes, freshness, offsets, plans, stops, subjects
from gateway.ledger.accept import Accepted, Slots
from gateway.ledger.commands import Command, Heartbeat, Letter, Request, Stop, Told, Validation
from gateway.ledger.database import Connection, is_misfit
from gateway.ledger.standing import Move, Rules
from gateway.ledger.wanted import FactsBroken, Planner
from schemas.vocabulary import Rejection

# The sealed record of a command, and its fingerprint.
Seal = Callable[[Command], tuple[bytes, bytes]]


@dataclass(slots=True)
class Result:
    """What a batch came to.  `claimed` are requests handed to this process already claimed.

    `planned` are reminders that facts have made.  `heard` and `refused` count records and new dead letters by source.
    `duplicates`, `commands` (ids) and `buried` are what became of the rest.
    """

    outcomes: Counter[tuple[int, str]] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    heard: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    frozen: frozenset[str] = frozenset()
    accepted: list[Accepted] = field(default_factory=list)
    planned: list[Accepted] = field(default_factory=list)
    claimed: list[Request] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    duplicates: set[int] = field(default_factory=set)
    commands: set[int] = field(default_factory=set)
    buried: list[Letter] = field(default_factory=list)

    def add(self, other: Result) -> None:
        self.outcomes.update(other.outcomes)
        self.letters.update(other.letters)
        self.heard.update(other.heard)
        self.refused.update(other.refused)
        self.accepted.extend(other.accepted)
        self.planned.extend(other.planned)
        self.claimed.extend(other.claimed)
        self.moves.extend(other.moves)
        self.duplicates |= other.duplicates
        self.commands |= other.commands
        self.buried.extend(other.buried)


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
    seal: Seal = lambda command: (b"", b""),
    known: Mapping[int, int] = MappingProxyType({}),
    planner: Planner | None = None,
) -> Result:
    """Writes a batch; `following` are the next offsets.  Commands of one borrower must be in their Kafka order.

    `known` are the next offsets that the caller knows the ledger to have had.  Raises CommitsLost when it does not have
    them any more: to go on behind a gap would be to lose what stands in it.

    `seal` gives the bytes of a command's record, sealed under the command's id, for a command that becomes a dead
    letter only here: it is called for those alone.

    With `careful` every record is tried under savepoints and one that the ledger blames becomes a dead letter.
    Use it after the plain way raised an error for which `blames_record` is true.  Facts need the `planner`.
    """
    stored = await offsets.lock(connection, topic, list(following))
    if offsets.lost(stored, {each: known[each] for each in known.keys() & following.keys()}):
        raise offsets.CommitsLost
    fresh = [each for each in commands if each.origin.offset >= stored.get(each.origin.partition, 0)]
    in_force = await freezes.read_shared(connection, now)
    named = await lock_subjects(connection, fresh)
    body = Body(connection, now, rules, in_force, slots, seal, named, planner)
    result = await body.bisect(fresh) if careful else await body.write(fresh)
    result.frozen = frozenset(value for kind, value in in_force.slices if kind == "source")
    result.outcomes.update(_skipped(fresh, stored, following))
    # Not by what became a dead letter: of that nobody knows what it said.
    raised = [each for each in fresh if each.id in result.commands]
    await freshness.raise_watermarks(connection, freshness.watermarks(raised, now))
    await offsets.count(connection, topic, result.outcomes)
    await offsets.store(connection, topic, following)
    return result


def _skipped(
    fresh: Sequence[Command], stored: Mapping[int, int], following: Mapping[int, int]
) -> Counter[tuple[int, str]]:
    """Offsets passed that held no record for us.  In a log without transactions and compaction there are none."""
    records = Counter(each.origin.partition for each in fresh)
    passed = {each: end - stored[each] for each, end in following.items() if each in stored}
    return Counter({(each, "skipped"): n - records[each] for each, n in passed.items() if n > records[each]})


# 22: our value does not fit a type.  23 with the name of a constraint that judges what a record says; keys of our own
# making judge nobody (made anew they are others), and a missing partition raises 23514 without a name.
_CLASS_DATA: Final = "22"
_CLASS_INTEGRITY: Final = "23"
_OUR_KEYS: Final = re.compile(r".*_(?:pkey|key|idx|once)")


def blames_record(error: BaseException) -> bool:
    """Whether the error is about one record's data, so that bisection will find it."""
    if is_misfit(error) or isinstance(error, FactsBroken):
        return True
    state: str = getattr(error, "sqlstate", None) or ""
    if state.startswith(_CLASS_INTEGRITY):
        name: str | None = getattr(error, "constraint_name", None)
        return name is not None and not _OUR_KEYS.fullmatch(name)
    return state.startswith(_CLASS_DATA)


async def lock_subjects(connection: Connection, commands: Sequence[Command]) -> dict[bytes, bytes]:
    """Locks whom the commands concern; returns whose the requests are that stops name by their keys."""
    named: set[tuple[bytes, str, str]] = set()
    requests: set[bytes] = set()
    for each in commands:
        if isinstance(each, Request | Told):
            named.add((each.subject, each.lender, each.borrower))
        elif isinstance(each, Stop):
            named.add((each.subject, each.lender, each.borrower))
            if each.request_key is not None:
                requests.add(each.request_key)
        elif isinstance(each, Letter):
            named.update(each.holds)
            if each.stops_request is not None:
                requests.add(each.stops_request)
    if named:
        await subjects.create(connection, list(named))
    owners = await subjects.of_requests(connection, sorted(requests)) if requests else {}
    # A stop may come in one batch with the request it names.
    owners = {each.request_key: each.subject for each in commands if isinstance(each, Request)} | owners
    doubted = {subject for each in commands if isinstance(each, Letter) for subject, _ in each.doubts}
    await subjects.lock(connection, {each[0] for each in named} | set(owners.values()) | doubted)
    return owners


@dataclass(slots=True)
class Body:
    """The part of the transaction that may be bisected; a redrive runs it too, with nothing to bury."""

    connection: Connection
    now: dt.datetime
    rules: Rules
    in_force: freezes.Freezes
    slots: Slots | None
    seal: Seal
    owners: dict[bytes, bytes]
    planner: Planner | None = None

    async def bisect(self, commands: Sequence[Command]) -> Result:
        """Halves until the blamed records stand alone; those become dead letters, their neighbours are written."""
        if not commands:
            return Result()
        try:
            async with self.connection.transaction():
                return await self.write(commands)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, FactsBroken) as error:
            if not blames_record(error):
                raise
            if len(commands) == 1:
                return await self.write([self.blamed(commands[0])])
        middle = len(commands) // 2
        result = await self.bisect(commands[:middle])
        result.add(await self.bisect(commands[middle:]))
        return result

    async def write(self, commands: Sequence[Command]) -> Result:
        """Runs of requests and runs of stops alternate only where one borrower has both: his order is kept."""
        result = Result()
        # Heartbeats are many and never bad: among them nobody would see that all else is.
        spoken = (each for each in commands if not isinstance(each, Heartbeat))
        result.heard.update(each.source for each in spoken if each.source is not None)
        for wave in _waves(commands):
            requests = [each for each in wave if isinstance(each, Request)]
            halts = [each for each in wave if isinstance(each, Stop)]
            letters = [each for each in wave if isinstance(each, Letter)]
            validations = [each for each in wave if isinstance(each, Validation)]
            told = [each for each in wave if isinstance(each, Told)]
            if requests:
                letters += await self._accept(requests, result)
            if halts:
                letters += await self._stop(halts, result)
            if told:
                await self._tell(told, result)
            if beats := [each for each in wave if isinstance(each, Heartbeat)]:
                result.outcomes.update((each.origin.partition, "command") for each in beats)
                result.commands.update(each.id for each in beats)
            if validations:
                await accept.answer_validations(self.connection, validations, self.now)
                result.outcomes.update((each.origin.partition, "command") for each in validations)
                result.commands.update(each.id for each in validations)
            if letters:
                known = len(result.buried)
                await self.bury(letters, result)
                await freshness.doubt(self.connection, result.buried[known:], told)
        return result

    async def _accept(self, requests: Sequence[Request], result: Result) -> list[Letter]:
        done = await accept.write(self.connection, requests, self.now, self.in_force, self.rules, self.slots)
        result.accepted.extend(done.accepted)
        result.claimed.extend(done.claimed)
        result.outcomes.update((each.request.origin.partition, "accepted") for each in done.accepted)
        result.outcomes.update((each.origin.partition, "duplicate") for each in done.duplicates)
        result.duplicates.update(each.id for each in done.duplicates)
        return [self._letter(each, Rejection.CONFLICT, "data") for each in done.conflicts]

    async def _stop(self, halts: Sequence[Stop], result: Result) -> list[Letter]:
        """A stop that names somebody else's request is one we cannot read: it holds whose request it is."""
        good: list[Stop] = []
        astray: list[Stop] = []
        for each in halts:
            (good if self._owner_of(each) in (None, each.subject) else astray).append(each)
        if good:
            result.moves += await stops.write(self.connection, good, self.now, self.rules)
            result.outcomes.update((each.origin.partition, "command") for each in good)
            result.commands.update(each.id for each in good)
        return [self._letter(each, Rejection.UNREADABLE_STOP, "data.borrower_ref") for each in astray]

    async def _tell(self, told: Sequence[Told], result: Result) -> None:
        if self.planner is None:
            raise AssertionError("nobody plans here")
        done = await plans.write(self.connection, told, self.now, self.in_force, self.rules, self.planner)
        result.planned.extend(done.accepted)
        result.moves += done.moves
        result.outcomes.update((each.origin.partition, "command") for each in told)
        result.commands.update(each.id for each in told)

    async def bury(self, letters: Sequence[Letter], result: Result) -> None:
        """Keeps dead letters and holds whom they name; what was taken before is a duplicate, not a dead letter."""
        known = await accept.known(self.connection, letters, self.now)
        result.outcomes.update((each.origin.partition, "duplicate") for each in known)
        again = {each.id for each in known}
        result.duplicates |= again
        letters = [each for each in letters if each.id not in again]
        if not letters:
            return
        kept = await deadletters.write(self.connection, letters, self.now)
        keys = {hold[0] for each in letters for hold in each.holds}
        keys |= {self.owners[each.stops_request] for each in letters if each.stops_request in self.owners}
        result.moves += await stops.hold_unreadable(self.connection, keys, self.now, self.rules)
        for each in letters:
            # One that is kept already was read before, and an offset was set back since.
            new = each.id in kept
            result.outcomes[each.origin.partition, "deadletter" if new else "duplicate"] += 1
            if new:
                result.buried.append(each)
                result.letters[each.reason] += 1
                if each.source is not None:
                    result.refused[each.source] += 1

    def _owner_of(self, stop: Stop) -> bytes | None:
        return None if stop.request_key is None else self.owners.get(stop.request_key)

    def _letter(self, command: Request | Stop | Told, reason: Rejection, field_name: str | None) -> Letter:
        sealed, fingerprint = self.seal(command)
        stops_request = command.request_key if isinstance(command, Stop) else None
        holds = () if isinstance(command, Request) else ((command.subject, command.lender, command.borrower),)
        return Letter(
            command.origin, command.id, reason, self.now, sealed, fingerprint, field_name, command.source, holds,
            stops_request, traceparent=command.traceparent,
        )  # fmt: skip

    def blamed(self, command: Command) -> Letter:
        if isinstance(command, Letter | Validation | Heartbeat):
            raise AssertionError("the ledger refused a record without data of its own")
        # Losing a stop is worse than losing a reminder: hold what it names.
        reason = Rejection.REFUSED_BY_LEDGER if isinstance(command, Request) else Rejection.UNREADABLE_STOP
        return self._letter(command, reason, None)


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
