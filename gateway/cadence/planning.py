"""Which reminders a case gives rise to, and when.  Pure: the same case and moment give the same answer.

Every occasion of every instalment that is planned has exactly one outcome: an `Occurrence`, which goes out at a moment,
or a `Skip`, which says why there is none.  Nothing is left out without a word.  A lesson is told to a borrower and not
of a debt: of all his debts one at most has it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.cadence import calendar
from gateway.cadence.calendar import Hours, Span
from gateway.cadence.facts import BorrowerFacts, Case, DebtFacts
from gateway.cadence.model import Cadence, Evidence, Occasion, Rung, duration
from schemas.repayments import Instalment, Program, Stop
from schemas.vocabulary import Channel, Stage


class Skipped(StrEnum):
    """Why an occasion of an instalment is none."""

    PAID = "paid"
    STOPPED = "stopped"
    OPTED_OUT = "opted_out"
    NO_CONTACT = "no_contact"  # no address of a channel of the ladder that he has not refused
    NO_WINDOW = "no_window"  # the hours he prefers are none of the window's
    IN_GRACE = "in_grace"  # within the grace period, and no debit is known to have failed
    FACT_MISSING = "fact_missing"  # what it would say is not known to be so
    NO_CONSENT = "no_consent"  # to be taught, he has to have agreed
    PAST = "past"  # it was known too late
    YIELDED = "yielded"  # every day it was good for had something more urgent
    NO_BORROWER = "no_borrower"  # nobody has told yet whose debt it is
    OTHER_DEBT = "other_debt"  # a lesson is told once, and for another debt of his


class Key(Struct, frozen=True, order=True, gc=False):
    """An occasion of an instalment, within one borrower of one lender."""

    debt: str
    instalment: int  # of a lesson its place: it was told, whichever instalment is the first of a later plan
    stage: Stage
    step: str  # the planned local date, where a stage may be met more than once; of education the lesson

    @property
    def is_lesson(self) -> bool:
        return self.stage is Stage.EDUCATION

    def business(self) -> tuple[str, int | None, Stage, str]:
        """What there is one contact for: debt, instalment, stage and step; a lesson is of no debt."""
        return (
            ("", None, self.stage, self.step) if self.is_lesson else (self.debt, self.instalment, self.stage, self.step)
        )


class Occurrence(Struct, frozen=True, gc=False):
    """A reminder to be made from `at` on and before `until`; `date` is the local date it was planned for.

    `planned` is when it was to go out, which `at` is unless it is late: then it goes as soon as it may.  `hours` are
    those of his day in which it may.  `amount` is what is owed as of `as_of`.  `pulled` when something told has brought
    it forward.  `ladder` holds the rungs he can be reached by.  One that `lacks` waits until what it would say is known
    to be so.
    """

    key: Key
    occasion: str
    date: dt.date
    at: dt.datetime
    until: dt.datetime
    ladder: tuple[Rung, ...]
    amount: Decimal
    as_of: dt.datetime
    due: dt.date
    planned: dt.datetime
    hours: tuple[Hours, ...]
    pulled: bool = False
    lacks: bool = False


class Skip(Struct, frozen=True, gc=False):
    """No reminder; `stop` is which, where it was a stop."""

    key: Key
    occasion: str
    date: dt.date
    why: Skipped
    stop: Stop | None = None

    @property
    def reason(self) -> str:
        return self.why.value if self.stop is None else f"{self.why.value}:{self.stop.value}"


Outcome = Occurrence | Skip

_ONCE: Final = ""  # the step of a stage that is met once


def of_borrower(
    cadences: Mapping[str, Cadence],
    case: Case,
    now: dt.datetime,
    salt: str = "",
    reachable: Collection[Channel] = tuple(Channel),
) -> dict[str, list[Outcome]]:
    """The outcomes of all his debts, by debt; `cadences` are those their plans were made with.

    Of a lesson that several debts would have it is that with the earliest date, and of two such by the debt's name.
    """
    found = {debt: outcomes(cadence, case, debt, now, salt, reachable) for debt, cadence in cadences.items()}
    first: dict[str, Occurrence] = {}
    for each in (each for of_debt in found.values() for each in of_debt):
        if isinstance(each, Occurrence) and each.key.is_lesson:
            other = first.setdefault(each.key.step, each)
            first[each.key.step] = min(each, other, key=lambda one: (one.date, one.key.debt))
    return {debt: [_once(each, first) for each in of_debt] for debt, of_debt in found.items()}


def _once(outcome: Outcome, first: Mapping[str, Occurrence]) -> Outcome:
    if isinstance(outcome, Skip) or not outcome.key.is_lesson or outcome is first[outcome.key.step]:
        return outcome
    return Skip(outcome.key, outcome.occasion, outcome.date, Skipped.OTHER_DEBT)


def outcomes(
    cadence: Cadence,
    case: Case,
    debt: str,
    now: dt.datetime,
    salt: str = "",
    reachable: Collection[Channel] = tuple(Channel),
) -> list[Outcome]:
    """Of one debt: one for each occasion of each instalment, by instalment and date.

    `now` decides what is past, and when what is late but still good goes out.  `salt` and the key say where in its
    spread a reminder stands, so that it stands there whenever it is planned again.  `reachable` are the channels that
    his lender has.
    """
    facts = case.debts.get(debt)
    if facts is None or facts.instalments is None:
        return []
    planner = _Planner(cadence, case.borrower, facts, debt, now, salt, reachable)
    return [planner.outcome(instalment, occasion) for instalment, occasion in planner.pairs()]


class _Planner:
    def __init__(
        self,
        cadence: Cadence,
        borrower: BorrowerFacts,
        facts: DebtFacts,
        debt: str,
        now: dt.datetime,
        salt: str,
        reachable: Collection[Channel],
    ) -> None:
        assert facts.instalments is not None
        self.cadence = cadence
        self.borrower = borrower
        self.facts = facts
        self.debt = debt
        self.now = now
        self.salt = salt
        self.instalments: Sequence[Instalment] = facts.instalments.what
        self.stop = borrower.stopped() or facts.stopped()
        self.out = borrower.opted_out(Program.REMINDERS)
        self.reachable = frozenset(reachable)
        self.channels = {program: _channels(borrower, program) & self.reachable for program in Program}
        # Of each occasion, whatever the instalment.
        self.ladders = {each.name: self._ladder(each) for each in cadence.occasions}
        self.hours = {each.name: self._hours(each) for each in cadence.occasions}

    def pairs(self) -> Iterator[tuple[Instalment, Occasion]]:
        occasions = sorted(self.cadence.occasions, key=lambda each: each.days)
        ordered = sorted(self.instalments, key=lambda each: (each.due_date, each.number))
        for place, instalment in enumerate(ordered, 1):
            for occasion in occasions:
                if occasion.instalment in (None, place):
                    yield instalment, occasion

    def outcome(self, instalment: Instalment, occasion: Occasion) -> Outcome:
        date = instalment.due_date + occasion.days * calendar.DAY
        failed = self._failed(instalment)
        if occasion.pulled_by is not None and failed is None:
            date += self.cadence.grace_days * calendar.DAY
        teaches = occasion.stage is Stage.EDUCATION
        step = occasion.name if teaches else date.isoformat() if occasion.stage.repeats else _ONCE
        number = occasion.instalment if teaches and occasion.instalment is not None else instalment.number
        key = Key(self.debt, number, occasion.stage, step)

        def skip(why: Skipped, stop: Stop | None = None) -> Skip:
            return Skip(key, occasion.name, date, why, stop)

        owed = self.facts.owed(instalment)
        if owed <= 0 and not (teaches and self._owes_more()):
            return skip(Skipped.PAID)
        if self.stop is not None:
            return skip(Skipped.STOPPED, self.stop)
        if self.out or (teaches and self.borrower.opted_out(Program.EDUCATION)):
            return skip(Skipped.OPTED_OUT)
        if teaches and not self.borrower.agreed(Program.EDUCATION):
            return skip(Skipped.NO_CONSENT)
        if self.borrower.timezone is None:
            return skip(Skipped.NO_BORROWER)
        if failed is None and 0 < occasion.days <= self.cadence.grace_days:
            return skip(Skipped.IN_GRACE)
        lacks = bool(occasion.requires) and not any(self._stands(each) for each in occasion.requires)
        ladder = self.ladders[occasion.name]
        if not ladder:
            return skip(Skipped.NO_CONTACT)
        zone = self.borrower.timezone.what
        hours = self.hours[occasion.name]
        if not hours:
            return skip(Skipped.NO_WINDOW)
        pulled = occasion.pulled_by is not None and failed is not None
        first = calendar.local_date(failed, zone) if pulled and failed is not None else date
        found = self._place(key, occasion, hours, zone, first, failed if pulled else None)
        if found is None:
            return skip(Skipped.PAST)
        at, until, planned = found
        return Occurrence(
            key,
            occasion.name,
            first,
            at,
            until,
            ladder,
            owed,
            self.facts.owed_as_of(instalment),
            instalment.due_date,
            planned,
            tuple(hours),
            pulled,
            lacks,
        )

    def _owes_more(self) -> bool:
        return any(self.facts.owed(each) > 0 for each in self.instalments)

    def _failed(self, instalment: Instalment) -> dt.datetime | None:
        """The first debit that failed; one before the day it was due was of another plan."""
        said = self.borrower.timezone
        if said is None:
            return None
        failed = self.facts.failed.get(instalment.number, ())
        return next((each for each in failed if calendar.local_date(each, said.what) >= instalment.due_date), None)

    def _stands(self, evidence: Evidence) -> bool:
        said = {
            Evidence.CREDIT_REPORTED: self.facts.credit_reported,
            Evidence.LEGAL_FILED: self.facts.legal_filed,
        }[evidence]
        return said is not None and said.what

    def _ladder(self, occasion: Occasion) -> tuple[Rung, ...]:
        channels = self.channels[Program.EDUCATION if occasion.stage is Stage.EDUCATION else Program.REMINDERS]
        return tuple([rung for rung in occasion.ladder if rung.channel in channels])

    def _hours(self, occasion: Occasion) -> list[Hours]:
        preference = self.borrower.preference
        return calendar.within(occasion.window.hours, preference.what.times if preference is not None else None)

    def _place(
        self, key: Key, occasion: Occasion, hours: list[Hours], zone: str, first: dt.date, at_once: dt.datetime | None
    ) -> tuple[dt.datetime, dt.datetime, dt.datetime] | None:
        """When it goes out, until when it may, and when it was to; None when that is behind us.

        On its first date it stands somewhere in the spread, unless it is late or answers something just told: then it
        goes out as soon as the hours allow.
        """
        last = first + (occasion.good_for_days - 1) * calendar.DAY
        if at_once is not None and _is_over(first, hours, zone, at_once):
            last += calendar.DAY  # told after the hours of its day: it is good for the day after, too
        days = [calendar.spans(date, hours, zone) for date in calendar.dates(first, last)]
        all_spans = [span for day in days for span in day]
        if not all_spans:
            return None
        until = all_spans[-1].end
        start = all_spans[0]
        planned = start.start + _fraction(self.salt, key) * min(duration(occasion.window.spread), start.length)
        wanted = at_once if at_once is not None else planned
        at = _next_in(all_spans, max(wanted, self.now))
        return None if at is None else (at, until, wanted)


def _channels(borrower: BorrowerFacts, program: Program) -> frozenset[Channel]:
    """By which he can be reached, wants to be, and has not refused to be.  Who refuses reminders refuses all of it."""
    if borrower.contacts is None:
        return frozenset()
    preferred = None if borrower.preference is None else borrower.preference.what.channels
    return frozenset(
        each.channel
        for each in borrower.contacts.what
        if (preferred is None or each.channel in preferred)
        and not any(borrower.opted_out(refused, each.channel) for refused in (Program.REMINDERS, program))
    )


def _is_over(date: dt.date, hours: list[Hours], zone: str, moment: dt.datetime) -> bool:
    spans = calendar.spans(date, hours, zone)
    return not spans or moment >= spans[-1].end


def _next_in(spans: Sequence[Span], moment: dt.datetime) -> dt.datetime | None:
    """The first moment from `moment` on that is within one of them."""
    return next((max(each.start, moment) for each in spans if moment < each.end), None)


def _fraction(salt: str, key: Key) -> float:
    """0 ≤ x < 1, the same whenever it is asked."""
    text = "\n".join((salt, key.debt, str(key.instalment), key.stage, key.step))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56
