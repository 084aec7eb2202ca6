"""A cadence: which reminders an instalment gives rise to, when, by which channels, in which tone.  Data, not code.

A cadence is a folder of versions, `<name>/<version>.yaml`.  A version is in force from its `effective` date until the
next one is; a plan keeps the version it was made with.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final

from msgspec import Meta, Struct

from gateway.cadence.calendar import Hours
from schemas.messages import Ref
from schemas.vocabulary import Channel, Lane, Stage

_END: Final = r"$(?!\n)"

Clock = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]" + _END, description="HH:MM, local")]
Duration = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}(m|h|d)" + _END, description="30m, 36h, 2d")]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]*" + _END, max_length=40)]

_UNITS: Final = {"m": dt.timedelta(minutes=1), "h": dt.timedelta(hours=1), "d": dt.timedelta(days=1)}


@lru_cache(maxsize=4096)
def duration(text: str) -> dt.timedelta:
    return int(text[:-1]) * _UNITS[text[-1]]


class Tone(StrEnum):
    """How it is said; never abusive, never a threat."""

    FRIENDLY = "friendly"
    NEUTRAL = "neutral"
    FIRM = "firm"


class Confirm(StrEnum):
    """What makes a contact enough, so that the next one is not made."""

    ACCEPTED = "accepted"  # the provider took it
    DELIVERED = "delivered"
    OPENED = "opened"  # on the phone; push only
    ANSWERED = "answered"  # by whomever; voice only


class OnUnknown(StrEnum):
    """What is done about an attempt of which nobody knows whether it left."""

    WAIT = "wait"
    LOOKUP = "lookup"  # ask the provider: refused as long as nobody can
    RESEND = "resend"  # only where a repeat replaces the first on the screen


class Reaction(StrEnum):
    """What may pull an occasion forward."""

    DEBIT_FAILED = "debit_failed"


class Evidence(StrEnum):
    """A fact without which the words would not be true."""

    CREDIT_REPORTED = "credit_reported"
    LEGAL_FILED = "legal_filed"


class Window(Struct, frozen=True, forbid_unknown_fields=True):
    """Hours of the borrower's day.  First contacts are spread over `spread` from its opening on."""

    opens: Clock
    closes: Clock
    spread: Duration = "1m"

    @property
    def hours(self) -> Hours:
        return _hours(self.opens, self.closes)


@lru_cache(maxsize=4096)
def _hours(opens: str, closes: str) -> Hours:
    return Hours(dt.time.fromisoformat(opens), dt.time.fromisoformat(closes))


class Rung(Struct, frozen=True, forbid_unknown_fields=True):
    """A channel, what makes it enough, and after which silence the next one is tried; None: after a failure only."""

    channel: Channel
    confirm: Confirm = Confirm.DELIVERED
    advance_after: Duration | None = None


class Occasion(Struct, frozen=True, forbid_unknown_fields=True):
    """One reminder of each instalment, `days` after its due date (before it where negative).

    With `pulled_by` it goes out as soon as that is told, and on its date, after the grace, where it is not.
    `good_for_days` is how many local dates it may still go out on, the first included; then it expires.
    One that `requires` evidence waits until at least one of it stands.  With `instalment` it is one reminder of the
    plan: of its first, second... instalment by due date, not of each.
    One that `invites_calls` keeps the pace of the lender's call centre, as calls do.
    """

    name: Name
    stage: Stage
    days: Annotated[int, Meta(ge=-90, le=365)]
    window: Window
    ladder: Annotated[tuple[Rung, ...], Meta(min_length=1, max_length=3)]
    template: Ref
    tone: Tone
    max_fact_age: Duration
    good_for_days: Annotated[int, Meta(ge=1, le=30)] = 1
    pulled_by: Reaction | None = None
    requires: tuple[Evidence, ...] = ()
    instalment: Annotated[int, Meta(ge=1, le=600)] | None = None
    on_unknown: OnUnknown = OnUnknown.WAIT
    lane: Lane = Lane.BULK
    invites_calls: bool = False


class Cadence(Struct, frozen=True, forbid_unknown_fields=True):
    """One version.  `grace_days` after the due date nobody is called late whose debit is not known to have failed."""

    name: Name
    version: Annotated[int, Meta(ge=1, le=9999)]
    effective: dt.date
    occasions: Annotated[tuple[Occasion, ...], Meta(min_length=1, max_length=40)]
    grace_days: Annotated[int, Meta(ge=0, le=30)] = 0
    about: Annotated[str, Meta(max_length=400)] = ""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


_ONLY: Final = {Confirm.OPENED: Channel.PUSH, Confirm.ANSWERED: Channel.VOICE}


def faults_of(cadence: Cadence) -> list[str]:
    """What its fields say together and should not; each fault begins with the occasion it is about."""
    faults: list[str] = []
    names: set[str] = set()
    keys: dict[tuple[Stage, int | str | None], str] = {}
    for each in cadence.occasions:
        faults += [f"{each.name}: {fault}" for fault in _faults_of_occasion(each)]
        if each.name in names:
            faults.append(f"{each.name}: is there twice")
        names.add(each.name)
        step = each.name if each.stage is Stage.EDUCATION else each.days if each.stage.repeats else None
        key = (each.stage, step)
        if key in keys:
            faults.append(f"{each.name}: has the stage and step of {keys[key]}: one contact cannot be both")
        keys.setdefault(key, each.name)
    return faults


def _faults_of_occasion(occasion: Occasion) -> list[str]:
    faults = []
    hours = occasion.window.hours
    if hours.opens >= hours.closes:
        faults.append("window: must close later than it opens, on the same day")
    elif duration(occasion.window.spread) > _length(hours):
        faults.append("window.spread: must fit into the window")
    if occasion.stage in (Stage.D7, Stage.D3) and occasion.days >= 0:
        faults.append(f"days: stage {occasion.stage} is before the due date")
    if occasion.stage is Stage.DUE and occasion.days != 0:
        faults.append("days: stage due is on the due date")
    if occasion.stage is Stage.EDUCATION:
        if occasion.instalment is None:
            faults.append("instalment: education is told once, so it says of which instalment")
        if occasion.requires or occasion.lane is not Lane.BULK:
            faults.append("requires, lane: education names no consequences and is never urgent")
    if occasion.stage.repeats and occasion.days <= 0:
        faults.append(f"days: stage {occasion.stage} is after the due date")
    if occasion.pulled_by is not None and occasion.stage is not Stage.DUE:
        faults.append("pulled_by: only the due notice can be the answer to a debit")
    channels = [rung.channel for rung in occasion.ladder]
    if len(set(channels)) < len(channels):
        faults.append("ladder: has a channel twice")
    for rung in occasion.ladder:
        only = _ONLY.get(rung.confirm)
        if only is not None and rung.channel is not only:
            faults.append(f"ladder: only {only} can be {rung.confirm}, not {rung.channel}")
        if rung.confirm is Confirm.ACCEPTED and rung.advance_after is not None:
            faults.append("ladder: nothing is waited for where it is enough that the provider accepts")
    if occasion.ladder[-1].advance_after is not None:
        faults.append("ladder: there is nothing to advance to after its last rung")
    if occasion.on_unknown is OnUnknown.LOOKUP:
        faults.append("on_unknown: no provider can be asked yet what became of a message: wait or resend")
    if occasion.on_unknown is OnUnknown.RESEND and set(channels) != {Channel.PUSH}:
        faults.append("on_unknown: only a push that is sent again replaces the first on the screen")
    return faults


def _length(hours: Hours) -> dt.timedelta:
    day = dt.date(2000, 1, 1)
    return dt.datetime.combine(day, hours.closes) - dt.datetime.combine(day, hours.opens)
