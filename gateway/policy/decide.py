"""The one place that says whether a contact may be made now.

Today's rules are stops, time, freshness, the allowlist and the hours of a cadence: cancelled, frozen, expired, stale,
not listed, not now.  Stops come before time; the allowlist comes after, so that what it ends is what would have been
tried without it.
Packs of windows, caps and wording come behind the same call.  Intend looks at the stops again under the borrower's
lock.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from gateway.cadence.calendar import Span
from schemas.vocabulary import Reason


class Send(Struct, frozen=True):
    """It may be made, if its first byte leaves before `send_by`."""

    send_by: dt.datetime
    rule: str = "none"


class Defer(Struct, frozen=True):
    until: dt.datetime
    rule: str


class Hold(Struct, frozen=True):
    reason: Reason
    rule: str


class Suppress(Struct, frozen=True):
    reason: Reason
    rule: str


class Cancel(Struct, frozen=True):
    """A stop closed its ladder, by `reason`."""

    reason: Reason
    rule: str = "cancelled"


class Skip(Struct, frozen=True):
    """This contact cannot be made any more; the next one may.  `reason` is told where there is none."""

    rule: str
    reason: Reason = Reason.OUT_OF_DATE


class Expire(Struct, frozen=True):
    rule: str = "not_after"


Verdict = Send | Defer | Hold | Suppress | Cancel | Skip | Expire


class Facts(Struct, frozen=True):
    """What is known about the contact when it is decided.  `cancelled` is the stop that closed its ladder.

    `listed` is False for an address that the mode does not let us reach.  `spans` are when it may be made, from start
    until before end, in their order; None is any time.  From `stale_at` on what is known of the debt is too old; None
    is never.  `yields` when it teaches, and something else is due that day.  `share` in 0..1 is where it stands among
    those that wait for the same opening.
    """

    not_after: dt.datetime
    frozen: bool = False
    cancelled: Reason | None = None
    listed: bool = True
    spans: Sequence[Span] | None = None
    stale_at: dt.datetime | None = None
    yields: bool = False
    share: float = 0.0


# What has waited for the hours to begin leaves within so long, not all of it at once.
_OPENING: Final = dt.timedelta(minutes=10)


def decide(now: dt.datetime, facts: Facts) -> Verdict:
    """The first rule that applies."""
    if facts.cancelled is not None:
        return Cancel(facts.cancelled)
    if facts.frozen:
        return Hold(Reason.FROZEN, "frozen")
    if now >= facts.not_after:
        return Expire()
    if facts.stale_at is not None and now >= facts.stale_at:
        return Hold(Reason.STALE_FACTS, "max_fact_age")
    if not facts.listed:
        return Suppress(Reason.NOT_ALLOWLISTED, "not_allowlisted")
    if facts.yields:
        return Defer(now + dt.timedelta(days=1), "yields")
    send_by = facts.not_after if facts.stale_at is None else min(facts.not_after, facts.stale_at)
    if facts.spans is None:
        return Send(send_by)
    open_next = next((each for each in facts.spans if now < each.end), None)
    if open_next is None or open_next.start >= facts.not_after:
        return Expire("outside_hours")
    if now < open_next.start:
        length = min(open_next.end, facts.not_after) - open_next.start
        return Defer(open_next.start + facts.share * min(_OPENING, length), "outside_hours")
    return Send(min(send_by, open_next.end))
