"""For which occasion a contact was, and what is wrong with it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway.dev.judge.hours import DAY, Hours, hours_of, opening_after, resolve, span
from gateway.dev.judge.log import Contact
from gateway.dev.judge.told import Borrower, Debt, View

SLACK = dt.timedelta(minutes=16)  # the clock of a time-lapse goes by quarters of an hour
_OVERDUE = re.compile(r"([0-9]+) days? overdue")


Key = tuple[str, int, str, str]  # debt, instalment, occasion, its day where there are several


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
        for place, (number, due) in enumerate(sorted((view.last(debt.plans) or {}).items(), key=_by_date), 1)
        for occasion in cadence["occasions"]
        if occasion.get("instalment") in (None, place)
    ]
    return [each for each in found if each is not None]


def _by_date(instalment: tuple[int, dt.date]) -> tuple[dt.date, int]:
    return instalment[1], instalment[0]


def _is_lesson(occasion: dict[str, Any]) -> bool:
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
    lesson = _is_lesson(occasion)
    if lesson is not (contact.marker is None) and contact.channel != "voice":
        return None
    debt, grace = who.debts[name], cadence.get("grace_days", 0)
    hours = hours_of(occasion["window"], view.last(who.preferences))
    failures = [
        each for each in view.of(debt.failed.get(number, ())) if each.as_of.astimezone(local.tzinfo).date() >= due
    ]
    failed = min(failures, key=lambda each: each.as_of, default=None)
    pulled = occasion.get("pulled_by") is not None
    if not pulled and failed is None and 0 < occasion["days"] <= grace:
        return None  # within the grace nobody is called late
    first = due + occasion["days"] * DAY
    last = occasion.get("good_for_days", 1) - 1
    if pulled and failed is None:
        first += grace * DAY
    elif pulled and failed is not None:
        at = failed.as_of.astimezone(local.tzinfo)
        first = at.date()
        last += not hours or at.time() >= hours[-1][1]
    if not first <= local.date() <= first + last * DAY:
        return None
    opening = resolve(first, hours[0][0] if hours else dt.time(0), zone)
    latest = opening + span(occasion["window"].get("spread", "1m"))
    if pulled and failed is not None:
        told = min(each.at for each in failures)
        latest = opening_after(max(told, failed.as_of), hours, zone)
    key = (name, number, occasion["name"], str(first) if occasion["days"] > 0 else "")
    faults = tuple(_faults(contact, who, debt, number, due, occasion, view, local, hours))
    return Verdict(key, local.date(), first, lesson, faults, opening, latest + SLACK)


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
    lesson = _is_lesson(occasion)
    owing = (view.last(debt.plans) or {}) if lesson else [number]
    if all(view.is_paid(debt, each) for each in owing):
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
    if contact.channel == "sms" and not _is_true(contact.text, due, local.date()):
        yield "says_another_day"


def _is_true(text: str, due: dt.date, today: dt.date) -> bool:
    """Whether the text tells this due date, by its name or by the days since."""
    overdue = _OVERDUE.search(text)
    if overdue is not None:
        return int(overdue[1]) == (today - due).days
    return f"{due.day} {due:%B} {due.year}" in text
