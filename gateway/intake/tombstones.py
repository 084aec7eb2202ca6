"""The tombstones that what is known of a borrower leaves for reminders that were requested.  Pure.

A stop in force stops them whatever they say of themselves; a payment those that know no more than it does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from gateway.cadence.facts import NOTHING, Case, Said
from gateway.ledger.tombstones import Kind, Stone, Stones
from schemas.repayments import Program, Stop


def changed(was: Case, case: Case) -> Stones:
    """What is to be changed where this has become that."""
    before, after = _all(was), _all(case)
    return Stones(
        {stone: as_of for stone, as_of in after.items() if before.get(stone) != as_of},
        # That he agrees again lifts it, whoever has told of it.
        [stone for stone in before if stone not in after and stone.kind is not Kind.OPTED_OUT],
    )


def _all(case: Case) -> dict[Stone, dt.datetime]:
    found = _stops(case.borrower.stops, "")
    for (program, channel), said in case.borrower.out.items():
        if program is not Program.REMINDERS:
            continue
        if channel is None:
            found[Stone(Kind.OPTED_OUT if said.what else Kind.OPTED_IN)] = said.as_of
        elif said.what:
            found[Stone(Kind.CHANNEL_OUT, channel.value)] = said.as_of
    for debt, known in case.debts.items():
        found |= _stops(known.stops, debt)
        if known.settled is not None:
            found[Stone(Kind.PAID, debt)] = known.settled
        for number, owed in known.outstanding.items():
            if owed.what <= NOTHING:
                found[Stone(Kind.PAID, debt, number)] = owed.as_of
    return found


def _stops(stops: Mapping[Stop, Said[bool]], value: str) -> dict[Stone, dt.datetime]:
    in_force = [each.as_of for each in stops.values() if each.what]
    return {Stone(Kind.STOPPED, value): max(in_force)} if in_force else {}
