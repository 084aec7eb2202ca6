"""A log line names an attempt or a receipt as everything else does: by its reference."""

from __future__ import annotations

import asyncio
import datetime as dt
from types import SimpleNamespace
from typing import Any, Final

from structlog.testing import capture_logs

from gateway.clock import VirtualClock
from gateway.dispatch.commits import Commits
from gateway.ids import IdSource, to_reference
from gateway.ledger.outcomes import Outcome
from gateway.ledger.standing import Rules
from gateway.receipts.inbox import ReceiptInbox
from schemas.vocabulary import AttemptState

ID: Final = IdSource(1).next(7)
CLOCK: Final = VirtualClock(dt.datetime(2026, 11, 18, tzinfo=dt.UTC))


class Ledger:
    """Takes nothing of what it is asked first."""

    def __init__(self, fails: int) -> None:
        self.fails = fails

    async def transaction(self, *_: Any, **__: Any) -> Any:
        self.fails -= 1
        if self.fails >= 0:
            raise ValueError("does not fit")


def commits(fails: int) -> Commits:
    ledger: Any = Ledger(fails)
    nothing: Any = SimpleNamespace()
    return Commits(ledger, CLOCK, Rules(), nothing, lambda: None)


def test_an_attempt_that_cannot_ask_again() -> None:
    job: Any = SimpleNamespace(intent=object(), attempt=ID, lease=SimpleNamespace(id=1))
    with capture_logs() as told:
        assert not asyncio.run(commits(1).intend_again(job))
    assert [(each["event"], each["attempt"]) for each in told] == [("intend_again_failed", to_reference(ID))]


def test_an_outcome_that_nobody_can_write() -> None:
    lost = Outcome(ID, ID, b"s", "p", AttemptState.ACCEPTED)
    with capture_logs() as told:
        asyncio.run(commits(2).record([lost]))
    named = [(each["event"], each["attempt"]) for each in told if "attempt" in each]
    assert named == [("outcome_lost", to_reference(ID))]


def test_a_receipt_that_cannot_be_applied() -> None:
    ledger: Any = Ledger(1)
    any_: Any = SimpleNamespace()
    inbox = ReceiptInbox(ledger, any_, CLOCK, any_, Rules(), any_, lambda: None)
    parked: Any = SimpleNamespace(id=ID)
    with capture_logs() as told:
        asyncio.run(inbox._sweep([parked]))
    assert [(each["event"], each["receipt"]) for each in told] == [("receipt_not_applied", to_reference(ID))]
