"""Plans: what facts tell becomes what is known, and what is known becomes reminders, in one transaction.

The borrower's lock is held.  What a fact stops is stopped, what it changes is revised or made anew, and nothing else is
touched: the same facts again write nothing.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

from gateway.ledger import (
    accept,
    fact_stops,
    freshness,
    in_use,
    merging,
    moves,
    queueing,
    situations,
    stale,
    tombstones,
)
from gateway.ledger.accept import Accepted
from gateway.ledger.commands import Cause, Told
from gateway.ledger.database import Connection
from gateway.ledger.freezes import Freezes
from gateway.ledger.standing import LIFTED, Move, Rules, Situation
from gateway.ledger.wanted import Key, Planned, Planner, SealedBorrower, SealedDebt, Wanted
from schemas.vocabulary import Failure, Reason

_BORROWERS: Final = "select subject, id, sealed from borrower_fact where subject = any($1::bytea[])"
_DEBTS: Final = "select subject, debt, id, cadence, version, sealed from debt_fact where subject = any($1::bytea[])"
_OCCURRENCES: Final = """
select o.subject, o.debt, o.instalment, o.stage, o.step, o.reminder, o.print, o.said, o.reach
from occurrence o where o.subject = any($1::bytea[])
"""
_KEEP_BORROWERS: Final = """
insert into borrower_fact (subject, id, sealed) select * from unnest($1::bytea[], $2::bigint[], $3::bytea[])
on conflict (subject) do update set sealed = excluded.sealed
"""
_KEEP_DEBTS: Final = """
insert into debt_fact (subject, debt, id, cadence, version, sealed) select * from unnest($1::debt_fact_row[])
on conflict (subject, debt) do update
    set sealed = excluded.sealed, cadence = excluded.cadence, version = excluded.version
"""
_KEEP_OCCURRENCES: Final = """
insert into occurrence (subject, debt, instalment, stage, step, reminder, print, said, reach)
select * from unnest($1::occasion_row[])
on conflict (subject, debt, instalment, stage, step) do update
    set reminder = excluded.reminder, print = excluded.print, said = excluded.said, reach = excluded.reach
"""
_REVISE: Final = """
insert into revision (reminder, sealed) select * from unnest($1::bigint[], $2::bytea[])
on conflict (reminder) do update set sealed = excluded.sealed
"""
_COUNT: Final = """
insert into planned_count (topic, partition, n) select * from unnest($1::text[], $2::int[], $3::bigint[])
on conflict (topic, partition) do update set n = planned_count.n + excluded.n
"""
_OWNED: Final = "select key from stage_key where key = any($1::bytea[])"


class _Stands(Struct, frozen=True, gc=False):
    """The reminder that was made for an occasion last; `reach` None where a process of before 0010 has made it."""

    reminder: int
    print: bytes
    said: bytes
    reach: bytes | None


@dataclass(slots=True)
class Written:
    """What came of facts."""

    moves: list[Move] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)


async def write(
    connection: Connection,
    told: Sequence[Told],
    now: dt.datetime,
    in_force: Freezes,
    rules: Rules,
    planner: Planner,
) -> Written:
    """Writes facts whose subjects are locked, in their order."""
    leads = {each.subject: each for each in told}  # the last of each borrower: its trace, its id
    return await _write(connection, leads, told, now, in_force, rules, planner)


async def again(
    connection: Connection, cause: Cause, now: dt.datetime, in_force: Freezes, rules: Rules, planner: Planner
) -> Written:
    """Makes what is missing of the plans of one borrower, whose subject is locked, without a new fact."""
    return await _write(connection, {cause.subject: cause}, (), now, in_force, rules, planner)


async def _write(
    connection: Connection,
    leads: Mapping[bytes, Cause],
    told: Sequence[Told],
    now: dt.datetime,
    in_force: Freezes,
    rules: Rules,
    planner: Planner,
) -> Written:
    facts: dict[bytes, list[Told]] = {}
    for each in told:
        facts.setdefault(each.subject, []).append(each)
    borrowers, debts, standing = await _known(connection, list(leads))
    if any(planner.lacks(*version) for version in _made_with(each for known in debts.values() for each in known)):
        planner.learn(await in_use.read(connection))
    wanted = {
        subject: planner.plan(
            subject, lead, facts.get(subject, ()), borrowers.get(subject), debts.get(subject, ()), now
        )
        for subject, lead in leads.items()
    }
    await _keep(connection, wanted.values(), planner)
    await freshness.note_told(connection, told, now)
    written = Written()
    made = {each.reminder for each in standing.values()}
    changed = {subject: each.stones for subject, each in wanted.items()}
    written.moves += await fact_stops.write(connection, changed, leads, made, now, rules)
    now_there = await situations.read(connection, made)
    revised: list[_Revised] = []
    stopped: list[tuple[Situation, Reason, Cause]] = []
    lacks: dict[int, bool] = {}
    untold: list[int] = []  # what a message has told of, and its next one is not to
    for key, stands in standing.items():
        was = now_there.get(stands.reminder)
        if was is None or (was.queue is None and was.reason is not Reason.MERGED_INTO):
            continue
        mine = wanted[key[0]]
        planned = mine.reminders.get(key)
        if was.queue is None:
            if planned is None or planned.print != stands.print:
                untold.append(was.id)
            elif planned.said != stands.said:
                revised.append(_Revised(key, planned, was, stands.reach))
        elif planned is None:
            reason = mine.gone.get(key, Reason.REPLANNED)
            if reason is None and now < was.not_after:
                reason = Reason.REPLANNED  # past by another plan: this one would still go out
            if reason is not None:
                stopped.append((was, reason, leads[key[0]]))
        elif planned.print != stands.print or (planned.lacks and queueing.is_out(was)):
            stopped.append((was, Reason.REPLANNED, leads[key[0]]))
        else:
            if planned.said != stands.said:
                revised.append(_Revised(key, planned, was, stands.reach))
            lacks[was.id] = planned.lacks
    written.moves += await fact_stops.end(connection, stopped, now, rules)
    written.moves += await _wait(connection, lacks, now)
    written.moves += await _revise(connection, revised, now)
    written.moves += await merging.forget(connection, untold, now)
    written.moves += await _refresh(connection, now_there.values(), {was.id for was, _, _ in stopped}, now)
    ended = {was.id for was, _, _ in stopped if not fact_stops.under_way(was)}
    # Who has opted out by a call has told no fact: what would only be born suppressed is not made at every fact.
    out = await tombstones.opted_out(connection, list(wanted))
    willing = [each for subject, each in wanted.items() if subject not in out]
    await _bear(connection, willing, standing, now_there, ended, now, in_force, rules, written)
    return written


async def _known(
    connection: Connection, subjects: Sequence[bytes]
) -> tuple[dict[bytes, SealedBorrower], dict[bytes, list[SealedDebt]], dict[Key, _Stands]]:
    borrowers = {row[0]: SealedBorrower(*row) for row in await connection.fetch(_BORROWERS, subjects)}
    debts: dict[bytes, list[SealedDebt]] = {}
    for row in await connection.fetch(_DEBTS, subjects):
        debts.setdefault(row[0], []).append(SealedDebt(*row))
    standing = {
        (row[0], row[1], row[2], row[3], row[4]): _Stands(*row[5:])
        for row in await connection.fetch(_OCCURRENCES, subjects)
    }
    return borrowers, debts, standing


async def _keep(connection: Connection, wanted: Iterable[Wanted], planner: Planner) -> None:
    borrowers = [each.borrower for each in wanted if each.borrower is not None]
    if borrowers:
        await connection.execute(
            _KEEP_BORROWERS,
            [each.subject for each in borrowers],
            [each.id for each in borrowers],
            [each.sealed for each in borrowers],
        )
    debts = [debt for each in wanted for debt in each.debts]
    if debts:
        rows = [(each.subject, each.debt, each.id, each.cadence, each.version, each.sealed) for each in debts]
        await connection.execute(_KEEP_DEBTS, rows)
        if used := _made_with(debts):
            new = used - await in_use.known(connection)
            await in_use.keep(connection, [in_use.Used(*each, planner.says(*each)) for each in new])


def _made_with(debts: Iterable[SealedDebt]) -> set[tuple[str, int]]:
    return {(each.cadence, each.version) for each in debts if each.cadence is not None and each.version is not None}


async def _wait(connection: Connection, lacks: Mapping[int, bool], now: dt.datetime) -> list[Move]:
    """What lacks a fact is held, what lacks it no more goes on.  Read anew: a stop may have moved it."""
    found = await situations.read(connection, lacks)
    made = [move for was in found.values() if (move := queueing.wait(was, lacks[was.id], now)) is not None]
    return [*made, *await moves.apply(connection, made)]


class _Revised(Struct, frozen=True, gc=False):
    """A reminder that stays and says something else; `reach` is whom it was to reach until now."""

    key: Key
    planned: Planned
    was: Situation
    reach: bytes | None

    def row(self) -> tuple[Any, ...]:
        planned = self.planned
        # Whom it has tried already is kept: whether all of them failed is not known yet.
        reach = self.reach if self.was.attempts else planned.reach
        return (*self.key, self.was.id, planned.print, planned.said, reach)


async def _revise(connection: Connection, revised: Sequence[_Revised], now: dt.datetime) -> list[Move]:
    """What it says has changed.  One in a worker's hands is taken back, so that nothing outdated leaves."""
    if not revised:
        return []
    ids = [each.was.id for each in revised]
    await connection.execute(_REVISE, ids, [each.planned.sealed(each.was.id) for each in revised])
    await connection.execute(_KEEP_OCCURRENCES, [each.row() for each in revised])
    # Read anew: a stop of what its message tells of may have taken it back.
    found = await situations.read(connection, ids)
    taken_back = [move for was in found.values() if (move := queueing.revise(was, now)) is not None]
    taken_back += await moves.apply(connection, taken_back)
    return [*taken_back, *await merging.retell(connection, ids, now)]


async def _refresh(
    connection: Connection, there: Iterable[Situation], stopped: Collection[int], now: dt.datetime
) -> list[Move]:
    """What was held for stale facts waits for its turn where these are fresh, else where the last of them stood."""
    held = {was.id: was for was in there if was.queue is not None and stale.is_stale(was) and was.id not in stopped}
    if not held:
        return []
    known, ages = await freshness.of(connection, held), await stale.ages(connection, held)
    fresh = []
    again = []
    for id_, age in ages.items():  # who has none waits for his turn already
        fresh_at = known[id_].fresh_at
        if fresh_at is not None and fresh_at + age > now:
            fresh.append(id_)
        else:
            again.append(queueing.stale(held[id_], now, age))
    if fresh:
        await stale.turn_of(connection, fresh)
    return [*again, *await moves.apply(connection, again)]


def _may_be_again(was: Situation, stands: _Stands | None, planned: Planned) -> bool:
    """Whether one that has ended is made again: where its time is another, what we ourselves ended it for is over, or
    every contact it had has failed and he has others now.

    What somebody has cancelled stays so, and is not told of at every fact; so does what a provider has refused because
    the borrower wants no more by it: of that no fact says anything.
    """
    if stands is None or planned.print != stands.print:
        return True
    corrected = was.reason is Reason.CONTACTS_EXHAUSTED and stands.reach not in (None, planned.reach)
    unwanted = any(each.failure is Failure.OPTED_OUT for each in was.attempts)
    return (was.reason in LIFTED or corrected) and not unwanted


async def _bear(
    connection: Connection,
    wanted: Iterable[Wanted],
    standing: Mapping[Key, _Stands],
    now_there: Mapping[int, Situation],
    ended: frozenset[int] | set[int],
    now: dt.datetime,
    in_force: Freezes,
    rules: Rules,
    written: Written,
) -> None:
    """Makes the reminders that are not there: of occasions nobody was contacted for, whoever asked for it."""
    missing: list[tuple[Key, Planned]] = []
    for each in wanted:
        for key, planned in each.reminders.items():
            stands = standing.get(key)
            was = None if stands is None else now_there.get(stands.reminder)
            if was is None or was.id in ended or (was.queue is None and _may_be_again(was, stands, planned)):
                missing.append((key, planned))
    if not missing:
        return
    owned = {row[0] for row in await connection.fetch(_OWNED, [planned.stage_key for _, planned in missing])}
    free = [(key, planned, planned.request()) for key, planned in missing if planned.stage_key not in owned]
    if not free:
        return
    written.accepted = await accept.bear(connection, [request for _, _, request in free], now, in_force, rules)
    by = Counter((request.origin.topic, request.origin.partition) for _, _, request in free)
    rows = sorted((topic, partition, n) for (topic, partition), n in by.items())
    await connection.execute(_COUNT, *(list(column) for column in zip(*rows, strict=True)))
    await connection.execute(
        _KEEP_OCCURRENCES,
        [(*key, request.id, planned.print, planned.said, planned.reach) for key, planned, request in free],
    )
