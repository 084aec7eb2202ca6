"""The verdict on a whole log."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.dev.judge.hours import DAY, span
from gateway.dev.judge.log import FAILED, Contact, Ends, contacts, ends, note_keys
from gateway.dev.judge.missing import missing
from gateway.dev.judge.occasions import Key, Verdict, judge
from gateway.dev.judge.told import Borrower, View, borrowers, moment


class _Ledger:
    """What was made of whom so far: our own account, by the log."""

    def __init__(self, told: Ends, cadence: dict[str, Any]) -> None:
        self.told = told
        self.cadence = cadence
        self.made: dict[tuple[str, Key], list[Contact]] = {}
        self.days: dict[tuple[str, dt.date], list[Contact]] = {}  # the first contacts of reminders

    def before(self, ref: str, verdict: Verdict) -> list[Contact]:
        return self.made.setdefault((ref, verdict.key), [])

    def faults(self, contact: Contact, ref: str, who: Borrower, verdict: Verdict) -> list[str]:
        """What is wrong with it if it was for this."""
        faults = list(verdict.faults)
        if before := self.before(ref, verdict):
            faults += _faults_of_second(contact, before, self.told, _occasion(self.cadence, verdict.key[2]))
        else:
            faults += _faults_of_day(contact, self.days.get((ref, verdict.day), []), self.told, who)
            if self.late(contact, ref, who, verdict) == "":
                faults.append("late_and_nobody_told_anything")
        return faults

    def late(self, contact: Contact, ref: str, who: Borrower, verdict: Verdict) -> str | None:
        """Why a first contact is late, "" for no reason at all; None where it is not."""
        if contact.at <= verdict.latest:
            return None
        if any(verdict.opening <= at <= contact.at for at in who.told):
            return "after something was told"
        gave_way = verdict.yields and all(self.days.get((ref, day)) for day in _days(verdict.first, verdict.day))
        return "lessons that gave way" if gave_way else ""

    def add(self, contact: Contact, ref: str, verdict: Verdict) -> None:
        before = self.before(ref, verdict)
        if not before:
            self.days.setdefault((ref, verdict.day), []).append(contact)
        before.append(contact)


def check(log: Iterable[dict[str, Any]], events: Iterable[dict[str, Any]], cadence: dict[str, Any]) -> dict[str, Any]:
    lines, events = list(log), list(events)
    people = borrowers(events)
    whose = {address: ref for ref, who in people.items() for each in who.contacts for _, address in each.what}
    note_keys(lines, people, whose)
    ledger = _Ledger(ends(lines), cadence)
    late: Counter[str] = Counter()
    violations: list[str] = []
    taken = sorted(contacts(lines), key=lambda each: each.at)
    by_whom: dict[str, list[Contact]] = {}
    for contact in taken:
        where = f"{contact.at:%Y-%m-%d %H:%M} {contact.channel} {contact.id}"
        ref = whose.get(contact.recipient)
        if ref is None:
            violations.append(f"{where}: to_nobody_we_know")
            continue
        who = people[ref]
        by_whom.setdefault(ref, []).append(contact)
        fitting = [each for at_it in (False, True) for each in judge(contact, who, cadence, View(contact.at, at_it))]
        if not fitting:
            violations.append(f"{where} to {ref}: no_such_day")
            continue
        # What names no debt is taken for what fits best.
        judged = [(ledger.faults(contact, ref, who, each), contact.at > each.latest, each) for each in fitting]
        faults, _, verdict = min(judged, key=lambda each: (len(each[0]), each[1]))
        if any(at < contact.at for at in who.pressed_stop):
            faults.append("after_the_key")
        if not ledger.before(ref, verdict) and (why := ledger.late(contact, ref, who, verdict)):
            late[why] += 1
        ledger.add(contact, ref, verdict)
        name = "/".join(map(str, verdict.key)).rstrip("/")
        violations += [f"{where} to {ref} for {name}: {fault}" for fault in faults]
    end = max((moment(each["time"]) for each in events), default=dt.datetime.min.replace(tzinfo=dt.UTC))
    violations += missing(people, cadence, by_whom, end)
    second = sum(len(each) - 1 for each in ledger.made.values() if each)
    return {"contacts": len(taken), "second": second, "late": dict(late), "violations": violations}


def _days(first: dt.date, until: dt.date) -> Iterator[dt.date]:
    while first < until:
        yield first
        first += DAY


def _faults_of_second(contact: Contact, before: list[Contact], ends: Ends, occasion: dict[str, Any]) -> list[str]:
    """Another channel may follow a definite failure, or a silence that is as long as the cadence says."""
    if contact.channel in [each.channel for each in before]:
        return ["twice_by_one_channel"]
    previous = before[-1]
    told = [end for at, end in ends.get(previous.id, ()) if at <= contact.at]
    before_it = [end for at, end in ends.get(previous.id, ()) if at < contact.at]
    rung = next(each for each in occasion["ladder"] if each["channel"] == previous.channel)
    patience = rung.get("advance_after")
    waited = patience is not None and contact.at - previous.at >= span(patience)
    enough = rung.get("confirm", "delivered") in before_it or "opened" in before_it
    if any(end in FAILED for end in told) or (waited and not enough):
        return []
    return ["second_without_a_failure"]


def _faults_of_day(contact: Contact, today: list[Contact], ends: Ends, who: Borrower) -> list[str]:
    """What is due on one day is one message: a second follows what was told in between, or a first that failed."""
    if not today:
        return []
    first = today[-1]
    told = any(first.at <= at <= contact.at for at in who.told)
    failed = any(end in FAILED for at, end in ends.get(first.id, ()) if at <= contact.at)
    return [] if told or failed else ["second_message_of_a_day"]


def _occasion(cadence: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in cadence["occasions"] if each["name"] == name)
