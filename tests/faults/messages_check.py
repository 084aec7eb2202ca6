"""I3: what the providers took, by their own log."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tests.faults import tables
from tests.faults.evidence import Ledger, Report, Resends, id_of

# A provider's word travels on its way to us and is written into its log when we have answered it.
_SLACK: Final = dt.timedelta(seconds=1)
# What the vendors call a definite failure in a receipt.
_TWILIO_FAILED: Final = frozenset({"undelivered", "failed"})
_TWILIO_NOT_REACHED: Final = frozenset({"busy", "no-answer", "failed", "canceled"})
_ALIYUN_ANSWERED: Final = frozenset({"200000", "200001"})
_ALIYUN_SMS_NO_FAILURE: Final = frozenset({"DELIVERED", "REQUEST_SUCCESS", "UNKNOWN", "upstream"})


def no_message_left_twice(report: Report, ledger: Ledger, log: Sequence[Mapping[str, Any]], resends: Resends) -> None:
    failed_at = {line["id"]: _time(line) for line in reversed(log) if line["kind"] == "receipt" and _says_failed(line)}
    taken: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    references: Counter[str] = Counter()
    for line in log:
        if line["kind"] != "accepted":
            continue
        report.counts["messages"] += 1
        report.counts[f"messages {line['vendor']}"] += 1
        references[str(line["reference"])] += 1
        attempt = ledger.attempts.get(id_of(str(line["reference"])))
        taken[_about(line, attempt)].append(line)
        if attempt is None:
            report.blame("I3", f"message {line['reference']} left without an intent")
        elif attempt["state"] in tables.NO_CONTACT and line["action"] != "error":
            report.blame("I3", f"message {line['reference']} left, its attempt says {attempt['state']}")
    for reference, n in references.items():
        if n > 1:
            report.blame("I3", f"attempt {reference} left {n} times")
    lives = _lives(ledger)
    for marker, lines in taken.items():
        for before, after in _pairs(sorted(lines, key=_time)):
            if _repeats(before, after, ledger, lives, resends):
                report.counts["replaced on the screen"] += 1
            elif failed_at.get(before["id"], _time(after) + 2 * _SLACK) > _time(after) + _SLACK:
                report.blame(
                    "I3", f"{marker}: {after['vendor']} took {after['reference']} while {before['reference']} may stand"
                )


def _about(line: Mapping[str, Any], attempt: Mapping[str, Any] | None) -> str:
    """What the message tells itself; a call that asks first who listens has told nothing when it is taken."""
    if line["marker"] is None and attempt is not None:
        return f"reminder {attempt['reminder']}"
    return str(line["marker"])


# Of each attempt, where in the witness's order it took which state.
_Lives = Mapping[int, Sequence[tuple[int, str]]]


def _lives(ledger: Ledger) -> _Lives:
    lives: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for step in sorted(ledger.attempt_steps, key=lambda step: step.n):
        lives[step.id].append((step.n, step.state))
    return lives


def _repeats(one: Mapping[str, Any], other: Mapping[str, Any], ledger: Ledger, lives: _Lives, resends: Resends) -> bool:
    """Whether one of the two was sent again on purpose, in the other's place on the screen.

    On purpose is: the run's configuration says so for this provider and stage, and when the repeat was intended, nobody
    knew what had become of the first.  A provider may take them in any order: a first that was slow comes last.
    """
    if one["replaces"] is None or one["replaces"] != other["replaces"] or one["reference"] == other["reference"]:
        return False
    attempts = [ledger.attempts.get(id_of(str(line["reference"]))) for line in (one, other)]
    if None in attempts or len({each["reminder"] for each in attempts}) != 1:
        return False
    reminder = ledger.reminders.get(attempts[0]["reminder"])
    if reminder is None or any((each["provider"], reminder["stage"]) not in resends for each in attempts):
        return False
    first, repeat = sorted(attempts, key=lambda each: lives[each["id"]][0])
    intended = lives[repeat["id"]][0][0]
    return [state for n, state in lives[first["id"]] if n < intended][-1] == "unknown"


def _pairs(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each message with every earlier one for the same reminder."""
    return ((before, after) for n, after in enumerate(lines) for before in lines[:n])


def _says_failed(line: Mapping[str, Any]) -> bool:
    """Whether a receipt that was posted to us (not one that the script lost) says the message certainly failed."""
    if not line["attempt"]:
        return False
    if line["vendor"] == "twilio":
        return line["status"] in _TWILIO_FAILED
    if line["vendor"] == "twilio_voice":
        return line["status"] in _TWILIO_NOT_REACHED
    if line["vendor"] == "aliyun_sms":
        return line["status"] not in _ALIYUN_SMS_NO_FAILURE
    return line["vendor"] == "aliyun" and line["status"] not in _ALIYUN_ANSWERED


def _time(line: Mapping[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(line["at"])
