"""I1 and I2: nothing is lost and nothing counts twice between Kafka and Postgres."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tests.faults import tables
from tests.faults.evidence import Ledger, Report, parsed
from tests.faults.topics import Topic


def requests_are_accounted_for(
    report: Report, ledger: Ledger, requests: Topic, told: Mapping[str, dict[str, Any]], letters: Topic
) -> None:
    accepted = Counter((row["partition"], row["offset"]) for row in requested(ledger))
    dead = Counter((row["partition"], row["offset"]) for row in ledger.deadletters if row["topic"] == ledger.topic)
    redriven = {(row["partition"], row["offset"]): row for row in ledger.redriven}
    obeyed = _Obeyed(ledger, told)
    repeated: Counter[tuple[str, str]] = Counter()
    outcomes: Counter[tuple[int, str]] = Counter()
    for record in requests.records:
        place = (record.partition, record.offset)
        found = accepted[place] + dead[place]
        if place in redriven:
            if (accepted[place], dead[place]) != (redriven[place]["outcome"] == "accepted", 1):
                report.blame("I1", f"record {place} was redriven: {accepted[place]} reminders, {dead[place]} letters")
        elif found > 1:
            report.blame("I1", f"record {place} became {accepted[place]} reminders and {dead[place]} dead letters")
        event = parsed(record.value)
        if place in redriven:  # intake has counted a dead letter, and what came of it later is no record of Kafka's
            outcomes[record.partition, "deadletter"] += 1
            match redriven[place]["outcome"]:
                case "duplicate":
                    repeated[str(event.get("source")), str(event.get("id"))] += 1
                case "command" if not obeyed.was(event):
                    report.blame("I1", f"record {place} was redriven and not obeyed")
        elif found:
            outcomes[record.partition, "accepted" if accepted[place] else "deadletter"] += 1
        elif _is_request(event):
            repeated[str(event.get("source")), str(event.get("id"))] += 1
            outcomes[record.partition, "duplicate"] += 1
        elif obeyed.was(event):
            outcomes[record.partition, "command"] += 1
        else:
            report.blame("I1", f"record {place} is lost")
    _recorded(report, ledger, repeated, told)
    if outcomes != +ledger.counted:
        report.blame("I1", f"counted by intake {dict(ledger.counted)}, found {dict(outcomes)}")
    for what, owners in (
        ("attempts", {row["reminder"] for row in ledger.attempts.values()}),
        ("an end", ledger.endings.keys()),
        ("a life", ledger.live.keys()),
    ):
        for reminder in owners - ledger.reminders.keys():
            report.blame("I1", f"reminder {reminder} has {what} and no row")
    _told_dead(report, ledger, letters)
    report.counts.update(
        records=len(requests.records), reminders=len(ledger.reminders), dead_letters=sum(dead.values())
    )
    report.counts["redriven"] = len(redriven)
    report.counts["duplicates"] = sum(repeated.values())
    report.counts["commands"] = sum(n for (_, outcome), n in outcomes.items() if outcome == "command")


def requested(ledger: Ledger) -> Iterator[Any]:
    """The reminders that requests have made."""
    return (row for row in ledger.reminders.values() if row["topic"] == ledger.topic)


def _is_request(event: Mapping[str, Any]) -> bool:
    data = event.get("data")
    valid = str(event.get("type")).startswith("reminder.requested.") and isinstance(data, dict)
    return valid and not (isinstance(data, dict) and data.get("validate_only"))


class _Obeyed:
    """Whether a cancel left its tombstone, or a validation its answer."""

    def __init__(self, ledger: Ledger, told: Mapping[str, dict[str, Any]]) -> None:
        self._stones: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
        for stone in ledger.tombstones:
            self._stones[stone["lender"], stone["borrower"], stone["kind"]].append(stone)
        validated = (each for each in told.values() if each.get("answer") == "validated")
        self._validated = {(each["source"], each["request_id"]) for each in validated}

    def was(self, event: Mapping[str, Any]) -> bool:
        data = event.get("data") or {}
        if data.get("validate_only"):
            return (event["source"], event["id"]) in self._validated
        kind, as_of = data.get("scope", {}).get("kind"), data.get("as_of")
        if as_of is None:
            return False
        return any(
            (kind != "debt" or stone["value"] == data["scope"]["ref"])
            and stone["as_of"] >= dt.datetime.fromisoformat(as_of)
            for stone in self._stones[data["lender"], data["borrower_ref"], kind]
        )


def _recorded(
    report: Report, ledger: Ledger, repeated: Counter[tuple[str, str]], told: Mapping[str, dict[str, Any]]
) -> None:
    known = {(row["source"], row["request_id"]) for row in requested(ledger)}
    answers = Counter(
        (each["source"], each["request_id"]) for each in told.values() if each.get("answer") == "duplicate"
    )
    for key in repeated.keys() | answers.keys():
        if repeated[key] != answers[key]:
            report.blame("I1", f"request {key}: {repeated[key]} repetitions read, {answers[key]} recorded")
        if key not in known:
            report.blame("I1", f"request {key}: lost, yet answered as a duplicate")


def _told_dead(report: Report, ledger: Ledger, letters: Topic) -> None:
    told = {event["id"]: event["data"] for event in map(parsed, letters.values())}
    heard = Counter((each["partition"], each["offset"]) for each in told.values())
    kept = Counter((row["partition"], row["offset"]) for row in ledger.deadletters)
    if heard != kept:
        report.blame("I1", f"dead letters kept {sorted(kept)}, told {sorted(heard)}")


def no_request_counts_twice(report: Report, ledger: Ledger) -> None:
    requests = Counter((row["source"], row["request_id"]) for row in requested(ledger))
    contacted = {row["reminder"] for row in ledger.attempts.values() if row["state"] not in tables.NO_CONTACT}
    names = ("lender", "borrower", "debt", "instalment", "stage", "step")
    known = contacted & ledger.reminders.keys()
    business = Counter(tuple(ledger.reminders[each][name] for name in names) for each in known)
    for key, n in [*requests.items(), *business.items()]:
        if n > 1:
            report.blame("I2", f"{n} reminders for {key}")
