"""What was to be told, and nobody was told it.

Judged where there can be no doubt: on a day of his on which nothing was told of him, so that whatever was owed and
allowed in the morning still was at night.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway.dev.judge.hours import DAY, hours_of, resolve
from gateway.dev.judge.log import Contact
from gateway.dev.judge.occasions import failures_of, is_lesson, places_of, term_of
from gateway.dev.judge.told import Borrower, Debt, View
from gateway.dev.judge.words import teaches, tells

_WESTMOST = dt.timedelta(hours=14)  # so long before midnight in UTC a day begins somewhere


def missing(
    people: Mapping[str, Borrower], cadence: dict[str, Any], taken: Mapping[str, Collection[Contact]], end: dt.datetime
) -> Iterator[str]:
    """`taken` are each borrower's contacts; what is due after `end` is not over yet."""
    for ref, who in people.items():
        mine = taken.get(ref, ())
        for name, debt in who.debts.items():
            for occasion in cadence["occasions"]:
                for number, due in _dates(debt, occasion):
                    day = _day(who, debt, number, due, occasion, cadence, mine)
                    if day is not None and day.until <= end and not _is_told(debt, due, occasion, mine, day):
                        yield f"{day.first} to {ref} for {name}/{number}/{occasion['name']}: nobody_was_told"


class _Day(NamedTuple):
    """His day, of a lesson his days, on which it was to be told: from `since` until before `until`."""

    first: dt.date
    since: dt.datetime
    until: dt.datetime
    zone: str
    owed: Decimal


def _dates(debt: Debt, occasion: dict[str, Any]) -> list[tuple[int, dt.date]]:
    """Every instalment with every due date it ever had; what is told once of it has no certain day where that moved."""
    found = sorted({pair for plan in debt.plans for pair in plan.what.items()})
    numbers = [number for number, _ in found]
    return [pair for pair in found if occasion["days"] > 0 or numbers.count(pair[0]) == 1]


def _day(
    who: Borrower,
    debt: Debt,
    number: int,
    due: dt.date,
    occasion: dict[str, Any],
    cadence: dict[str, Any],
    mine: Collection[Contact],
) -> _Day | None:
    """None where it was not to be told, or something was told meanwhile."""
    grace = cadence.get("grace_days", 0)
    pulled = occasion.get("pulled_by") is not None
    first = due + (occasion["days"] + (grace if pulled else 0)) * DAY
    early = View(dt.datetime.combine(first, dt.time(), dt.UTC) - _WESTMOST, inclusive=True)
    zone = early.last(who.zones)
    if zone is None:
        return None
    failed = debt.failed.get(number, ()) if pulled else ()
    begin = min((each.at for each in failed), default=resolve(first, dt.time(), zone))
    view = View(begin, inclusive=True)
    if view.last(who.zones) != zone or (view.last(debt.plans) or {}).get(number) != due:
        return None
    if failed and not failures_of(debt, number, due, view, zone):
        return None  # one of another plan: whether it pulls anything is not certain
    if occasion.get("instalment") not in (None, places_of(debt, view)[number]):
        return None
    hours = hours_of(occasion["window"], view.last(who.preferences))
    term = term_of(debt, number, due, occasion, hours, grace, view, zone)
    if term is None or not hours or not _may_be(who, debt, number, occasion, view, mine):
        return None
    last = term.last if is_lesson(occasion) else max(term.first, term.latest.astimezone(ZoneInfo(zone)).date())
    until = resolve(last + DAY, dt.time(), zone)
    if last > term.last or any(begin < at <= until for at in (*who.told, *who.pressed_stop)):
        return None
    return _Day(term.first, resolve(term.first, dt.time(), zone), until, zone, view.owed(debt, number))


def _may_be(
    who: Borrower, debt: Debt, number: int, occasion: dict[str, Any], view: View, mine: Collection[Contact]
) -> bool:
    """Owed, allowed, true, and by a channel that reaches him."""
    lesson = is_lesson(occasion)
    programs = ["reminders", "education"] if lesson else ["reminders"]
    if lesson and view.last(who.out.get(("education", None), ())) is not False:
        return False
    if view.owed(debt, number) <= 0 or view.stopped(debt.stops) or view.stopped(who.stops):
        return False
    if any(view.last(who.out.get((each, None), ())) for each in programs) or view.of_moments(who.pressed_stop):
        return False
    needs = occasion.get("requires", [])
    if needs and not any(view.last(debt.evidence.get(each, ())) for each in needs):
        return False
    preference = view.last(who.preferences)
    wanted = None if preference is None else preference[1]
    took = {each.recipient for each in mine}
    return any(
        (wanted is None or channel in wanted)
        and not any(view.last(who.out.get((each, channel), ())) for each in programs)
        and (channel != "push" or address in took)  # an app that was removed takes nothing
        for channel, address in view.last(who.contacts)
        if channel in [rung["channel"] for rung in occasion["ladder"]]
    )


def _is_told(debt: Debt, due: dt.date, occasion: dict[str, Any], mine: Collection[Contact], day: _Day) -> bool:
    """By a message of its own or by that of another debt.  A push and a call that nobody took name none.

    A lesson that he had before, of whichever debt, he has not to be told again.
    """
    if is_lesson(occasion) and any(each.at < day.until and teaches(each.text, occasion["name"]) for each in mine):
        return True
    return any(
        is_lesson(occasion)
        or each.channel != "sms"
        or tells(each.text, each.marker == debt.marker, day.owed, due, each.at.astimezone(ZoneInfo(day.zone)).date())
        for each in mine
        if day.since <= each.at < day.until
    )
