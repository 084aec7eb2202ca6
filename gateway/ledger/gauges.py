"""What can be counted in the ledger: gauges at a fixed cost, and the conservation sums as a full count on demand.

Nothing here counts over messages while the service runs: a gauge looks at no more than `CAP` rows of an index, whatever
waits in the queue.  Beyond the cap a depth reads `CAP` and an age is that of the oldest among the rows looked at.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from gateway.ledger import manual
from gateway.ledger.database import Connection
from gateway.ledger.freezes import FreezeKind
from gateway.ledger.situations import LANE, REMINDER_STATE
from schemas.vocabulary import Lane, ReminderState

CAP: Final = 10_001


class ReadOutcome(StrEnum):
    """What became of a record that intake read; the outcomes of `intake_count`."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    DEADLETTER = "deadletter"
    COMMAND = "command"  # cancels, and requests that were only validated
    SKIPPED = "skipped"  # no record: an offset of a transaction's mark, or of what one took back or compaction removed


# The orders are those of the primary keys: they make the planner walk an index, never a table full of dead rows.
# `CAP` is written out: the planner would take the limit for a large one if it were a parameter.
_DUE: Final = """
select l.lane,
       (select count(*) from (
            select from due d where d.lane = l.lane and d.due_at <= $1 order by d.due_at, d.id limit 10001) as first),
       (select min(d.due_at) from due d where d.lane = l.lane and d.due_at <= $1)
from unnest(enum_range(null::lane)) as l(lane)
"""
_CLAIMS: Final = "select count(*) from (select from claim order by id limit 10001) as first"
_UNKNOWN: Final = "select count(*), min(since) from (select since from unsettled order by id limit 10001) as first"
# Outbox rows carry the database's own time, so their age is measured by it.
_OUTBOX: Final = """
select count(*), extract(epoch from clock_timestamp() - min(at))::float
from (select at from outbox order by bucket, reminder, seq, id limit 10001) as first
"""
_PARKED: Final = """
select count(*), min(sweep_at) from (select sweep_at from parked order by sweep_at, receipt limit 10001) as first
"""
_HELD: Final = """
select count(*) from (select from subject where unreadable_stop_at is not null order by key limit 10001) as first
"""
_HELD_BY_FREEZES: Final = "select count(*) from (select from frozen order by id limit 10001) as first"
# As many rows as there are partitions and outcomes.
_PASSED: Final = "select coalesce(sum(next - first), 0)::bigint from intake_offset"
_OUTCOME_SUMS: Final = "select outcome, sum(n)::bigint from intake_count group by outcome"
_FROZEN: Final = """
select kind, count(*) from (select kind from "freeze" where until is null or until > $1 limit 10001) as first
group by kind
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many rows wait (at most `CAP`), and for how many seconds the oldest has waited; 0 when none does."""

    rows: int = 0
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The gauges at one moment, of the whole ledger: every process reads the same.

    `parked` are receipts that wait for their attempt or for a calmer moment; its age is how overdue the first one is.
    `held_borrowers` are those of whom a stop could not be read; `frozen_reminders` those that a freeze holds, or
    has held until their turn comes.  `passed` and `outcomes` are terms of `Conservation`.
    """

    due: Mapping[Lane, Backlog]
    claims: int
    unknown: Backlog
    outbox: Backlog
    frozen: Mapping[FreezeKind, int]
    parked: Backlog = Backlog()
    held_borrowers: int = 0
    frozen_reminders: int = 0
    passed: int = 0
    outcomes: Mapping[ReadOutcome, int] = field(default_factory=dict)


async def read(connection: Connection, now: dt.datetime) -> Reading:
    """Reads every gauge at business time `now`."""
    due = {LANE[row[0]]: Backlog(row[1], _age(now, row[2])) for row in await connection.fetch(_DUE, now)}
    claims = await connection.fetchval(_CLAIMS)
    unknown, since = await connection.fetchrow(_UNKNOWN)
    unpublished, age = await connection.fetchrow(_OUTBOX)
    frozen = {FreezeKind(row[0]): row[1] for row in await connection.fetch(_FROZEN, now)}
    parked, sweep_at = await connection.fetchrow(_PARKED)
    return Reading(
        due,
        claims,
        Backlog(unknown, _age(now, since)),
        Backlog(unpublished, max(age or 0.0, 0.0)),
        frozen,
        Backlog(parked, _age(now, sweep_at)),
        await connection.fetchval(_HELD),
        await connection.fetchval(_HELD_BY_FREEZES),
        await connection.fetchval(_PASSED),
        {ReadOutcome(row[0]): row[1] for row in await connection.fetch(_OUTCOME_SUMS)},
    )


def _age(now: dt.datetime, oldest: dt.datetime | None) -> float:
    return 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0)


Partition: TypeAlias = tuple[str, int]  # topic and number

_LIMIT: Final = "select set_config('statement_timeout', $1, true)"
_POSITIONS: Final = "select topic, partition, first, next from intake_offset"
_OUTCOMES: Final = "select topic, partition, outcome, n from intake_count"
_ROWS: Final = """
select (select count(*) from reminder), (select count(*) from live),
       (select count(*) from due) + (select count(*) from claim) + (select count(*) from timer),
       (select count(*) from deadletter)
"""
_ENDINGS: Final = "select state, count(*) from ending group by state"
_REDRIVEN: Final = "select outcome, count(*) from redrive group by outcome"
_BY_HAND: Final = "select term, n from manual_count"
_FINAL: Final = tuple(state for state in ReminderState if state.final)  # in one order
_REDRIVABLE: Final = (ReadOutcome.ACCEPTED, ReadOutcome.DUPLICATE, ReadOutcome.COMMAND)


@dataclass(frozen=True, slots=True)
class Counted:
    """What the counters say.  Comparable only where they cover the ledger's whole life and no process was killed.

    `born` is every reminder made.  `ended` is how many stand in each final state: those that came into it, at birth or
    later, and those that a last word brought there, less those that one took away.
    """

    read: Mapping[ReadOutcome, int]
    born: int
    ended: Mapping[ReminderState, int]


def counted(
    read: Mapping[ReadOutcome, int],
    born: Iterable[tuple[str | None, int]],
    moved: Iterable[tuple[str | None, int]],
    corrected: Iterable[tuple[str | None, str | None, int]],
) -> Counted:
    """From the counters: births and moves by the state they lead to, corrections by the states they lead from and to.

    Into a final state a reminder moves once, and only a correction changes it then, so that their sums are exact.  Of a
    living state there is none: a reminder can move within it, and where it leaves it for is all that a move counts.
    """
    born = list(born)
    stand: Counter[str | None] = Counter()
    for state, n in (*born, *moved):
        stand[state] += n
    for was, state, n in corrected:
        stand[was] -= n
        stand[state] += n
    return Counted(read, sum(n for _, n in born), {state: stand[state] for state in _FINAL})


@dataclass(frozen=True, slots=True)
class Conservation:
    """The terms, each from its own source, and what does not add up.

    `passed` is `next - first` of the stored offsets, `outcomes` what intake counted, by partition.  The others are full
    counts of rows; `endings` are by state, `queued` those in due, claim and timer.  `log` is the broker's word: (start,
    end) by partition.  To compare with a gateway at work, ask the broker after the ledger and put its answer in with
    `replace`.

    The counters, if given, are compared by what became of the records, by all reminders made, and by each final state.
    With these agrees the sum of the living states: what was made and has not ended.

    `redriven` are the dead letters that people have sent through intake again, by what they became: the record stays
    counted as the dead letter it was when it was read, and the letter is kept.  `by_hand` is what the command line has
    done to reminders, which no process has counted.
    """

    passed: Mapping[Partition, int]
    following: Mapping[Partition, int]
    outcomes: Mapping[Partition, Mapping[ReadOutcome, int]]
    reminders: int
    live: int
    endings: Mapping[ReminderState, int]
    queued: int
    letters: int
    log: Mapping[Partition, tuple[int, int]] = field(default_factory=dict)
    counted: Counted | None = None
    redriven: Mapping[ReadOutcome, int] = field(default_factory=dict)
    by_hand: Counted = Counted({}, 0, {})

    @property
    def read(self) -> int:
        """Records read, by the stored offsets; those that held none are no records."""
        return sum(self.passed.values()) - self.outcome(ReadOutcome.SKIPPED)

    @property
    def unread(self) -> int:
        """Offsets the broker has after the stored ones; in a log of transactions the last ones may hold no record."""
        return sum(max(end - self.following.get(each, start), 0) for each, (start, end) in self.log.items())

    @property
    def accepted(self) -> int:
        """Records that became a reminder, when they were read or when they were redriven."""
        return self.outcome(ReadOutcome.ACCEPTED) + self.redriven.get(ReadOutcome.ACCEPTED, 0)

    @property
    def ended(self) -> int:
        """Reminders in whichever final state."""
        return sum(self.endings.values())

    @property
    def terms(self) -> dict[str, int]:
        """Every term by name, for people."""
        terms = {"records read, by stored offsets": self.read, "records not read yet, by the broker": self.unread}
        terms |= {f"records {each}, by intake's counts": self.outcome(each) for each in ReadOutcome}
        terms |= {
            "reminders": self.reminders,
            "reminders live": self.live,
            "reminders ended": self.ended,
        }
        terms |= {f"reminders {state}": self.endings.get(state, 0) for state in _FINAL}
        terms |= {
            "rows in due, claim and timer": self.queued,
            "dead letters kept": self.letters,
        }
        terms |= {f"dead letters redriven: {each}": self.redriven.get(each, 0) for each in _REDRIVABLE}
        if self.counted is not None:
            terms["reminders born, by the counters"] = self.counted.born
            terms |= {f"reminders {state}, by the counters": self.counted.ended.get(state, 0) for state in _FINAL}
        return terms

    def outcome(self, outcome: ReadOutcome) -> int:
        """Records with this outcome, by what intake counted."""
        return sum(counts.get(outcome, 0) for counts in self.outcomes.values())

    @property
    def gaps(self) -> list[str]:
        """What does not add up, in words and numbers; empty when everything does."""
        return [*self._gaps_of_intake(), *self._gaps_of_the_log(), *self._gaps_of_rows(), *self._gaps_of_counters()]

    def _gaps_of_intake(self) -> list[str]:
        gaps = []
        for each in sorted(self.passed.keys() | self.outcomes.keys()):
            name = f"{each[0]}/{each[1]}"
            gaps += _unless_equal(
                f"{name}: offsets passed",
                self.passed.get(each, 0),
                "outcomes",
                sum(self.outcomes.get(each, {}).values()),
            )
        return gaps

    def _gaps_of_the_log(self) -> list[str]:
        return [
            f"{each[0]}/{each[1]}: the next offset {following} is outside the log, {start} to {end}"
            for each, (start, end) in sorted(self.log.items())
            if (following := self.following.get(each)) is not None and not start <= following <= end
        ]

    def _gaps_of_rows(self) -> list[str]:
        return [
            *_unless_equal("accepted", self.accepted, "reminders", self.reminders),
            *_unless_equal(
                "redriven and accepted",
                self.redriven.get(ReadOutcome.ACCEPTED, 0),
                "made by hand",
                self.by_hand.born,
            ),
            *_unless_equal("dead letters", self.outcome(ReadOutcome.DEADLETTER), "rows kept of them", self.letters),
            *_unless_equal("reminders", self.reminders, "live and ended", self.live + self.ended),
            *_unless_equal("live reminders", self.live, "their queue rows", self.queued),
        ]

    def _gaps_of_counters(self) -> list[str]:
        if self.counted is None:
            return []
        gaps = []
        for outcome in ReadOutcome:
            gaps += _unless_equal(
                f"{outcome} by the counters", self.counted.read.get(outcome, 0), "by the ledger", self.outcome(outcome)
            )
        by_hand = self.by_hand
        gaps += _unless_equal("born by the counters", self.counted.born + by_hand.born, "reminders", self.reminders)
        for state in _FINAL:
            gaps += _unless_equal(
                f"{state} by the counters",
                self.counted.ended.get(state, 0) + by_hand.ended.get(state, 0),
                "by the ledger",
                self.endings.get(state, 0),
            )
        return gaps


def _unless_equal(what: str, one: int, against: str, other: int) -> list[str]:
    return [] if one == other else [f"{what}: {one}, {against}: {other}"]


async def conservation(
    connection: Connection,
    log: Mapping[Partition, tuple[int, int]] | None = None,
    counted: Counted | None = None,
    *,
    within: float = 600.0,
) -> Conservation:
    """Counts everything, in one snapshot.  A full scan of the reminders: on demand or nightly, never in a loop.

    `within` bounds each statement, in seconds.  The connection must not be inside a transaction.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_LIMIT, str(int(within * 1000)))
        positions = await connection.fetch(_POSITIONS)
        counts = await connection.fetch(_OUTCOMES)
        rows: Any = await connection.fetchrow(_ROWS, timeout=within)
        endings = await connection.fetch(_ENDINGS, timeout=within)
        redriven = await connection.fetch(_REDRIVEN, timeout=within)
        by_hand = {row[0]: row[1] for row in await connection.fetch(_BY_HAND)}
    outcomes: dict[Partition, dict[ReadOutcome, int]] = {}
    for topic, partition, outcome, n in counts:
        outcomes.setdefault((topic, partition), {})[ReadOutcome(outcome)] = n
    reminders, live, queued, letters = rows
    return Conservation(
        passed={(row[0], row[1]): row[3] - row[2] for row in positions},
        following={(row[0], row[1]): row[3] for row in positions},
        outcomes=outcomes,
        reminders=reminders,
        live=live,
        endings={REMINDER_STATE[state]: n for state, n in endings},
        queued=queued,
        letters=letters,
        log=log or {},
        counted=counted,
        redriven={ReadOutcome(outcome): n for outcome, n in redriven},
        by_hand=Counted({}, by_hand.get(manual.BORN, 0), {state: by_hand.get(state, 0) for state in _FINAL}),
    )
