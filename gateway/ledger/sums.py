"""The conservation sums: every term from its own source, and what does not add up.  A full count, on demand.

While the service runs nothing here is called: the gauges show what can be seen at a fixed cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from gateway.ledger import manual
from gateway.ledger.database import Connection
from gateway.ledger.gauges import ReadOutcome
from gateway.ledger.situations import REMINDER_STATE
from schemas.vocabulary import ReminderState

Partition: TypeAlias = tuple[str, int]  # topic and number

_LIMIT: Final = "select set_config('statement_timeout', $1, true)"
_POSITIONS: Final = "select topic, partition, first, next from intake_offset"
_OUTCOMES: Final = "select topic, partition, outcome, n from intake_count"
_ROWS: Final = """
select (select count(*) from reminder), (select count(*) from live),
       (select count(*) from due) + (select count(*) from claim) + (select count(*) from timer),
       (select count(*) from deadletter)
"""
_PLANNED: Final = "select coalesce(sum(n), 0)::bigint from planned_count"
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
    done to reminders, which no process has counted.  `planned` are reminders that facts have made, `planned_by_hand`
    those of them that redriven facts have.
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
    planned: int = 0
    planned_by_hand: int = 0

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
            "reminders planned, by intake's counts": self.planned,
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
            *_unless_equal("accepted and planned", self.accepted + self.planned, "reminders", self.reminders),
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
        born = self.counted.born + by_hand.born + self.planned_by_hand
        gaps += _unless_equal("born by the counters", born, "reminders", self.reminders)
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
        planned = await connection.fetchval(_PLANNED)
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
        planned=planned,
        planned_by_hand=by_hand.get(manual.PLANNED, 0),
    )
