"""What a cadence would do, on a calendar that nobody lives in: facts come when they were so, every message arrives.

Pure, and the same functions that the service plans and merges with.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from gateway.cadence.calendar import DAY, local_date
from gateway.cadence.facts import Case, told
from gateway.cadence.merging import Merged, by_day, merge, put_off
from gateway.cadence.model import Cadence, Occasion
from gateway.cadence.planning import Key, Occurrence, Outcome, Skip, Skipped, of_borrower
from gateway.ids import subject_key
from schemas.messages import Ref
from schemas.repayments import Fact, RepaymentPlanned
from schemas.vocabulary import Channel, Stage

# By lender, product and the moment a plan is made: the version it keeps.
Choose = Callable[[Ref, str | None, dt.datetime], Cadence]
# By lender: the channels that he has.
Reachable = Callable[[Ref], Collection[Channel]]


class Fate(StrEnum):
    """What becomes of an occasion of an instalment."""

    CONTACT = "contact"
    MERGED = "merged"  # told of in the message of another
    SUPERSEDED = "superseded"  # the same instalment was told of that day by a more urgent one
    SKIPPED = "skipped"
    AHEAD = "ahead"  # after the last day that was asked for


class Line(Struct, frozen=True):
    """One occasion of one instalment and what became of it.

    `at` is when it went out or would; `reason` says why not, or with whom it was merged.  `cadence` is the version its
    plan was made with.
    """

    lender: str
    borrower: str
    debt: str
    instalment: int
    occasion: str
    stage: Stage
    cadence: str
    zone: str
    fate: Fate
    date: dt.date
    at: dt.datetime | None = None
    reason: str | None = None
    channels: tuple[str, ...] = ()
    rule: str = ""


class Rehearsal(Struct, frozen=True):
    """`lines` has one for every occasion of every instalment of the last plan, and for every contact of an earlier."""

    lines: tuple[Line, ...]

    def counts(self) -> Counter[str]:
        return Counter(each.fate.value for each in self.lines)


def _every_channel(lender: Ref) -> Collection[Channel]:
    return tuple(Channel)


def rehearse(
    facts: Iterable[Fact], choose: Choose, end: dt.datetime, reachable: Reachable = _every_channel
) -> Rehearsal:
    """From the first fact until before `end`."""
    people: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        people.setdefault((fact.lender, _borrower(fact)), []).append(fact)
    lines: list[Line] = []
    for (lender, borrower), theirs in sorted(people.items()):
        lines += _Actor(lender, borrower, theirs, choose, end, reachable(lender)).play()
    return Rehearsal(tuple(lines))


def _borrower(fact: Fact) -> str:
    return fact.borrower.ref if isinstance(fact, RepaymentPlanned) else fact.borrower_ref


class _Actor:
    """One borrower of one lender."""

    def __init__(
        self,
        lender: str,
        borrower: str,
        facts: Sequence[Fact],
        choose: Choose,
        end: dt.datetime,
        reachable: Collection[Channel],
    ) -> None:
        self.lender = lender
        self.borrower = borrower
        self.facts = sorted(facts, key=lambda each: each.as_of)
        self.choose = choose
        self.end = end
        self.reachable = reachable
        self.salt = subject_key(lender, borrower).hex()  # the service's: each reminder stands where it will
        self.case = Case()
        self.cadences: dict[str, Cadence] = {}
        self.planned: list[Outcome] = []
        self.passed: dict[Key, Skip] = {}
        self.done: dict[Key, Line] = {}

    def play(self) -> list[Line]:
        for fact in self.facts:
            if fact.as_of >= self.end:
                break
            self._send_until(fact.as_of)
            self._hear(fact)
        self._send_until(self.end)
        return self._told()

    def _hear(self, fact: Fact) -> None:
        self.case = told(self.case, fact)
        if isinstance(fact, RepaymentPlanned) and fact.debt not in self.cadences:
            self.cadences[fact.debt] = self.choose(fact.lender, fact.product, fact.as_of)
        self._pass(fact.as_of)
        cadences = dict(sorted(self.cadences.items()))
        found = of_borrower(cadences, self.case, fact.as_of, self.salt, self.reachable)
        self.planned = [self._as_it_stands(outcome) for of_debt in found.values() for outcome in of_debt]

    def _pass(self, now: dt.datetime) -> None:
        """What has gone by went by for the reason there was then, whatever becomes known later."""
        today = local_date(now, self._zone)
        for each in self.planned:
            if isinstance(each, Skip):
                occasion = self._occasion(each)
                if each.date + (occasion.good_for_days - 1) * DAY < today:
                    self.passed.setdefault(each.key, each)

    def _send_until(self, limit: dt.datetime) -> None:
        """Everything that goes out before `limit`: what becomes known at a moment counts for what leaves at it."""
        ready = [each for each in self.planned if isinstance(each, Occurrence) and each.key not in self.done]
        days = by_day(ready, self._zone)
        while days and (day := days.pop(min(days))):
            lessons = put_off(day, _what)
            for each in filter(None, map(self._put_off, lessons)):
                days.setdefault(local_date(each.at, self._zone), []).append(each)
            message = merge([each for each in day if each not in lessons], _what)
            if message.leader.at < limit:
                self._sent(message)

    def _put_off(self, lesson: Occurrence) -> Occurrence | None:
        """By a day, as long as it is good."""
        later = lesson.at + DAY
        if later < lesson.until:
            return replace(lesson, at=later)
        self.planned = [each for each in self.planned if each.key != lesson.key]
        self.planned.append(Skip(lesson.key, lesson.occasion, lesson.date, Skipped.YIELDED))
        return None

    def _as_it_stands(self, outcome: Outcome) -> Outcome:
        """What waits for a fact is none until that is told, and a lesson none that he had of another debt."""
        if isinstance(outcome, Skip):
            return outcome
        if outcome.lacks:
            return Skip(outcome.key, outcome.occasion, outcome.date, Skipped.FACT_MISSING)
        if outcome.key not in self.done and outcome.key.business() in {each.business() for each in self.done}:
            return Skip(outcome.key, outcome.occasion, outcome.date, Skipped.OTHER_DEBT)
        return outcome

    @property
    def _zone(self) -> str:
        said = self.case.borrower.timezone
        return "UTC" if said is None else said.what

    def _sent(self, message: Merged[Occurrence]) -> None:
        leader = message.leader
        with_ = f"{leader.key.debt}/{leader.key.instalment}/{leader.occasion}"
        self.done[leader.key] = self._line(leader, Fate.CONTACT, leader.at)
        for each in message.along:
            self.done[each.key] = self._line(each, Fate.MERGED, leader.at, with_)
        for each in message.superseded:
            self.done[each.key] = self._line(each, Fate.SUPERSEDED, leader.at, with_)

    def _told(self) -> list[Line]:
        lines = dict(self.done)
        for each in self.planned:
            if each.key in lines:
                continue
            if isinstance(each, Skip):
                skip = self.passed.get(each.key, each)
                lines[each.key] = self._line(skip, Fate.SKIPPED, None, skip.reason)
            else:
                lines[each.key] = self._line(each, Fate.AHEAD, each.at)
        return sorted(lines.values(), key=lambda each: (each.debt, each.instalment, each.at or _midnight(each.date)))

    def _line(self, each: Outcome, fate: Fate, at: dt.datetime | None, reason: str | None = None) -> Line:
        cadence = self.cadences[each.key.debt]
        channels = tuple(rung.channel.value for rung in each.ladder) if isinstance(each, Occurrence) else ()
        return Line(
            self.lender, self.borrower, each.key.debt, each.key.instalment, each.occasion, each.key.stage, str(cadence),
            self._zone, fate, each.date, at, reason, channels, _rule(cadence, self._occasion(each), each),
        )  # fmt: skip

    def _occasion(self, each: Outcome) -> Occasion:
        return next(known for known in self.cadences[each.key.debt].occasions if known.name == each.occasion)


def _what(each: Occurrence) -> tuple[Key, dt.date]:
    return each.key, each.due


def _rule(cadence: Cadence, occasion: Occasion, each: Outcome) -> str:
    """By which words of the cadence it is when it is."""
    if isinstance(each, Occurrence) and each.pulled:
        return str(occasion.pulled_by)
    grace = f"+{cadence.grace_days}d grace" if occasion.pulled_by is not None and cadence.grace_days else ""
    return f"due{occasion.days:+d}d{grace}" if occasion.days else f"due day{grace}"


def _midnight(date: dt.date) -> dt.datetime:
    return dt.datetime.combine(date, dt.time.min, dt.UTC)
