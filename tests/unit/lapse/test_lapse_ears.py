"""What the borrowers hear, by the simulator's log."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.dev.borrowers import Message, people
from gateway.dev.borrowers.people import sms_number, voice_number
from gateway.dev.lapse.ears import Ears
from schemas.vocabulary import Channel

START = dt.datetime(2027, 3, 5, 6, tzinfo=dt.UTC)
WHO = next(each for each in people(1, 50, START.date()) if each.token is not None)
NUMBER, CALL = sms_number(WHO.number), voice_number(WHO.number, moved=True)


def line(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "at": START.isoformat(), **fields}


def heard(*lines: dict[str, Any]) -> tuple[list[Message], Ears]:
    pages = [list(lines), []]
    simulator: Any = SimpleNamespace(journal=SimpleNamespace(since=lambda offset: (pages.pop(0), offset + 1)))
    ears = Ears(simulator, [WHO])
    return ears.listen(), ears


def sent(vendor: str, recipient: str | None, marker: str | None) -> dict[str, Any]:
    return line("accepted", vendor=vendor, id="m", recipient=recipient, marker=marker)


def told(vendor: str, status: str, attempt: int = 1) -> dict[str, Any]:
    return line("receipt", vendor=vendor, id="m", status=status, attempt=attempt)


@pytest.mark.parametrize(
    ("lines", "channel"),
    [
        ([sent("twilio", NUMBER, "M-1a"), told("twilio", "sent"), told("twilio", "delivered")], Channel.SMS),
        ([sent("fcm", WHO.token, "M-1a"), told("fcm", "delivered"), told("fcm", "opened")], Channel.PUSH),
        ([sent("twilio", NUMBER, "M-1a"), told("twilio", "undelivered")], None),
        ([sent("twilio", NUMBER, "M-1a"), told("twilio", "delivered", 2)], None),  # the first try told it
        ([sent("fcm", WHO.token, "M-1a"), told("fcm", "delivered")], None),
        ([sent("fcm", WHO.token, None), told("fcm", "opened")], None),  # a lesson asks for nothing
    ],
)
def test_what_has_reached_him(lines: list[dict[str, Any]], channel: Channel | None) -> None:
    expected = [] if channel is None else [Message(START, WHO.ref, "loan-1a", channel)]
    assert heard(*lines)[0] == expected


@pytest.mark.parametrize(
    ("keys", "hears", "refuses"),
    [
        (("1", "1"), True, False),
        (("1", "9"), True, True),
        (("", "1"), True, False),
        (("2",), False, False),
        ((), False, False),
    ],
)
def test_a_call_is_heard_by_who_says_that_it_is_him(keys: tuple[str, ...], hears: bool, refuses: bool) -> None:
    transcript = [{"event": "say", "text": "Hello"}, *({"event": "gather", "digits": key} for key in keys)]
    messages, ears = heard(line("call", recipient=CALL, marker="M-1a", transcript=transcript))
    assert messages == ([Message(START, WHO.ref, "loan-1a", Channel.VOICE)] if hears else [])
    assert ears.refused == ([(START, WHO.ref)] if refuses else [])
