"""What the borrowers hear: the simulator's log, read as their phones would tell it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from gateway.dev.borrowers import Message, Person
from gateway.dev.borrowers.people import sms_number, voice_number
from gateway.dev.simulator import Simulator
from schemas.vocabulary import Channel

# Of a vendor's receipts the one that says that somebody may have noticed.
_ARRIVED = {("twilio", "delivered"): Channel.SMS, ("fcm", "opened"): Channel.PUSH}


class Ears:
    """Reads on from where it stopped.  `refused` is who has pressed the key for no more reminders, and when."""

    def __init__(self, simulator: Simulator, people: Iterable[Person]) -> None:
        self._journal = simulator.journal
        self._offset = 0
        self._sent: dict[str, tuple[str, str | None]] = {}  # by the vendor's id: to which address, about which debt
        self._whose: dict[str, str] = {}
        self.refused: list[tuple[dt.datetime, str]] = []
        for person in people:
            numbers = [make(person.number, moved) for make in (sms_number, voice_number) for moved in (False, True)]
            for address in [*numbers, *filter(None, [person.token])]:
                self._whose[address] = person.ref

    def listen(self) -> list[Message]:
        """What has come since, in the order of the borrowers: who hears first must not hang on our speed."""
        heard: list[Message] = []
        while True:
            lines, self._offset = self._journal.since(self._offset)
            if not lines:
                return sorted(heard, key=lambda each: (each.at, each.borrower, each.channel.value, each.debt or ""))
            heard += [message for line in lines if (message := self._message(line)) is not None]

    def _message(self, line: dict[str, Any]) -> Message | None:
        kind, at = line["kind"], dt.datetime.fromisoformat(line["at"])
        if kind == "accepted":
            self._sent[line["id"]] = (line["recipient"], _debt(line["marker"]))
        elif kind == "receipt" and line["attempt"] == 1:
            channel = _ARRIVED.get((line["vendor"], line["status"]))
            if channel is not None and line["id"] in self._sent:
                address, debt = self._sent[line["id"]]
                if debt is None:
                    return None  # a lesson
                return Message(at, self._whose[address], debt, channel)
        elif kind == "call" and (pressed := _pressed(line["transcript"]))[:1] == ["1"]:
            borrower = self._whose[line["recipient"]]
            if pressed[1:] == ["9"]:
                self.refused.append((at, borrower))
            return Message(at, borrower, _debt(line["marker"]), Channel.VOICE)
        return None


def _pressed(transcript: list[dict[str, Any]]) -> list[str]:
    """His keys: 1 says that it is him, and then he hears of the debt; 9 after that, that he wants no more."""
    return [each["digits"] for each in transcript if each["event"] == "gather" and each["digits"]]


def _debt(marker: str | None) -> str | None:
    return None if marker is None else f"loan-{marker.removeprefix('M-')}"
