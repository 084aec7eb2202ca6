"""The judge: what must hold whatever was killed, read from outside.

It reads Kafka (requests, events, dead letters), Postgres by plain SQL, and the simulator's log.  It imports nothing of
the gateway, so that a mistake made there cannot be repeated here.

I1 every acknowledged record is one reminder, one recorded duplicate, one dead letter or one command
I2 at most one reminder per (source, id), and one contacted reminder per business key
I3 under `wait` a provider takes one message per reminder, and another only after the last one certainly failed
I4 states only move forward, and each reminder's events are 1..n
I8 once everything works again, everything ends
I9 nothing is intended after a stop that was there first
"""

from __future__ import annotations

from tests.faults import witness
from tests.faults.evidence import Evidence, Report, events_by_id, lines, read
from tests.faults.messages_check import no_message_left_twice
from tests.faults.requests_check import no_request_counts_twice, requests_are_accounted_for
from tests.faults.states_check import everything_ended, states_move_forward, stops_beat_intents
from tests.faults.topics import everything

__all__ = ["Evidence", "Report", "check"]


async def check(evidence: Evidence) -> Report:
    """Judges a run that was healed: the gateway has had its time, nothing is under way any more."""
    requests = await everything(evidence.bootstrap, evidence.requests)
    events = await everything(evidence.bootstrap, evidence.events)
    letters = await everything(evidence.bootstrap, evidence.deadletters)
    ledger = await read(evidence.dsn, evidence.requests)
    log = list(lines(evidence.log))
    report = Report()
    told = events_by_id(events)
    requests_are_accounted_for(report, ledger, requests, told, letters)
    no_request_counts_twice(report, ledger)
    no_message_left_twice(report, ledger, log)
    states_move_forward(report, ledger, events)
    everything_ended(report, ledger)
    stops_beat_intents(report, ledger)
    report.reminder_moves = witness.counted(ledger.reminder_steps)
    report.attempt_moves = witness.counted(ledger.attempt_steps)
    report.endings.update(row["state"] for row in ledger.endings.values())
    return report
