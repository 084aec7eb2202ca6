"""I9, and the part of I4 that is about claims: what the witness saw, gone through once more in its order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from tests.faults.evidence import Ledger, Report


def stops_beat_intents(report: Report, ledger: Ledger) -> None:
    for row in ledger.stopped:
        report.blame(
            "I9", f"attempt {row['attempt']} of {row['reminder']} was intended after a stop of its {row['kind']}"
        )


def brakes_hold(report: Report, ledger: Ledger) -> None:
    """No intent while its borrower is held, or while a freeze covers it.

    Only order is compared, and one value with itself: `intended_at` is the very moment by which intend looked whether
    a freeze was over.
    """
    held: set[bytes] = set()
    frozen: dict[str, dt.datetime | None] = {}
    for row in ledger.seen:
        match row["what"]:
            case "held":
                held.add(row["key"])
            case "released":
                held.discard(row["key"])
            case "frozen":
                frozen[row["state"]] = row["until"]
            case "unfrozen":
                frozen.pop(row["state"], None)
            case "attempt" if row["state"] == "intended" and row["id"] in ledger.attempts:
                attempt = ledger.attempts[row["id"]]
                reminder = attempt["reminder"]
                report.counts["intents beside a brake"] += bool(held or frozen)
                if attempt["subject"] in held:
                    report.blame("I9", f"attempt {row['id']} of {reminder} was intended while its borrower was held")
                for what in _slices(attempt, ledger.reminders.get(reminder)):
                    if what in frozen and (frozen[what] is None or frozen[what] > attempt["intended_at"]):
                        report.blame("I9", f"attempt {row['id']} of {reminder} was intended while {what} was frozen")


def _slices(attempt: Any, reminder: Any) -> Iterator[str]:
    """Every way in which a freeze can name this attempt."""
    yield "all:*"
    yield from (f"{kind}:{attempt[kind]}" for kind in ("channel", "provider"))
    if reminder is not None:
        names = ("source", "lender", "product", "stage", "template")
        yield from (f"{kind}:{reminder[kind]}" for kind in names if reminder[kind] is not None)


def claims_are_in_force(report: Report, ledger: Ledger) -> None:
    """Who makes a reminder `sending` does it under the claim that stands, by its token."""
    claims: dict[int, int] = {}
    states: dict[int, str] = {}
    for row in ledger.seen:
        match row["what"]:
            case "claimed":
                claims[row["id"]] = row["token"]
            case "unclaimed":
                claims.pop(row["id"], None)
            case "reminder":
                was = states.get(row["id"])
                states[row["id"]] = row["state"]
                if row["state"] == "sending" != was and claims.get(row["id"]) != row["token"]:
                    now = claims.get(row["id"], "none")
                    report.blame("I4", f"{row['id']} was sent under the claim {row['token']}, in force was {now}")
