"""The demo's account says no: to every sum that does not add up, and to whatever comes after the end."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
from collections.abc import Sequence
from typing import Any, cast

import pytest
from rich.console import Console

from gateway.cli.kafka import Listener
from gateway.dev.demo import watch
from gateway.dev.demo.account import Account
from gateway.dev.demo.books import Books
from gateway.dev.demo.cast import SOURCE, Expectation, Item
from gateway.dev.demo.watch import Fate, Watch
from gateway.ledger.gauges import ReadOutcome
from gateway.ledger.sums import Conservation, Counted
from schemas.messages import CALLBACK_REQUESTED, DEADLETTER, REPLIED, STATUS
from schemas.vocabulary import ReminderState

TOPIC = "reminders.requests"
AT = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC).isoformat()


def item(name: str, *, stop: bool = False, **expect: Any) -> Item:
    return Item(name, b"b", b"{}", Expectation(**expect), stop=stop)


ITEMS = (
    item("sent", state="delivered", channel="sms", attempts=1),
    item("sent", answer="duplicate"),
    item("bad", dead_letter="bad_phone"),
    item("paid", state="cancelled", reason="cancelled_request"),
    item("paid", stop=True),
)


def told(name: str, seq: int, state: str, **more: Any) -> dict[str, Any]:
    base = {"source": SOURCE, "request_id": name, "at": AT, "reminder": f"r-{name}", "seq": seq, "state": state}
    return {**base, **more}


def attempt(state: str) -> dict[str, Any]:
    return {"id": "a", "channel": "sms", "provider": "twilio", "state": state, "intended_at": AT}


STORY: Sequence[dict[str, Any]] = (
    told("sent", 1, "scheduled"),
    {"source": SOURCE, "request_id": "sent", "at": AT, "reminder": "r-sent", "answer": "duplicate"},
    {"reason": "bad_phone", "topic": TOPIC, "partition": 0, "offset": 2, "pointer": "p", "at": AT},
    told("paid", 1, "scheduled"),
    told("paid", 2, "cancelled", reason="cancelled_request"),
    told("sent", 2, "delivered", attempts=[attempt("delivered")]),
)


class Said:
    """A listener that hears one piece of news at a time."""

    def __init__(self, *news: dict[str, Any]) -> None:
        self.news = list(news)

    async def more(self, milliseconds: int = 0) -> list[dict[str, Any]]:
        if not self.news:
            return []
        told = self.news.pop(0)
        return [{"type": DEADLETTER if "offset" in told else STATUS, **told}]


def listener(*news: dict[str, Any]) -> Listener:
    return cast("Listener", Said(*news))


ENDED = {ReminderState.DELIVERED: 1, ReminderState.CANCELLED: 1}


def books(**changes: Any) -> Books:
    outcomes = {
        ReadOutcome.ACCEPTED: 2, ReadOutcome.DUPLICATE: 1, ReadOutcome.DEADLETTER: 1, ReadOutcome.COMMAND: 1
    }  # fmt: skip
    sums = Conservation(
        passed={(TOPIC, 0): 5},
        following={(TOPIC, 0): 5},
        outcomes={(TOPIC, 0): outcomes},
        reminders=2,
        live=0,
        endings=ENDED,
        queued=0,
        letters=1,
        log={(TOPIC, 0): (0, 5)},
        counted=Counted(outcomes, 2, ENDED),
    )
    whole = {"sums": sums, "published": 5, "waiting": 0, "parked": 0, "pending": 0, "log_size": 100}
    of_sums = {name: changes.pop(name) for name in list(changes) if name not in whole}
    return Books(**{**whole, "sums": dataclasses.replace(sums, **of_sums), **changes})


LOG = {"messages": 1, "duplicates_sent": 0, "unmarked": 0}


async def watched(*news: dict[str, Any]) -> Watch:
    """Everything published, and told what there is to tell."""
    seen = Watch(ITEMS)
    for number, fate in enumerate(seen.fates):
        fate.place = (0, number)
    seen.published = len(ITEMS)
    await seen.follow(listener(*news), lambda: None)
    return seen


@pytest.fixture
async def whole() -> Watch:
    return await watched(*STORY)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_QUIET", 0.02)


def account(seen: Watch, *, providers: dict[str, int] = LOG, restless: Sequence[str] = (), **changes: Any) -> Account:
    return Account(seen.fates, providers, books(**changes), seen.others, restless)


async def test_what_adds_up_has_no_problem(whole: Watch) -> None:
    assert account(whole).problems() == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"published": 6}, "6 records published, but 5 read by the stored offsets"),
        ({"log": {(TOPIC, 0): (0, 4)}}, "reminders.requests/0: the next offset 5 is outside the log, 0 to 4"),
        ({"passed": {(TOPIC, 0): 4}}, "reminders.requests/0: offsets passed: 4, outcomes: 5"),
        ({"counted": Counted({ReadOutcome.ACCEPTED: 3}, 2, ENDED)}, "accepted by the counters: 3, by the ledger: 2"),
        ({"counted": Counted({}, 3, ENDED)}, "born by the counters: 3, reminders: 2"),
        ({"counted": Counted({}, 2, {ReminderState.DELIVERED: 2})}, "delivered by the counters: 2, by the ledger: 1"),
        ({"letters": 2}, "dead letters: 1, rows kept of them: 2"),
        ({"live": 1}, "reminders: 2, live and ended: 3"),
    ],
)
async def test_a_term_that_differs_in_its_own_source_is_a_problem(
    whole: Watch, changes: dict[str, Any], problem: str
) -> None:
    assert problem in account(whole, **changes).problems()


async def test_what_was_read_is_compared_with_what_was_told(whole: Watch) -> None:
    """The ledger's own sums are whole: one record more was read, and nobody was told of it."""
    outcomes = {(TOPIC, 0): {ReadOutcome.ACCEPTED: 2, ReadOutcome.DUPLICATE: 2, ReadOutcome.DEADLETTER: 1}}
    found = account(whole, outcomes=outcomes).problems()
    assert "2 records read as duplicate, but 1 told so" in found
    assert "0 records read as command, but 1 told so" in found
    more = account(whole, published=6, passed={(TOPIC, 0): 6}, following={(TOPIC, 0): 6}).problems()
    assert "6 records read, but 4 requests + 1 stops" in more


@pytest.mark.parametrize(
    ("providers", "problem"),
    [
        ({**LOG, "messages": 2}, "the gateway tells of 1 messages, the providers of 2"),
        ({**LOG, "duplicates_sent": 1}, "sent twice: 1; without a marker: 0"),
        ({**LOG, "unmarked": 1}, "sent twice: 0; without a marker: 1"),
    ],
)
async def test_the_providers_have_the_last_word(whole: Watch, providers: dict[str, int], problem: str) -> None:
    assert problem in account(whole, providers=providers).problems()


@pytest.mark.parametrize(
    ("stranger", "problem"),
    [
        (
            {"reason": "not_json", "topic": TOPIC, "partition": 3, "offset": 7, "pointer": "p", "at": AT},
            "nobody expected to be told of a dead letter at 3/7: not_json",
        ),
        (told("nobody", 1, "scheduled"), "nobody expected to be told of demo nobody: scheduled"),
        ({**told("sent", 1, "scheduled"), "source": "x"}, "nobody expected to be told of x sent: scheduled"),
        (
            {**told("sent", 1, "scheduled"), "reminder": "another"},
            "nobody expected to be told of demo sent: scheduled",
        ),
        (
            {"source": SOURCE, "request_id": "paid", "at": AT, "answer": "duplicate"},
            "nobody expected to be told of demo paid: duplicate",
        ),
    ],
)
async def test_what_is_told_about_nothing_of_the_cast_is_a_problem(stranger: dict[str, Any], problem: str) -> None:
    seen = await watched(*STORY[:3], stranger, *STORY[3:])
    assert account(seen).problems() == [problem]


def wished(name: str, **more: Any) -> dict[str, Any]:
    return {"type": CALLBACK_REQUESTED, "source": SOURCE, "request_id": name, "reminder": f"r-{name}", "at": AT, **more}


async def test_what_a_borrower_was_not_to_say_is_a_problem() -> None:
    seen = await watched(*STORY[:3], wished("sent"), *STORY[3:])
    assert account(seen).problems() == ["sent: expected delivered, by sms, 1 tries"]


async def test_what_a_borrower_was_to_say_and_did_not_is_a_problem() -> None:
    asked = item("sent", state="delivered", channel="sms", attempts=1, said=CALLBACK_REQUESTED)
    silent = Watch((asked,))
    silent.fates[0].place, silent.published = (0, 0), 1
    await silent.follow(listener(STORY[0], STORY[-1]), lambda: None)
    assert not silent.fates[0].as_expected
    spoken = Watch((asked,))
    spoken.fates[0].place, spoken.published = (0, 0), 1
    await spoken.follow(listener(STORY[0], wished("sent"), STORY[-1]), lambda: None)
    assert spoken.fates[0].as_expected


@pytest.mark.parametrize(
    ("stranger", "problem"),
    [
        (wished("nobody"), "nobody expected to be told of demo nobody: contact.callback_requested.v1"),
        (wished("sent", reminder="another"), "nobody expected to be told of demo sent: contact.callback_requested.v1"),
        ({"type": REPLIED, "reply": "x", "at": AT}, "nobody expected to be told of contact.replied.v1"),
    ],
)
async def test_a_word_of_nobody_of_the_cast_is_a_problem(stranger: dict[str, Any], problem: str) -> None:
    seen = await watched(*STORY[:3], stranger, *STORY[3:])
    assert account(seen).problems() == [problem]


async def test_what_is_told_again_is_none(whole: Watch) -> None:
    seen = await watched(*STORY[:3], *STORY)
    assert account(seen).problems() == []


# --- after the end ------------------------------------------------------------------------------------------------


async def test_a_correction_after_the_last_end_is_seen(whole: Watch) -> None:
    late = told("paid", 3, "delivered", correction=True, attempts=[attempt("delivered")])

    async def read() -> Books:
        return books()

    assert await whole.settle(listener(late), read, within=2) == []
    assert account(whole).problems()[0].startswith("paid: expected cancelled")


async def test_a_stranger_after_the_last_end_is_seen(whole: Watch) -> None:
    async def read() -> Books:
        return books()

    await whole.settle(listener(told("nobody", 1, "scheduled")), read, within=2)
    assert account(whole).problems() == ["nobody expected to be told of demo nobody: scheduled"]


async def test_nothing_is_counted_while_something_is_under_way(whole: Watch) -> None:
    """First a receipt is on its way, then the provider's log grows: both begin the quiet time anew."""
    readings = [books(pending=1), books(pending=1), books(waiting=1), books(log_size=200)]
    read_last: list[Books] = []

    async def read() -> Books:
        read_last.append(readings.pop(0) if readings else books(log_size=200))
        return read_last[-1]

    assert await whole.settle(listener(), read, within=2) == []
    assert readings == []
    assert len(read_last) > 5


@pytest.mark.parametrize(
    ("never", "still"),
    [
        ({"live": 1, "endings": {ReminderState.DELIVERED: 1}}, "reminders live: 1"),
        ({"waiting": 2}, "events in the outbox: 2"),
        ({"parked": 1}, "receipts not applied: 1"),
        ({"pending": 3}, "receipts not delivered: 3"),
        ({"published": 6}, "records not read: 1"),
    ],
)
async def test_what_never_comes_to_rest_is_a_problem(whole: Watch, never: dict[str, Any], still: str) -> None:
    async def read() -> Books:
        return books(**never)

    restless = await whole.settle(listener(), read, within=0.1)
    assert restless == [still]
    assert f"still under way: {still}" in account(whole, restless=restless).problems()


# --- the table ------------------------------------------------------------------------------------------------------


async def test_every_sum_of_the_last_line_is_a_row_of_the_table(whole: Watch) -> None:
    made = account(whole)
    stream = io.StringIO()
    Console(file=stream, width=160).print(made.table())
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    sums = made.sums()
    assert sums["requests"] == 4
    for row in (
        "1 sms 1, push 0, voice 0 1 delivered",
        "1 0 cancelled",
        "1 0 dead letter",
        "1 0 duplicate",
        "0 0 validated",
        "= 4 requests 1 sum of the above",
        "2 accepted by the ledger's counts",
        "1 duplicate by the ledger's counts",
        "1 deadletter by the ledger's counts",
        "1 command by the ledger's counts",
        "= 5 records read by the stored offsets",
        "5 read by the metrics",
        "5 published 4 requests, 1 stops",
        "1 messages taken as the events tell",
        "1 taken by the providers' own log",
        "0 sent twice by the providers' own log",
    ):
        assert row in lines, row


def test_a_fate_begins_with_nothing() -> None:
    assert not Fate(ITEMS[0]).as_expected
