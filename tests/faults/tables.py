"""Which way a state may move, written from the design page and not from the code that is judged by it.

Reminders (the promise): scheduled <-> held -> sending -> awaiting -> back to scheduled, or an end.  Corrections only
raise: unconfirmed < undelivered < delivered; a delivery that comes after `expired` is believed too.
What is being sent or waited for does not expire, and nobody gives up waiting before it has left.
Attempts: each state has a rank and an attempt only climbs; `not_sent` and `rejected` are proof that nobody was
contacted, so they follow nothing but `intended` and `unknown`, and nothing follows them.
"""

from __future__ import annotations

from typing import Final

Table = dict[str, frozenset[str]]

ENDS: Final = frozenset({"delivered", "undelivered", "unconfirmed", "suppressed", "cancelled", "expired"})
# The ledger's own steps: no event tells of them.
UNTOLD: Final = frozenset({"scheduled", "sending"})

REMINDERS: Final[Table] = {
    "": frozenset({"scheduled", "held", "suppressed", "cancelled"}),  # how a reminder is born
    # To `awaiting` without a send: a stop closes what was scheduled (or held) for a repeat while its first try is out.
    "scheduled": frozenset({"scheduled", "held", "sending", "awaiting"}) | ENDS,
    "held": frozenset({"held", "scheduled", "awaiting"}) | ENDS,
    "sending": frozenset({"sending", "scheduled", "held", "awaiting"}) | ENDS - {"unconfirmed", "expired"},
    "awaiting": frozenset({"awaiting", "scheduled", "held"}) | ENDS - {"expired"},
    "unconfirmed": frozenset({"undelivered", "delivered"}),
    "undelivered": frozenset({"delivered"}),
    "expired": frozenset({"delivered"}),
    "delivered": frozenset(),
    "suppressed": frozenset(),
    "cancelled": frozenset(),
}

_RANKS: Final = (
    ("intended",),
    ("unknown",),
    ("accepted",),
    ("sent",),
    ("unconfirmed",),
    ("undelivered", "ttl_expired", "no_answer", "busy", "declined"),
    ("answered",),
    ("delivered", "answered_human", "answered_machine"),
)
RANK: Final = {state: rank for rank, states in enumerate(_RANKS) for state in states}
NO_CONTACT: Final = frozenset({"not_sent", "rejected"})
FAILED: Final = frozenset({"undelivered", "ttl_expired", "no_answer", "busy", "declined"})
ATTEMPTS: Final[Table] = {
    "": frozenset({"intended"}),
    **{
        state: frozenset(other for other in RANK if RANK[other] > rank)
        | (NO_CONTACT if state in ("intended", "unknown") else frozenset())
        for state, rank in RANK.items()
    },
    **{state: frozenset() for state in NO_CONTACT},
}


def may_be_told(was: str, becomes: str) -> bool:
    """Whether an event saying `becomes` may follow one saying `was`: untold steps may lie between them."""
    seen: set[str] = set()
    ahead = [was]
    while ahead:
        for step in REMINDERS[ahead.pop()] - seen:
            if step == becomes:
                return True
            seen.add(step)
            if step in UNTOLD:
                ahead.append(step)
    return False
