"""The judge: what must hold whatever was killed, read from outside.

It reads Kafka (requests, events, dead letters), Postgres by plain SQL, and the simulator's log.  It imports nothing of
the gateway, so that a mistake made there cannot be repeated here.

I1 every acknowledged record is one reminder, one recorded duplicate, one dead letter or one command
I2 at most one reminder per (source, id), and one contacted reminder per business key
I3 a provider takes one message per reminder, and another only after the last one certainly failed, or, where the run is
   configured to send again what is unknown, in the place of one that was unknown
I4 states only move forward, a reminder is sent by nobody but who has its claim, and its events are 1..n
I8 once everything works again, everything ends
I9 nothing is intended after a stop that was there first, nor while a freeze or an unreadable stop was in force
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults import witness
from tests.faults.brakes_check import brakes_hold, claims_are_in_force, stops_beat_intents
from tests.faults.evidence import Evidence, Ledger, Report, Resends, events_by_id, lines, read
from tests.faults.messages_check import no_message_left_twice
from tests.faults.requests_check import no_request_counts_twice, requests_are_accounted_for
from tests.faults.states_check import everything_ended, states_move_forward
from tests.faults.topics import Topic, everything

__all__ = ["Evidence", "Found", "Report", "check", "collect", "judge"]


@dataclass(frozen=True)
class Found:
    """Everything there is to look at, read once."""

    ledger: Ledger
    requests: Topic
    events: Topic
    letters: Topic
    log: Sequence[Mapping[str, Any]]
    resends: Resends = frozenset()


async def check(evidence: Evidence) -> Report:
    """Judges a run that was healed: the gateway has had its time, nothing is under way any more."""
    return judge(await collect(evidence))


async def collect(evidence: Evidence) -> Found:
    return Found(
        requests=await everything(evidence.bootstrap, evidence.requests),
        events=await everything(evidence.bootstrap, evidence.events),
        letters=await everything(evidence.bootstrap, evidence.deadletters),
        ledger=await read(evidence.dsn, evidence.requests),
        log=list(lines(evidence.log)),
        resends=evidence.resends,
    )


def judge(found: Found) -> Report:
    """The verdict.  Pure: the same evidence is judged the same."""
    report, ledger = Report(), found.ledger
    requests_are_accounted_for(report, ledger, found.requests, events_by_id(found.events), found.letters)
    no_request_counts_twice(report, ledger)
    no_message_left_twice(report, ledger, found.log, found.resends)
    states_move_forward(report, ledger, found.events)
    claims_are_in_force(report, ledger)
    everything_ended(report, ledger)
    stops_beat_intents(report, ledger)
    brakes_hold(report, ledger)
    report.reminder_moves = witness.counted(ledger.reminder_steps)
    report.attempt_moves = witness.counted(ledger.attempt_steps)
    report.endings.update(row["state"] for row in ledger.endings.values())
    return report
