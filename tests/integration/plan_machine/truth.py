"""What the lender has said, as `docs/cadences.md` has it: asked of the whole list of facts whenever it is needed.

Every fact has a moment of its own, so that the later one is never in doubt.  Nothing here is of the service.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from schemas.repayments import (
    BorrowerOptedIn,
    BorrowerOptedOut,
    ContactChanged,
    CreditReported,
    DebitFailed,
    DebtResumed,
    DebtStopped,
    Instalment,
    LegalFiled,
    PreferenceChanged,
    Program,
    RepaymentPaid,
    RepaymentPlanned,
    RepaymentRescheduled,
    Stop,
)
from schemas.vocabulary import Channel

T = TypeVar("T")

DAY: Final = dt.timedelta(days=1)
# Of the packaged cadence: days from the due date, on how many of his days it is good, the hours.
_NINE, _TEN = (dt.time(9), dt.time(20)), (dt.time(10), dt.time(19))
_ONCE: Final = {"d7": (-7, 3, _NINE), "d3": (-3, 2, _NINE), "overdue_late": (30, 3, _TEN)}
_OVERDUE: Final = {"overdue_early": {1: (1, _NINE), 3: (1, _NINE)}, "overdue_mid": {7: (1, _TEN), 15: (2, _TEN)}}
_LESSONS: Final = {"spot_fraud": -18, "ask_for_help": -16, "pay_early": -13, "complain": -11}
_AGES: Final = {"d7": 7 * DAY, "d3": 3 * DAY, "education": 30 * DAY}
GRACE: Final = 1


class Truth:
    def __init__(self) -> None:
        self.facts: list[tuple[str, Any]] = []
        self.cancels: list[tuple[str, str | None, dt.datetime]] = []  # who, of which debt, as of when
        self.heard = dt.datetime.min.replace(tzinfo=dt.UTC)  # up to when all that happened is known

    def _last(self, who: str, *kinds: type[T], **like: Any) -> T | None:
        found: list[Any] = [
            fact
            for ref, fact in self.facts
            if ref == who and isinstance(fact, kinds) and all(getattr(fact, k) == v for k, v in like.items())
        ]
        return max(found, key=lambda each: each.as_of, default=None)

    def debts(self, who: str) -> list[str]:
        return sorted({each.debt for ref, each in self.facts if ref == who and isinstance(each, RepaymentPlanned)})

    def plan(self, who: str, debt: str) -> RepaymentPlanned | RepaymentRescheduled | None:
        return self._last(who, RepaymentPlanned, RepaymentRescheduled, debt=debt)

    def instalment(self, who: str, debt: str, number: int) -> Instalment | None:
        plan = self.plan(who, debt)
        return None if plan is None else next((each for each in plan.instalments if each.number == number), None)

    def number(self, who: str, key: tuple[str, int, str, str]) -> int:
        """The instalment it is of: a lesson is of the first, whichever that is."""
        debt, number, stage, _ = key
        plan = self.plan(who, debt)
        if stage != "education" or plan is None:
            return number
        return min(plan.instalments, key=lambda each: (each.due_date, each.number)).number

    def owed(self, who: str, debt: str, number: int) -> Decimal:
        plan, mine = self.plan(who, debt), self.instalment(who, debt, number)
        if plan is None or mine is None:
            return Decimal(0)
        whole = self._last(who, RepaymentPaid, debt=debt, instalment=None)
        if whole is not None and whole.as_of >= plan.as_of:
            return Decimal(0)
        part = self._last(who, RepaymentPaid, debt=debt, instalment=number)
        return Decimal(mine.amount) if part is None else min(Decimal(mine.amount), Decimal(part.outstanding))

    def owes_more(self, who: str, debt: str) -> bool:
        plan = self.plan(who, debt)
        return plan is not None and any(self.owed(who, debt, each.number) > 0 for each in plan.instalments)

    def stopped(self, who: str, debt: str) -> bool:
        last = [
            self._last(who, DebtStopped, DebtResumed, debt=each, reason=why) for each in (debt, None) for why in Stop
        ]
        return any(isinstance(each, DebtStopped) for each in last)

    def cancelled(self, who: str, debt: str, number: int) -> bool:
        """By upstream, with all that was known then; what is known later is not meant."""
        known = [self.plan(who, debt)]
        known += [self._last(who, RepaymentPaid, debt=debt, instalment=each) for each in (number, None)]
        last = max(each.as_of for each in known if each is not None)
        return any(ref == who and of in (debt, None) and last <= as_of for ref, of, as_of in self.cancels)

    def opted(self, who: str, program: Program, channel: Channel | None = None) -> bool | None:
        """True out, False in, None where he has said nothing."""
        last = self._last(who, BorrowerOptedOut, BorrowerOptedIn, program=program, channel=channel)
        return None if last is None else isinstance(last, BorrowerOptedOut)

    def zone(self, who: str) -> str:
        said = [
            (each.as_of, each.borrower.timezone if isinstance(each, RepaymentPlanned) else each.timezone)
            for ref, each in self.facts
            if ref == who and isinstance(each, RepaymentPlanned | ContactChanged)
        ]
        return str(max(each for each in said if each[1] is not None)[1])

    def local(self, who: str, moment: dt.datetime) -> dt.datetime:
        return moment.astimezone(ZoneInfo(self.zone(who)))

    def address(self, who: str, channel: Channel) -> str | None:
        last: Any = self._last(who, RepaymentPlanned, ContactChanged)
        return next((each.address for each in last.contacts if each.channel == channel), None)

    def failed(self, who: str, debt: str, mine: Instalment) -> dt.datetime | None:
        """The first debit that failed on the due date or later."""
        moments = sorted(
            each.as_of
            for ref, each in self.facts
            if ref == who and isinstance(each, DebitFailed) and (each.debt, each.instalment) == (debt, mine.number)
        )
        return next((each for each in moments if self.local(who, each).date() >= mine.due_date), None)

    def evident(self, who: str, debt: str) -> bool:
        last: list[Any] = [self._last(who, kind, debt=debt) for kind in (CreditReported, LegalFiled)]
        return any(each is not None and not each.withdrawn for each in last)

    def wrong(self, who: str, key: tuple[str, int, str, str], channel: Channel, now: dt.datetime) -> Iterator[str]:
        """Why nobody may be contacted for this by this channel now."""
        debt, _, stage, _ = key
        mine = self.instalment(who, debt, self.number(who, key))
        teaches = stage == "education"
        yield from self.over(who, key)
        if mine is None:
            return
        if now >= self.heard + _AGES.get(stage, DAY):
            yield f"what is known is of {self.heard}"
        programs = [Program.REMINDERS, *([Program.EDUCATION] if teaches else [])]
        if any(self.opted(who, program, each) for program in programs for each in (None, channel)):
            yield "he has opted out"
        preference = self._last(who, PreferenceChanged)
        if preference is not None and preference.channels is not None and channel not in preference.channels:
            yield "he does not want to be reached so"
        yield from self._when(who, key, mine, now)

    def over(self, who: str, key: tuple[str, int, str, str]) -> Iterator[str]:
        """Why there is nothing to be told of it, whenever and by whichever channel."""
        debt, _, stage, _ = key
        number = self.number(who, key)
        teaches = stage == "education"
        if self.instalment(who, debt, number) is None:
            yield "it is of no plan"
            return
        if self.owed(who, debt, number) <= 0 and not (teaches and self.owes_more(who, debt)):
            yield "nothing is owed"
        if self.stopped(who, debt):
            yield "it is stopped"
        if self.cancelled(who, debt, number):
            yield "it is cancelled"
        if self.opted(who, Program.REMINDERS):
            yield "he wants no reminders"
        if teaches and self.opted(who, Program.EDUCATION) is not False:
            yield "he has not agreed"
        if stage == "overdue_late" and not self.evident(who, debt):
            yield "what it says is not known to be so"

    def _when(self, who: str, key: tuple[str, int, str, str], mine: Instalment, now: dt.datetime) -> Iterator[str]:
        debt, _, stage, step = key
        failed = self.failed(who, debt, mine)
        local = self.local(who, now)
        if stage == "due":
            first = mine.due_date + GRACE * DAY if failed is None else self.local(who, failed).date()
            days, hours = 1 if failed is None else 2, _NINE
        elif stage == "education":
            first, days, hours = mine.due_date + _LESSONS[step] * DAY, 5, _TEN
            hours = (dt.time(10), dt.time(20))
        elif stage in _ONCE:
            offset, days, hours = _ONCE[stage]
            first = mine.due_date + offset * DAY
        else:
            first = dt.date.fromisoformat(step)
            offset = (first - mine.due_date).days
            if offset not in _OVERDUE[stage]:
                yield f"no such day: {offset}"
                return
            days, hours = _OVERDUE[stage][offset]
            if offset <= GRACE and failed is None:
                yield "he is in grace"
        if not first <= local.date() < first + days * DAY:
            yield f"it is good for {days} days from {first}, not on {local}"
        if not hours[0] <= local.time() < hours[1]:
            yield f"outside its hours: {local}"
        preference = self._last(who, PreferenceChanged)
        if preference is not None and preference.times is not None:
            at = f"{local:%H:%M}"
            if not any(each.start <= at < each.end for each in preference.times):
                yield f"outside the hours he prefers: {local}"
