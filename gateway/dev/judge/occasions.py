"""For which occasion a contact was, and what is wrong with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway.dev.judge.hours import DAY, Hours, hours_of, opening_after, resolve, span
from gateway.dev.judge.log import Contact
from gateway.dev.judge.told import Borrower, Debt, Fact, View
from gateway.dev.judge.words import faults_of_words, teaches

SLACK = dt.timedelta(minutes=16)  # the clock of a time-lapse goes by quarters of an hour

# Debt, instalment, occasion, its day where there are several; of a lesson, which is told once to a borrower, it alone.
Key = tuple[str, int, str, str]


class Verdict(NamedTuple):
    """What a contact was for, on which of his days, what is wrong with it, and when it was to be made.

    `yields`: it is a lesson, which waits for a day without anything else; `first` is the first it was good for.
    """

    key: Key
    day: dt.date
    first: dt.date
    yields: bool
    faults: tuple[str, ...]
    opening: dt.datetime
    latest: dt.datetime


class Term(NamedTuple):
    """On which of his days an occasion may be met, from when on, and until when it is to be where nothing is told."""

    first: dt.date
    last: dt.date
    opening: dt.datetime
    latest: dt.datetime


def judge(contact: Contact, who: Borrower, cadence: dict[str, Any], view: View) -> list[Verdict]:
    """The occasions that it may have been for: by its debt, day and channel.

    A call that nobody took names no debt, and no lesson does; anything else must.
    """
    zone = view.last(who.zones)
    if zone is None:
        return []
    local = contact.at.astimezone(ZoneInfo(zone))
    found = [
        _verdict(contact, who, cadence, view, name, number, due, occasion, zone, local)
        for name, debt in who.debts.items()
        if contact.marker in (None, debt.marker)
        for number, due in (view.last(debt.plans) or {}).items()
        for occasion in cadence["occasions"]
        if occasion.get("instalment") in (None, places_of(debt, view)[number])
    ]
    return [each for each in found if each is not None]


def places_of(debt: Debt, view: View) -> dict[int, int]:
    """Which of the plan each instalment is, by its due date; the first is 1."""
    ordered = sorted((due, number) for number, due in (view.last(debt.plans) or {}).items())
    return {number: place for place, (_, number) in enumerate(ordered, 1)}


def is_lesson(occasion: dict[str, Any]) -> bool:
    return bool(occasion["stage"] == "education")


def _verdict(
    contact: Contact,
    who: Borrower,
    cadence: dict[str, Any],
    view: View,
    name: str,
    number: int,
    due: dt.date,
    occasion: dict[str, Any],
    zone: str,
    local: dt.datetime,
) -> Verdict | None:
    """None where this is not the day or the channel of the occasion."""
    if contact.channel not in [rung["channel"] for rung in occasion["ladder"]]:
        return None
    lesson = is_lesson(occasion)
    if lesson is not (contact.marker is None) and contact.channel != "voice":
        return None
    if lesson and not teaches(contact.text, occasion["name"]):
        return None
    debt = who.debts[name]
    hours = hours_of(occasion["window"], view.last(who.preferences))
    term = term_of(debt, number, due, occasion, hours, cadence.get("grace_days", 0), view, zone)
    if term is None or not term.first <= local.date() <= term.last:
        return None
    key = (name, number, occasion["name"], str(term.first) if occasion["days"] > 0 else "")
    if lesson:
        key = ("", 0, occasion["name"], "")
    faults = tuple(_faults(contact, who, debt, number, due, occasion, view, local, hours))
    return Verdict(key, local.date(), term.first, lesson, faults, term.opening, term.latest + SLACK)


def term_of(
    debt: Debt,
    number: int,
    due: dt.date,
    occasion: dict[str, Any],
    hours: Hours,
    grace: int,
    view: View,
    zone: str,
) -> Term | None:
    """None within the grace: nobody is called late there."""
    failures = failures_of(debt, number, due, view, zone)
    failed = min(failures, key=lambda each: each.as_of, default=None)
    pulled = occasion.get("pulled_by") is not None
    if not pulled and failed is None and 0 < occasion["days"] <= grace:
        return None
    first = due + occasion["days"] * DAY
    last = occasion.get("good_for_days", 1) - 1
    if pulled and failed is None:
        first += grace * DAY
    elif pulled and failed is not None:
        at = failed.as_of.astimezone(ZoneInfo(zone))
        first = at.date()
        last += not hours or at.time() >= hours[-1][1]
    opening = resolve(first, hours[0][0] if hours else dt.time(0), zone)
    latest = opening + span(occasion["window"].get("spread", "1m"))
    if pulled and failed is not None:
        told = min(each.at for each in failures)
        latest = opening_after(max(told, failed.as_of), hours, zone)
    return Term(first, first + last * DAY, opening, latest)


def failures_of(debt: Debt, number: int, due: dt.date, view: View, zone: str) -> list[Fact]:
    """Debits that failed; one before the day it was due was of another plan."""
    there = ZoneInfo(zone)
    return [each for each in view.of(debt.failed.get(number, ())) if each.as_of.astimezone(there).date() >= due]


def _faults(
    contact: Contact,
    who: Borrower,
    debt: Debt,
    number: int,
    due: dt.date,
    occasion: dict[str, Any],
    view: View,
    local: dt.datetime,
    hours: Hours,
) -> Iterator[str]:
    if not any(opens <= local.time() < closes for opens, closes in hours):
        yield "outside_hours"
    lesson = is_lesson(occasion)
    owing = (view.last(debt.plans) or {}) if lesson else [number]
    if all(view.owed(debt, each) <= 0 for each in owing):
        yield "after_payment"
    if view.stopped(debt.stops) or view.stopped(who.stops):
        yield "after_stop"
    programs = ["reminders", "education"] if lesson else ["reminders"]
    if any(view.last(who.out.get((each, by), ())) for each in programs for by in (None, contact.channel)):
        yield "after_opting_out"
    if lesson and view.last(who.out.get(("education", None), ())) is None:
        yield "without_his_consent"
    preference = view.last(who.preferences)
    if preference is not None and preference[1] is not None and contact.channel not in preference[1]:
        yield "by_a_channel_he_does_not_want"
    if (contact.channel, contact.recipient) not in view.last(who.contacts):
        yield "to_an_old_address"
    needs = occasion.get("requires", [])
    if needs and not any(view.last(debt.evidence.get(each, ())) for each in needs):
        yield "of_what_is_not_so"
    if contact.channel == "sms":
        yield from faults_of_words(contact.text, who, debt, number, due, local.date(), view)
