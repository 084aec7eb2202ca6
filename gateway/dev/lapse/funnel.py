"""The funnel: every occasion of every instalment that was planned, and what became of it.

Two sides, neither made from the other.  What was to be follows from the facts as they lie on Kafka, and from the keys
that were pressed in calls, told one after the other to the pure planner; what was done is the ledger's word.  An
occasion that ever was to be a reminder must have one, any other must have none.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from gateway.cadence.calendar import DAY, local_date
from gateway.cadence.facts import Case, told
from gateway.cadence.model import Cadence, Occasion
from gateway.cadence.planning import Occurrence, Outcome, Skip, of_borrower
from gateway.ledger.occasions import Standing
from schemas.repayments import FACT_TYPES, Fact, RepaymentPlanned, RepaymentRescheduled
from schemas.vocabulary import Channel, Stage

SKIPPED: Final = "skipped"
_SHOWN: Final = 20  # faults; the others are counted


class Key(NamedTuple):
    """The business key: of a lesson, which is of no debt, its borrower and step alone."""

    borrower: str
    debt: str
    instalment: int | None
    stage: str
    step: str


@dataclass(slots=True)
class Wanted:
    """`made`: it was to be a reminder at some time.  Else `why` it never was, as it stood when its time went by."""

    occasion: str
    made: bool = False
    why: str = ""


class Told(NamedTuple):
    """A fact as it lies on Kafka, and when it was told."""

    at: dt.datetime
    fact: Fact


def read(values: Iterable[bytes]) -> list[Told]:
    """The facts; what else may lie on the topic is of nobody."""
    found = []
    for event in map(json.loads, values):
        if event["type"] not in FACT_TYPES:
            continue
        fact = cast("Fact", msgspec.convert(event["data"], FACT_TYPES[event["type"]]))
        found.append(Told(dt.datetime.fromisoformat(event["time"]), fact))
    return found


def wanted(facts: Sequence[Told], cadence: Cadence, reachable: Collection[Channel]) -> dict[Key, Wanted]:
    """What every occasion was to be.  `facts` of one borrower are in their order."""
    found: dict[Key, Wanted] = {}
    cases: dict[str, Case] = {}
    occasions = {each.name: each for each in cadence.occasions}
    for at, fact in facts:
        borrower = _borrower(fact)
        case = cases[borrower] = told(cases.get(borrower, Case()), fact)
        zone = case.borrower.timezone
        today = local_date(at, "UTC" if zone is None else zone.what)
        theirs = of_borrower(dict.fromkeys(case.debts, cadence), case, at, reachable=reachable)
        for key, outcome in _by_key(borrower, theirs.values()).items():
            each = found.setdefault(key, Wanted(outcome.occasion))
            if isinstance(outcome, Occurrence):
                each.made = True
            else:
                _skip(each, outcome, occasions[outcome.occasion], today)
    return found


def _borrower(fact: Fact) -> str:
    return fact.borrower.ref if isinstance(fact, RepaymentPlanned) else fact.borrower_ref


def _by_key(borrower: str, of_debts: Iterable[Iterable[Outcome]]) -> dict[Key, Outcome]:
    """Of a lesson the debt that has it, or where it is none the one that would have had it last."""
    found: dict[Key, Outcome] = {}
    for outcome in (each for of_debt in of_debts for each in of_debt):
        key = Key(borrower, *outcome.key.business())
        other = found.get(key)
        if other is None or _weight(outcome) > _weight(other):
            found[key] = outcome
    return found


def _weight(outcome: Outcome) -> tuple[bool, dt.date]:
    return isinstance(outcome, Occurrence), outcome.date


def _skip(each: Wanted, skip: Skip, occasion: Occasion, today: dt.date) -> None:
    """What has gone by went by for the reason there was then."""
    gone_by = skip.date + (occasion.good_for_days - 1) * DAY < today
    if not (each.why and gone_by):
        each.why = skip.reason


class Planned(NamedTuple):
    """Counted from the plans alone: `moved` are other dates of an instalment; what comes after is planned for each."""

    borrowers: int
    debts: int
    instalments: int
    moved: int


def planned(facts: Iterable[Told]) -> Planned:
    dates: dict[tuple[str, str, int], set[dt.date]] = {}
    for _, fact in facts:
        if isinstance(fact, RepaymentPlanned | RepaymentRescheduled):
            for each in fact.instalments:
                dates.setdefault((_borrower(fact), fact.debt, each.number), set()).add(each.due_date)
    borrowers, debts = {borrower for borrower, _, _ in dates}, {(borrower, debt) for borrower, debt, _ in dates}
    return Planned(len(borrowers), len(debts), len(dates), sum(len(each) - 1 for each in dates.values()))


class _Parts(NamedTuple):
    """A cadence by how often its occasions are there."""

    of_instalments: list[Occasion]
    of_debts: list[Occasion]
    lessons: list[Occasion]


@dataclass(frozen=True, slots=True)
class Funnel:
    """Both sides beside each other."""

    cadence: Cadence
    planned: Planned
    wanted: Mapping[Key, Wanted]
    standing: Mapping[Key, Standing]

    @classmethod
    def of(
        cls, facts: Sequence[Told], cadence: Cadence, reachable: Collection[Channel], ledger: list[Standing]
    ) -> Funnel:
        standing = {Key(each.borrower, each.debt, each.instalment, each.stage, each.step): each for each in ledger}
        return cls(cadence, planned(facts), wanted(facts, cadence, reachable), standing)

    @property
    def occasions(self) -> int:
        """Instalments × occasions of their cadence, and once more what is after the due date where that has moved.

        Lessons are there once for each borrower, what else is told of one instalment only once for each debt.
        """
        parts = self._parts()
        planned, again = self.planned, sum(each.stage.repeats for each in parts.of_instalments)
        return (
            planned.instalments * len(parts.of_instalments)
            + planned.debts * len(parts.of_debts)
            + planned.borrowers * len(parts.lessons)
            + planned.moved * again
        )

    def _parts(self) -> _Parts:
        parts = _Parts([], [], [])
        for each in self.cadence.occasions:
            lesson = each.stage is Stage.EDUCATION
            where = parts.lessons if lesson else parts.of_instalments if each.instalment is None else parts.of_debts
            where.append(each)
        return parts

    @property
    def skips(self) -> Counter[str]:
        return Counter(each.why for each in self.wanted.values() if not each.made)

    @property
    def ends(self) -> Counter[str]:
        """Reminders by state and reason, of each occasion the last."""
        return Counter(_end(each) for each in self.standing.values())

    def problems(self) -> list[str]:
        """What does not add up."""
        found = []
        reminders, skips = len(self.standing), self.skips.total()
        if self.occasions != reminders + skips:
            found.append(f"{self.occasions} occasions, but {reminders} reminders and {skips} skips")
        for key, each in self.wanted.items():
            if each.made and key not in self.standing:
                found.append(f"{_name(key)}: was to be a reminder, and there is none")
            if not each.made and key in self.standing:
                found.append(f"{_name(key)}: there is a reminder, but it was none: {each.why}")
        found += [f"{_name(key)}: a reminder that no plan asks for" for key in self.standing if key not in self.wanted]
        return found[:_SHOWN] + ([f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])

    def sums(self) -> dict[str, Any]:
        return {
            "instalments": self.planned.instalments,
            "occasions": self.occasions,
            "reminders": len(self.standing),
            "made_anew": sum(each.made - 1 for each in self.standing.values()),
            "ends": dict(sorted(self.ends.items())),
            "skips": dict(sorted(self.skips.items())),
        }

    def table(self) -> Table:
        """What became of them by occasion; every column adds up, and so does every row."""
        names = [each.name for each in self.cadence.occasions]
        rows: dict[str, Counter[str]] = {}
        for key, standing in self.standing.items():
            name = self.wanted[key].occasion if key in self.wanted else "?"
            rows.setdefault(_end(standing), Counter())[name] += 1
        skips: dict[str, Counter[str]] = {}
        for each in self.wanted.values():
            if not each.made:
                skips.setdefault(each.why, Counter())[each.occasion] += 1
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("what became of it")
        for name in (*names, "all"):
            table.add_column(name, justify="right")
        made, left = (
            _section(table, names, rows),
            _section(table, names, {f"{SKIPPED}: {why}": n for why, n in skips.items()}),
        )
        _row(table, names, "= reminders", made)
        _row(table, names, "+ skips", left)
        _row(table, names, self._times(), made + left)
        return table

    def _times(self) -> str:
        parts, planned = self._parts(), self.planned
        of_debts = f" + {planned.debts} debts × {len(parts.of_debts)}" if parts.of_debts else ""
        lessons = f" + {planned.borrowers} borrowers × {len(parts.lessons)} lessons" if parts.lessons else ""
        moved = f", {planned.moved} with another date" if planned.moved else ""
        return f"= {planned.instalments} instalments × {len(parts.of_instalments)} occasions{of_debts}{lessons}{moved}"


def _section(table: Table, names: Sequence[str], rows: Mapping[str, Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for what, counts in sorted(rows.items(), key=lambda each: (-each[1].total(), each[0])):
        _row(table, names, what, counts)
        total += counts
    table.add_section()
    return total


def _row(table: Table, names: Sequence[str], what: str, counts: Counter[str]) -> None:
    table.add_row(what, *(str(counts[name] or "") for name in names), str(counts.total()))


def _end(standing: Standing) -> str:
    return standing.state if standing.reason is None else f"{standing.state}: {standing.reason}"


def _name(key: Key) -> str:
    return "/".join(str(part) for part in key if part)
