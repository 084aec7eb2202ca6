"""I3: what the providers took, by their own log."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tests.faults import tables
from tests.faults.evidence import Ledger, Report, id_of

# A provider's word travels on its way to us and is written into its log when we have answered it.
_SLACK: Final = dt.timedelta(seconds=1)
# What the vendors call a definite failure in a receipt.
_TWILIO_FAILED: Final = frozenset({"undelivered", "failed"})
_ALIYUN_ANSWERED: Final = frozenset({"200000", "200001"})


def no_message_left_twice(report: Report, ledger: Ledger, log: Sequence[Mapping[str, Any]]) -> None:
    failed_at = {line["id"]: _time(line) for line in reversed(log) if line["kind"] == "receipt" and _says_failed(line)}
    taken: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    references: Counter[str] = Counter()
    for line in log:
        if line["kind"] != "accepted":
            continue
        report.counts["messages"] += 1
        report.counts[f"messages {line['vendor']}"] += 1
        taken[str(line["marker"])].append(line)
        references[str(line["reference"])] += 1
        attempt = ledger.attempts.get(id_of(str(line["reference"])))
        if attempt is None:
            report.blame("I3", f"message {line['reference']} left without an intent")
        elif attempt["state"] in tables.NO_CONTACT and line["action"] != "error":
            report.blame("I3", f"message {line['reference']} left, its attempt says {attempt['state']}")
    for reference, n in references.items():
        if n > 1:
            report.blame("I3", f"attempt {reference} left {n} times")
    for marker, lines in taken.items():
        for before, after in _pairs(sorted(lines, key=_time)):
            if after["replaces"] is not None and after["replaces"] == before["replaces"]:
                report.counts["replaced on the screen"] += 1
            elif failed_at.get(before["id"], _time(after) + 2 * _SLACK) > _time(after) + _SLACK:
                report.blame(
                    "I3", f"{marker}: {after['vendor']} took {after['reference']} while {before['reference']} may stand"
                )


def _pairs(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each message with every earlier one for the same reminder."""
    return ((before, after) for n, after in enumerate(lines) for before in lines[:n])


def _says_failed(line: Mapping[str, Any]) -> bool:
    """Whether a receipt that was posted to us (not one that the script lost) says the message certainly failed."""
    if not line["attempt"]:
        return False
    if line["vendor"] == "twilio":
        return line["status"] in _TWILIO_FAILED
    return line["vendor"] == "aliyun" and line["status"] not in _ALIYUN_ANSWERED


def _time(line: Mapping[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(line["at"])
