"""What happens to the loans: what the lender's core tells by itself, and what follows from messages that are noticed.

A debit, a payment or an objection is so at one moment and told somewhat later, as of the first.  Nobody is told of
twice at one moment: so the order of facts is never in doubt.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from gateway.dev.borrowers.people import Character, Loan, Person, draw, sms_number
from schemas.messages import Borrower
from schemas.repayments import (
    BorrowerOptedIn,
    BorrowerOptedOut,
    ContactChanged,
    CreditReported,
    DebitFailed,
    DebtResumed,
    DebtStopped,
    Fact,
    Instalment,
    PreferenceChanged,
    Program,
    RepaymentPaid,
    RepaymentPlanned,
    RepaymentRescheduled,
    Stop,
    Times,
)
from schemas.vocabulary import Channel

HOUR: Final = dt.timedelta(hours=1)
DAY: Final = dt.timedelta(days=1)
_PAYS_WHEN_NOTICED: Final = frozenset({Character.FORGETFUL, Character.MOVING, Character.PARTICULAR})
_MOVES_TO: Final = "Europe/Lisbon"


class Tell(Struct, frozen=True):
    """The lender's core tells a fact at `at`."""

    at: dt.datetime
    borrower: str
    fact: Fact


class Letter(Struct, frozen=True):
    """A borrower writes back at `at`."""

    at: dt.datetime
    borrower: str
    number: str
    text: str


class Message(Struct, frozen=True):
    """Something that he may notice: an SMS that arrived, a push he opened, a call he took."""

    at: dt.datetime
    borrower: str
    debt: str | None
    channel: Channel


Deed = Tell | Letter


class World:
    """All borrowers of one lender."""

    def __init__(self, seed: int, lender: str, people: Iterable[Person], start: dt.datetime) -> None:
        self._seed = seed
        self._lender = lender
        self.people = {each.ref: each for each in people}
        self._deeds: list[tuple[dt.datetime, str, int, Deed]] = []
        self._n: Counter[str] = Counter()  # by borrower: what he has ever been about to do
        self._noticed: Counter[str] = Counter()
        self._owed: dict[tuple[str, int], Decimal] = {}
        self._due: dict[tuple[str, int], dt.date] = {}
        self._once: set[tuple[str, str]] = set()
        for person in self.people.values():
            self._begin(person, start)

    def next(self) -> dt.datetime | None:
        """When somebody does something next."""
        return self._deeds[0][0] if self._deeds else None

    def take(self, now: dt.datetime) -> list[Deed]:
        """What has come to its moment; of each borrower the first only, the next one as soon as it is asked again."""
        taken: list[Deed] = []
        later: list[tuple[dt.datetime, str, int, Deed]] = []
        seen: set[str] = set()
        while self._deeds and self._deeds[0][0] <= now:
            each = heapq.heappop(self._deeds)
            if each[1] in seen:
                later.append(each)
                continue
            seen.add(each[1])
            taken.append(each[3])
        for each in later:
            heapq.heappush(self._deeds, each)
        return taken

    def notice(self, message: Message) -> None:
        """A message has reached somebody: perhaps he does something about it."""
        person = self.people[message.borrower]
        self._noticed[person.ref] += 1
        n = self._noticed[person.ref]
        if message.channel is Channel.SMS and self._draw(person, "reads", n) >= person.attention:
            return
        loan = next((each for each in person.loans if each.ref == message.debt), person.loans[0])
        open_ = self._open(loan, message.at)
        match person.character:
            case _ if open_ is None:
                return  # nothing is owed yet
            case each if each in _PAYS_WHEN_NOTICED:
                if self._draw(person, "pays", n) < 0.6:
                    self._pay(person, loan, open_, message.at + self._hours(person, n, 1, 30))
            case Character.PIECEMEAL:
                part = Decimal("0.5") if self._first(person, f"half {loan.ref}/{open_}") else Decimal(0)
                if part or self._draw(person, "pays", n) < 0.5:
                    self._pay(person, loan, open_, message.at + self._hours(person, n, 1, 20), part)
            case Character.DISPUTING:
                self._dispute(person, loan, message.at, n)
            case Character.STRUGGLING:
                self._struggle(person, loan, message.at, n)
            case Character.LEAVING:
                self._leave(person, message.at, n)
            case _:
                return  # he pays by himself, or never

    # --- what happens by itself -----------------------------------------------------------------------------------

    def _begin(self, person: Person, start: dt.datetime) -> None:
        for loan in person.loans:
            told = start + self._draw(person, loan.ref, "told") * 20 * HOUR
            if self._draw(person, loan.ref, "told late") < 0.06:
                told += (3 + 5 * self._draw(person, loan.ref, "days late")) * DAY
            self._tell(told, person, _planned(self._lender, person, loan, told))
            self._expect(person, loan, loan.instalments)
        if self._draw(person, "learns") < 0.4:
            agreed = start + self._draw(person, "agrees") * 2 * DAY
            program = BorrowerOptedIn(**self._who(person), as_of=agreed, program=Program.EDUCATION)
            self._tell(agreed, person, program)
        if person.character is Character.MOVING:
            at = start + (9 + 12 * self._draw(person, "moves")) * DAY
            contacts = person.contacts(moved=True)
            self._tell(at, person, ContactChanged(**self._who(person), contacts=contacts, as_of=at, timezone=_MOVES_TO))
        if person.character is Character.PARTICULAR:
            at = start + (2 + 4 * self._draw(person, "prefers")) * DAY
            evening = self._draw(person, "hours") < 0.7
            self._tell(at, person, PreferenceChanged(
                **self._who(person), as_of=at,
                times=(Times("16:00", "19:30"),) if evening else None,
                channels=None if evening else (Channel.SMS,),
            ))  # fmt: skip

    def _expect(self, person: Person, loan: Loan, instalments: Iterable[Instalment]) -> None:
        """The days on which something is due, and what is known by then."""
        for each in instalments:
            key = (loan.ref, each.number)
            self._owed.setdefault(key, Decimal(each.amount))
            self._due[key] = each.due_date
            due = dt.datetime.combine(each.due_date, dt.time(5), ZoneInfo(person.zone)).astimezone(dt.UTC)
            due += self._draw(person, *key, "debit") * 5 * HOUR
            if person.character is Character.PUNCTUAL:
                early = self._draw(person, *key, "early") < 0.4
                self._pay(person, loan, each.number, due - (1 + 5 * self._draw(person, *key, "days")) * DAY * early)
            elif loan.debited:
                self._debit(person, loan, each.number, due)
            if person.character is Character.SILENT and self._draw(person, *key, "reported") < 0.6:
                reported = due + (20 + 6 * self._draw(person, *key, "bureau")) * DAY
                self._tell(reported, person, CreditReported(**self._who(person), debt=loan.ref, as_of=reported))

    def _debit(self, person: Person, loan: Loan, number: int, at: dt.datetime) -> None:
        """It fails, and is tried again on the same day and two days later."""
        for again, later in enumerate((0 * HOUR, 6 * HOUR, 2 * DAY)):
            if again == 0 or self._draw(person, loan.ref, number, "again", again) < 0.4:
                told = at + later + self._draw(person, loan.ref, number, "told", again) * HOUR / 2
                fact = DebitFailed(**self._who(person), debt=loan.ref, instalment=number, as_of=at + later)
                self._tell(told, person, fact)

    # --- what follows from a message ------------------------------------------------------------------------------

    def _open(self, loan: Loan, at: dt.datetime) -> int | None:
        """The instalment that is owed longest and due by now; a reminder before that day moves nobody."""
        day = at.date()
        owed = [n for (ref, n), left in self._owed.items() if ref == loan.ref and left and self._due[ref, n] <= day]
        return min(owed, default=None)

    def _pay(self, person: Person, loan: Loan, number: int, at: dt.datetime, left: Decimal = Decimal(0)) -> None:
        """Told one to four hours later; `left` is the share that is still owed."""
        key = (loan.ref, number)
        still = (self._owed[key] * left).quantize(Decimal("0.01"))
        self._owed[key] = still
        told = at + (1 + 3 * self._draw(person, *key, "booked", at)) * HOUR
        paid = RepaymentPaid(
            **self._who(person), debt=loan.ref, as_of=at, instalment=number, outstanding=f"{still:f}" if still else "0"
        )
        self._tell(told, person, paid)
        if self._draw(person, *key, "told twice") < 0.05:
            self._tell(told + 5 * HOUR, person, paid)

    def _dispute(self, person: Person, loan: Loan, at: dt.datetime, n: int) -> None:
        if not self._first(person, "disputes"):
            return
        written = at + self._hours(person, n, 0.2, 2)
        self._write(written, person, "I do not owe this.")
        self._stop(person, loan, Stop.DISPUTED, written + self._hours(person, n, 1, 6))
        if self._draw(person, "refuted") < 0.5:
            self._resume(person, loan, Stop.DISPUTED, written + 9 * DAY)

    def _struggle(self, person: Person, loan: Loan, at: dt.datetime, n: int) -> None:
        if not self._first(person, "struggles"):
            return
        written = at + self._hours(person, n, 0.2, 3)
        self._write(written, person, "I have lost my job, can we talk?")
        self._stop(person, loan, Stop.HARDSHIP, written + self._hours(person, n, 1, 4))
        agreed = written + 3 * DAY
        moved = tuple(replace(each, due_date=each.due_date + 14 * DAY) for each in loan.instalments)
        fact = RepaymentRescheduled(**self._who(person), debt=loan.ref, instalments=moved, as_of=agreed)
        self._tell(agreed, person, fact)
        self._resume(person, loan, Stop.HARDSHIP, agreed + HOUR)
        for each in moved:
            self._due[loan.ref, each.number] = each.due_date

    def _leave(self, person: Person, at: dt.datetime, n: int) -> None:
        if n < 2 or not self._first(person, "leaves"):
            return
        written = at + self._hours(person, n, 0.1, 1)
        self._write(written, person, "STOP")
        only = Channel.SMS if self._draw(person, "only") < 0.4 else None
        told = written + HOUR / 2
        self._tell(told, person, BorrowerOptedOut(**self._who(person), as_of=written, channel=only))

    def _stop(self, person: Person, loan: Loan, reason: Stop, at: dt.datetime) -> None:
        self._tell(at, person, DebtStopped(**self._who(person), reason=reason, as_of=at, debt=loan.ref))

    def _resume(self, person: Person, loan: Loan, reason: Stop, at: dt.datetime) -> None:
        self._tell(at, person, DebtResumed(**self._who(person), reason=reason, as_of=at, debt=loan.ref))

    # --- bookkeeping ----------------------------------------------------------------------------------------------

    def _tell(self, at: dt.datetime, person: Person, fact: Fact) -> None:
        self._put(Tell(at, person.ref, fact))

    def _write(self, at: dt.datetime, person: Person, text: str) -> None:
        self._put(Letter(at, person.ref, sms_number(person.number), text))

    def _put(self, deed: Deed) -> None:
        self._n[deed.borrower] += 1
        heapq.heappush(self._deeds, (deed.at, deed.borrower, self._n[deed.borrower], deed))

    def _who(self, person: Person) -> dict[str, Any]:
        return {"lender": self._lender, "borrower_ref": person.ref}

    def _first(self, person: Person, what: str) -> bool:
        if (person.ref, what) in self._once:
            return False
        self._once.add((person.ref, what))
        return True

    def _hours(self, person: Person, n: int, least: float, most: float) -> dt.timedelta:
        return (least + (most - least) * self._draw(person, "hours", n, most)) * HOUR

    def _draw(self, person: Person, *what: object) -> float:
        return draw(self._seed, person.ref, *what)


def _planned(lender: str, person: Person, loan: Loan, at: dt.datetime) -> RepaymentPlanned:
    return RepaymentPlanned(
        lender=lender,
        borrower=Borrower(person.ref, "en", person.zone, person.jurisdiction, name=person.name),
        contacts=person.contacts(),
        debt=loan.ref,
        currency="USD",
        instalments=loan.instalments,
        as_of=at,
        params={"pay_url": f"https://pay.example.com/{loan.ref}", "reference": marker(loan.ref)},
    )


def marker(debt: str) -> str:
    """What every text says of its debt, also one that tells no amount."""
    return f"M-{debt.removeprefix('loan-')}"
