"""I4 and I8: forward, and to an end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import asyncpg

from tests.faults import tables
from tests.faults.evidence import Ledger, Report, events_by_id, id_of, parsed
from tests.faults.topics import Record, Topic


def states_move_forward(report: Report, ledger: Ledger, events: Topic) -> None:
    for what, steps, table in (
        ("reminder", ledger.reminder_steps, tables.REMINDERS),
        ("attempt", ledger.attempt_steps, tables.ATTEMPTS),
    ):
        for step in steps:
            stays = step.was == step.state and (what == "reminder" or step.was in table)
            if step.state not in table[step.was] and not stays:
                report.blame("I4", f"{what} {step.id} went from {step.was or 'birth'} to {step.state}")
    lives: dict[int, list[Record]] = defaultdict(list)
    for record in events.records:
        data = parsed(record.value)["data"]
        if data.get("seq"):
            lives[id_of(data["reminder"])].append(record)
    for reminder, row in ledger.endings.items():
        _life(report, reminder, row, lives.pop(reminder, []))
    for reminder in lives.keys() - ledger.live.keys():
        report.blame("I4", f"events of {reminder}, which does not exist")
    report.counts["events"] = len(events.records)
    report.counts["events repeated"] = len(events.records) - len(events_by_id(events))


def _life(report: Report, reminder: int, ending: asyncpg.Record, records: Iterable[Record]) -> None:
    """One reminder's events, each counted where it stood first."""
    first: dict[str, tuple[Record, dict[str, Any]]] = {}
    for record in records:
        event = parsed(record.value)
        known = first.setdefault(event["id"], (record, event["data"]))
        if known[1] != event["data"]:
            report.blame("I4", f"event {event['id']} was repeated with other words")
    if len({record.partition for record, _ in first.values()}) > 1:
        report.blame("I4", f"events of {reminder} are spread over partitions")
    story = [data for _, data in first.values()]
    if [data["seq"] for data in story] != list(range(1, ending["seq"] + 1)):
        report.blame("I4", f"events of {reminder}: {[data['seq'] for data in story]}, ended with {ending['seq']}")
        return
    if story[-1]["state"] != ending["state"]:
        report.blame("I4", f"{reminder} ended {ending['state']}, told {story[-1]['state']}")
    was = ""
    ranks: dict[str, str] = {}
    for data in story:
        # A delivery of what we had cancelled or suppressed is told; the state stays.
        told_again = data.get("correction") and data["state"] == was
        if not told_again and not tables.may_be_told(was, data["state"]):
            report.blame("I4", f"{reminder} was told to go from {was or 'birth'} to {data['state']}")
        was = data["state"]
        for attempt in data.get("attempts", ()):
            before = ranks.setdefault(attempt["id"], attempt["state"])
            if attempt["state"] != before and attempt["state"] not in tables.ATTEMPTS[before]:
                report.blame("I4", f"attempt {attempt['id']} was told to go from {before} to {attempt['state']}")
            ranks[attempt["id"]] = attempt["state"]


def everything_ended(report: Report, ledger: Ledger) -> None:
    for name, n in ledger.left.items():
        if n:
            report.blame("I8", f"{n} rows left in {name}")
    for reminder in ledger.reminders.keys() - ledger.endings.keys() - ledger.live.keys():
        report.blame("I8", f"reminder {reminder} is nowhere")
    for reminder in ledger.endings.keys() & ledger.live.keys():
        report.blame("I8", f"reminder {reminder} has ended and lives")
    report.counts["attempts"] = len(ledger.attempts)
    for row in ledger.attempts.values():
        report.counts[f"attempts {row['state']}"] += 1
