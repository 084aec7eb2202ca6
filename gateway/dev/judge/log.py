"""What the providers took, and what they told of it afterwards, by their own log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gateway.dev.judge.told import Borrower, moment

CHANNELS = {"twilio": "sms", "fcm": "push", "twilio_voice": "voice"}
FAILED = {"undelivered", "failed", "busy", "no-answer", "canceled"}

Ends = dict[str, list[tuple[dt.datetime, str]]]  # what was told of each message, and when


class Contact(NamedTuple):
    at: dt.datetime
    channel: str
    recipient: str
    id: str
    text: str
    marker: str | None


def contacts(lines: Iterable[dict[str, Any]]) -> Iterator[Contact]:
    lines = list(lines)
    said = {line["id"]: line["marker"] for line in lines if line["kind"] == "call"}
    for line in lines:
        if line["kind"] == "accepted":
            marker = line["marker"] or said.get(line["id"])
            at = moment(line["at"])
            yield Contact(at, CHANNELS[line["vendor"]], line["recipient"], line["id"], line["text_or_template"], marker)


def ends(lines: Iterable[dict[str, Any]]) -> Ends:
    found: Ends = {}
    for line in lines:
        if line["kind"] == "receipt" and line["answer"] != "lost":
            found.setdefault(line["id"], []).append((moment(line["at"]), line["status"]))
    return found


def note_keys(lines: Iterable[dict[str, Any]], people: dict[str, Borrower], whose: dict[str, str]) -> None:
    """Who has said by a key that he is the borrower, and then that he wants no more."""
    for line in lines:
        if line["kind"] == "call" and line["recipient"] in whose:
            keys = [each["digits"] for each in line["transcript"] if each["event"] == "gather" and each["digits"]]
            if keys[:2] == ["1", "9"]:
                people[whose[line["recipient"]]].pressed_stop.append(moment(line["at"]))
