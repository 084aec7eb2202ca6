"""What had been told of each borrower by any moment, by the CloudEvents on the topic."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple


class Fact(NamedTuple):
    at: dt.datetime  # told
    as_of: dt.datetime  # so
    what: Any


class Debt:
    def __init__(self) -> None:
        self.marker: str | None = None
        self.plans: list[Fact] = []  # {number: due date}
        self.amounts: list[Fact] = []  # {number: what was planned}
        self.paid: dict[int | None, list[Fact]] = {}  # what is still owed
        self.failed: dict[int, list[Fact]] = {}
        self.stops: dict[str, list[Fact]] = {}
        self.evidence: dict[str, list[Fact]] = {}


class Borrower:
    def __init__(self) -> None:
        self.told: list[dt.datetime] = []
        self.zones: list[Fact] = []
        self.contacts: list[Fact] = []  # {(channel, address)}
        self.preferences: list[Fact] = []  # (hours, channels)
        self.out: dict[tuple[str, str | None], list[Fact]] = {}  # by program and channel
        self.stops: dict[str, list[Fact]] = {}
        self.debts: dict[str, Debt] = {}
        self.pressed_stop: list[dt.datetime] = []  # he pressed the key for no more reminders


def borrowers(events: Iterable[dict[str, Any]]) -> dict[str, Borrower]:
    found: dict[str, Borrower] = {}
    for event in events:
        data = event["data"]
        ref = data["borrower"]["ref"] if "borrower" in data else data.get("borrower_ref")
        if ref is None:
            continue  # of nobody in particular
        _tell(found.setdefault(ref, Borrower()), event["type"], data, moment(event["time"]))
    return found


def _tell(who: Borrower, kind: str, data: dict[str, Any], at: dt.datetime) -> None:
    def fact(what: Any) -> Fact:
        return Fact(at, moment(data["as_of"]), what)

    who.told.append(at)
    debt = who.debts.setdefault(data["debt"], Debt()) if data.get("debt") else None
    if "contacts" in data:
        who.contacts.append(fact({(each["channel"], each["address"]) for each in data["contacts"]}))
    zone = data.get("timezone") or data.get("borrower", {}).get("timezone")
    if zone:
        who.zones.append(fact(zone))
    if debt is not None and "instalments" in data:
        debt.plans.append(fact({n["number"]: dt.date.fromisoformat(n["due_date"]) for n in data["instalments"]}))
        debt.amounts.append(fact({n["number"]: Decimal(n["amount"]) for n in data["instalments"]}))
        debt.marker = data.get("params", {}).get("reference", debt.marker)
    match kind:
        case "repayment.paid.v1" if debt is not None:
            debt.paid.setdefault(data.get("instalment"), []).append(fact(Decimal(data.get("outstanding", "0"))))
        case "repayment.debit_failed.v1" if debt is not None:
            debt.failed.setdefault(data["instalment"], []).append(fact(True))
        case "debt.stopped.v1" | "debt.resumed.v1":
            stops = who.stops if debt is None else debt.stops
            stops.setdefault(data["reason"], []).append(fact(kind == "debt.stopped.v1"))
        case "borrower.opted_out.v1" | "borrower.opted_in.v1":
            program = (data.get("program", "reminders"), data.get("channel"))
            who.out.setdefault(program, []).append(fact(kind == "borrower.opted_out.v1"))
        case "credit.reported.v1" | "legal.filed.v1" if debt is not None:
            name = kind.removesuffix(".v1").replace(".", "_")
            debt.evidence.setdefault(name, []).append(fact(not data.get("withdrawn", False)))
        case "borrower.preference_changed.v1":
            who.preferences.append(fact((data.get("times"), data.get("channels"))))


class View:
    """What had been told by a moment: before it, or at it too."""

    def __init__(self, at: dt.datetime, inclusive: bool) -> None:
        self._at = at
        self._inclusive = inclusive

    def of(self, facts: Iterable[Fact]) -> list[Fact]:
        return [each for each in facts if each.at < self._at or (self._inclusive and each.at == self._at)]

    def of_moments(self, moments: Iterable[dt.datetime]) -> list[dt.datetime]:
        return [each for each in moments if each < self._at or (self._inclusive and each == self._at)]

    def last_fact(self, facts: Iterable[Fact]) -> Fact | None:
        """The one that counts: the latest by the lender's books."""
        return max(self.of(facts), key=lambda each: each.as_of, default=None)

    def last(self, facts: Iterable[Fact]) -> Any:
        found = self.last_fact(facts)
        return None if found is None else found.what

    def owed(self, debt: Debt, number: int) -> Decimal:
        """Of an instalment: nothing where the whole debt is paid and nothing was planned since."""
        whole, plan = self.last_fact(debt.paid.get(None, ())), self.last_fact(debt.amounts)
        if plan is None or (whole is not None and whole.as_of >= plan.as_of):
            return Decimal(0)
        planned: Decimal = plan.what.get(number, Decimal(0))
        left: Decimal | None = self.last(debt.paid.get(number, ()))
        return planned if left is None else min(planned, left)

    def stopped(self, stops: dict[str, list[Fact]]) -> bool:
        return any(self.last(each) for each in stops.values())


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
