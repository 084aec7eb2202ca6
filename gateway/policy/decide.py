"""The one place that says whether a contact may be made now.

Today's rules are stops, time and the allowlist: cancelled, frozen, expired, not listed.  Stops come before time; the
allowlist comes last, so that what it ends is what would have been tried without it.  Windows, caps and wording packs
come behind the same call.  Intend looks at the stops again under the borrower's lock.
"""

from __future__ import annotations

import datetime as dt

from msgspec import Struct

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

    `listed` is False for an address that the mode does not let us reach.
    """

    not_after: dt.datetime
    frozen: bool = False
    cancelled: Reason | None = None
    listed: bool = True


def decide(now: dt.datetime, facts: Facts) -> Verdict:
    """The first rule that applies."""
    if facts.cancelled is not None:
        return Cancel(facts.cancelled)
    if facts.frozen:
        return Hold(Reason.FROZEN, "frozen")
    if now >= facts.not_after:
        return Expire()
    if not facts.listed:
        return Suppress(Reason.NOT_ALLOWLISTED, "not_allowlisted")
    return Send(send_by=facts.not_after)
