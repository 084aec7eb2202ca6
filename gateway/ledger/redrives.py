"""Redriving: a dead letter's record goes through intake again, as if it had just been read.

It is written by the code that writes what Kafka brings: the same keys, tombstones, freezes and holds.  The letter stays
where it is; that it left the dead, once, is noted in the same transaction.  What is refused again leaves no trace: no
second letter, no hold, no event.

Lock order: letters (in the place of the offsets), freezes, subjects, rest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

import asyncpg
from msgspec import Struct
from msgspec.structs import replace

from gateway.ledger import accept, freezes, freshness, intake, manual, subjects
from gateway.ledger.accept import Accepted
from gateway.ledger.commands import Command, Letter, Request, Stop, Told
from gateway.ledger.database import Connection
from gateway.ledger.intake import Result
from gateway.ledger.standing import Move, Rules
from gateway.ledger.wanted import FactsBroken, Planner
from schemas.vocabulary import Reason, Rejection, ReminderState

_LOCK: Final = "select id from deadletter where id = any($1::bigint[]) order by id for no key update"
# A second statement: the first, had it waited for somebody, does not see what he has written.
_DONE: Final = "select letter, at, author, outcome, reminder, lifted from redrive where letter = any($1::bigint[])"
_NOTE: Final = """
insert into redrive (letter, at, author, outcome, reminder, lifted)
select i.letter, $1, $2, i.outcome, i.reminder, i.lifted
from unnest($3::bigint[], $4::text[], $5::bigint[], $6::boolean[]) as i(letter, outcome, reminder, lifted)
"""
_OWNERS: Final = "select key, reminder from inbox where key = any($1::bytea[])"
_HELD: Final = "select key, borrower from subject where key = any($1::bytea[]) and unreadable_stop_at is not null"
# The others of these names, among those who are held: few.
_HELD_ELSEWHERE: Final = """
select borrower, lender from subject
where unreadable_stop_at is not null and borrower = any($1::text[]) and not key = any($2::bytea[])
order by key limit 100
"""
# The index of the migration is for just this condition.
_MAY_HOLD: Final = """
select d.id, octet_length(d.sealed) from deadletter d
where (d.reason = 'unreadable_stop' or d.source is null) and not d.id = any($1::bigint[])
  and not exists (select 1 from redrive r where r.letter = d.id)
order by d.id limit $2
"""
_RECORDS: Final = "select id, reason, sealed from deadletter where id = any($1::bigint[]) order by id"
# To open more than so many, or more than so many bytes, under a borrower's lock takes too long: then nothing is lifted.
_MOST_OPENED: Final = 2000
_MOST_BYTES: Final = 8 * 2**20


class Became(StrEnum):
    """What a letter becomes when it is redriven."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    COMMAND = "command"  # a stop that is obeyed, a fact that is known, or a request that was only validated
    REFUSED = "refused"  # it stays a dead letter
    DONE = "done"  # somebody has redriven it before
    SEALED = "sealed"  # its record does not open: a key is missing, or its bytes are changed
    MISSING = "missing"  # there is no such letter


NOTED: Final = frozenset({Became.ACCEPTED, Became.DUPLICATE, Became.COMMAND})


class Named(NamedTuple):
    """Whom a letter may hold: borrowers' references, under whichever lender, and the owner of a request."""

    borrowers: Collection[str]
    request: bytes | None = None


# Whom the letter with this id, reason and sealed record may hold; None where that cannot be known.
Names = Callable[[int, str, bytes], Named | None]


class Redriven(Struct, frozen=True, gc=False):
    """What became of one letter, which was refused for `was`.  `reason` and `field` say why it is refused again;
    `reminder` is what it made or repeats.

    `lifted`: the borrower was held for this letter and is not any more.  `held_by`: he is still held, for these letters
    among others.  `held`: and why nothing was lifted is that there is too much to look through.  `elsewhere` are other
    lenders under which a borrower of this reference is held: by this letter or by another one.

    What is `DONE` names `author` and `at`.
    """

    letter: int
    became: Became
    reason: Rejection | None = None
    field: str | None = None
    reminder: int | None = None
    state: ReminderState | None = None
    state_reason: Reason | None = None
    lifted: bool = False
    held: bool = False
    held_by: tuple[int, ...] = ()
    elsewhere: tuple[str, ...] = ()
    author: str | None = None
    at: dt.datetime | None = None
    was: str | None = None


@dataclass(slots=True)
class Redrive:
    """What a batch came to, in the order of the letters, and what it did to reminders."""

    letters: list[Redriven] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    planned: list[Accepted] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)


async def redrive(
    connection: Connection,
    decoded: Mapping[int, Command],
    author: str,
    now: dt.datetime,
    rules: Rules,
    may_hold: Collection[int] = (),
    names: Names = lambda letter, reason, sealed: None,
    planner: Planner | None = None,
) -> Redrive:
    """Redrives letters, by what their records are decoded to now; in the order of their ids, which is that of reading.

    Repeatable, and one of two at once finds the letter redriven: each leaves the dead once.  What the same author did
    at the same `now` is told as what it became, though not with all that was known then.  A record that the ledger
    blames is refused, its neighbours are not.

    `may_hold` are those of the letters that can have held a borrower.  Such a hold is lifted for whom the record names
    now, when no other letter that is left may name him; `names` tells of those.
    """
    await connection.fetch(_LOCK, sorted(decoded))
    done = {row[0]: row for row in await connection.fetch(_DONE, list(decoded))}
    todo = {letter: decoded[letter] for letter in sorted(decoded) if letter not in done}
    in_force = await freezes.read_shared(connection, now)
    owners = await intake.lock_subjects(connection, [each for each in todo.values() if not isinstance(each, Letter)])
    made = Redrive()
    for letter, command in todo.items():
        made.letters.append(await _one(connection, letter, command, now, rules, in_force, owners, made, planner))
    noted = {each.letter for each in made.letters if each.became in NOTED}
    known = [each for letter, each in todo.items() if letter in noted and isinstance(each, Told)]
    await freshness.trust(connection, known)
    await _find_owners(connection, todo, made)
    await _lift(connection, todo, made, frozenset(may_hold), names)
    if left := [each for each in made.letters if each.became in NOTED]:
        await connection.execute(
            _NOTE,
            now,
            author,
            [each.letter for each in left],
            [each.became for each in left],
            [each.reminder for each in left],
            [each.lifted for each in left],
        )
    made.letters += [_before(row, author, now) for row in done.values()]
    made.letters.sort(key=lambda each: each.letter)
    await manual.count(connection, made.accepted, made.moves, made.planned)
    return made


def _before(row: Sequence[Any], author: str, now: dt.datetime) -> Redriven:
    """A letter that is redriven already: by this very call when its author and time are, whose answer was lost."""
    letter, at, by, outcome, reminder, lifted = row
    if (by, at) == (author, now):
        return Redriven(letter, Became(outcome), reminder=reminder, lifted=lifted)
    return Redriven(letter, Became.DONE, reminder=reminder, author=by, at=at)


class _Again(intake.Body):
    """Intake's body for one record that is a dead letter already: there is nothing to bury."""

    refused: Letter | None = None

    async def bury(self, letters: Sequence[Letter], result: Result) -> None:
        known = await accept.known(self.connection, letters, self.now)
        result.outcomes.update((each.origin.partition, "duplicate") for each in known)
        [letter] = letters
        self.refused = None if known else letter


async def _one(
    connection: Connection,
    letter: int,
    command: Command,
    now: dt.datetime,
    rules: Rules,
    in_force: freezes.Freezes,
    owners: dict[bytes, bytes],
    made: Redrive,
    planner: Planner | None,
) -> Redriven:
    body = _Again(connection, now, rules, in_force, None, lambda command: (b"", b""), owners, planner)
    try:
        async with connection.transaction():
            result = await body.write([command])
    except (asyncpg.PostgresError, asyncpg.InterfaceError, FactsBroken) as error:
        if not intake.blames_record(error):
            raise
        return _refused(letter, body.blamed(command))
    if body.refused is not None:
        return _refused(letter, body.refused)
    [(_, outcome)] = result.outcomes
    made.accepted += result.accepted
    made.planned += result.planned
    made.moves += result.moves
    born = result.accepted[0] if result.accepted else None
    return Redriven(
        letter,
        Became(outcome),
        reminder=None if born is None else born.request.id,
        state=None if born is None else born.state,
        state_reason=None if born is None else born.reason,
    )


def _refused(letter: int, by: Letter) -> Redriven:
    return Redriven(letter, Became.REFUSED, by.reason, by.field_name)


async def _find_owners(connection: Connection, todo: Mapping[int, Command], made: Redrive) -> None:
    """Which reminders the duplicates repeat."""
    keys = {
        each.letter: key
        for each in made.letters
        if each.became is Became.DUPLICATE and (key := _key(todo[each.letter])) is not None
    }
    if keys:
        owners = {row[0]: row[1] for row in await connection.fetch(_OWNERS, list(keys.values()))}
        made.letters = [
            replace(each, reminder=owners.get(keys[each.letter])) if each.letter in keys else each
            for each in made.letters
        ]


def _key(command: Command) -> bytes | None:
    if isinstance(command, Request):
        return command.request_key
    return command.known_as[0] if isinstance(command, Letter) and command.known_as is not None else None


async def _lift(
    connection: Connection, todo: Mapping[int, Command], made: Redrive, may_hold: frozenset[int], names: Names
) -> None:
    """Lifts the holds whose cause is gone.  The caller has locked the borrowers, so no letter comes between."""
    gone = {each.letter for each in made.letters if each.became in NOTED}
    whom = {letter: each for letter in gone & may_hold if isinstance(each := todo[letter], Request | Stop | Told)}
    if not whom:
        return
    keys = sorted({each.subject for each in whom.values()})
    held = {row[0]: row[1] for row in await connection.fetch(_HELD, keys)}
    elsewhere: dict[str, list[str]] = {}
    for borrower, lender in await connection.fetch(_HELD_ELSEWHERE, [each.borrower for each in whom.values()], keys):
        elsewhere.setdefault(borrower, []).append(lender)
    # How large they are is asked first, so that what is too much is not even fetched.
    sizes = dict(await connection.fetch(_MAY_HOLD, sorted(gone), _MOST_OPENED + 1)) if held else {}
    too_much = len(sizes) > _MOST_OPENED or sum(sizes.values()) > _MOST_BYTES
    others = await connection.fetch(_RECORDS, list(sizes)) if sizes and not too_much else []
    by = {} if too_much else await _held_by(connection, held, others, names)
    lifted = {key for key in held if not too_much and not by[key]}
    for key in sorted(lifted):
        await subjects.clear(connection, key)
    made.letters = [
        replace(
            each,
            lifted=borrower.subject in lifted,
            held=too_much and borrower.subject in held,
            held_by=tuple(by.get(borrower.subject, ()))[:_SHOWN],
            elsewhere=tuple(elsewhere.get(borrower.borrower, ())),
        )
        if (borrower := whom.get(each.letter)) is not None
        else each
        for each in made.letters
    ]


_SHOWN: Final = 5


async def _held_by(
    connection: Connection, held: Mapping[bytes, str], letters: Iterable[tuple[int, str, bytes]], names: Names
) -> dict[bytes, list[int]]:
    """The letters that may still hold each of these borrowers; one that cannot be read may hold everybody."""
    named = {letter: names(letter, reason, sealed) for letter, reason, sealed in letters}
    keys = {each.request for each in named.values() if each is not None and each.request is not None}
    owners = await subjects.of_requests(connection, sorted(keys)) if keys else {}
    return {
        key: [
            letter
            for letter, each in named.items()
            if each is None or borrower in each.borrowers or owners.get(each.request or b"") == key
        ]
        for key, borrower in held.items()
    }
