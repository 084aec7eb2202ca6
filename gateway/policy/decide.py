"""The one place that says whether a contact may be made now.

Today's rules are stops and time: frozen, expired.  Cancels need no rule here: a cancelled reminder has no claim left
to decide about, and intend looks again under the borrower's lock.  Windows, caps and wording packs come behind the
same call.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from schemas.vocabulary import Reason


@dataclass(frozen=True, slots=True)
class Send:
    """It may be made, if its first byte leaves before `send_by`."""

    send_by: dt.datetime
    rule: str = "none"


@dataclass(frozen=True, slots=True)
class Defer:
    until: dt.datetime
    rule: str


@dataclass(frozen=True, slots=True)
class Hold:
    reason: Reason
    rule: str


@dataclass(frozen=True, slots=True)
class Suppress:
    reason: Reason
    rule: str


@dataclass(frozen=True, slots=True)
class Expire:
    rule: str = "not_after"


Verdict = Send | Defer | Hold | Suppress | Expire


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the contact when it is decided."""

    not_after: dt.datetime
    frozen: bool


def decide(now: dt.datetime, facts: Facts) -> Verdict:
    """Stops come before time: what is frozen stays so until its own end."""
    if now >= facts.not_after:
        return Expire()
    if facts.frozen:
        return Hold(Reason.FROZEN, "frozen")
    return Send(send_by=facts.not_after)
