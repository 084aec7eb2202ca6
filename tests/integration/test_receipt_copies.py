"""Copies of a receipt move nothing, wherever the first of them stands, and spoil nothing for what comes beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.ledger import receipts
from gateway.ledger.receipts import Taken
from gateway.ledger.received import Stored
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Disposition as D
from schemas.vocabulary import Failure
from tests.integration.by_hand import Hand, Sending, hand


def word(hand: Hand, sending: Sending | None, replay: str, state: A = A.DELIVERED, **changes: Any) -> Stored:
    """The provider's word under its own id for the message, as one callback; the same `replay` makes it a copy."""
    values: dict[str, Any] = {
        "id": hand.id(), "provider": "p", "kind": "receipt", "code": "c", "received_at": hand.now, "state": state,
        "replay": replay.encode(), "ref": "nobody's" if sending is None else f"ref-{sending.attempt}",
        "failure": Failure.UNREACHABLE if state is A.UNDELIVERED else None,
    }  # fmt: skip
    return Stored(**(values | changes))


async def take(hand: Hand, *group: Stored) -> Taken:
    return await hand.tx(lambda c: receipts.take(c, group, hand.now, hand.rules, lambda: hand.jitter))


async def sweep(hand: Hand) -> Taken:
    """Time passes, and what is parked is looked at."""
    hand.later(3)
    ripe = await receipts.ripe(hand.connection, hand.now)
    return await hand.tx(lambda c: receipts.sweep(c, ripe, hand.now, hand.rules, lambda: hand.jitter))


async def rows(hand: Hand) -> tuple[int, int]:
    """How many receipts there are, and how many of them are parked."""
    [row] = await hand.connection.fetch("select (select count(*) from receipt), (select count(*) from parked)")
    return tuple(row)


async def disposition(hand: Hand, receipt: Stored) -> tuple[str | None, int | None]:
    """What stands in the row, and the attempt it belongs to."""
    return tuple(await hand.connection.fetchrow("select disposition, attempt from receipt where id = $1", receipt.id))


async def events(hand: Hand, sending: Sending) -> int:
    """How often the reminder has moved, as upstream hears of it."""
    return await hand.value("select count(*) from outbox where reminder = $1", sending.request.id)


def said(taken: Taken) -> dict[int, D]:
    return {each.receipt.id: each.disposition for each in taken.disposed}


async def unmatched(hand: Hand, receipt: Stored) -> None:
    """It came before our own record."""
    assert said(await take(hand, receipt)) == {receipt.id: D.UNMATCHED}


async def only_stored(hand: Hand, receipt: Stored) -> None:
    """Its borrower was locked for too long."""
    assert await hand.tx(lambda c: receipts.store(c, [receipt], hand.now)) == {receipt.id}


parked = pytest.mark.parametrize("park", [unmatched, only_stored])
Park = Callable[[Hand, Stored], Awaitable[None]]


async def nothing(hand: Hand, *copies: Stored) -> None:
    """These change nothing at all."""
    assert await take(hand, *copies) == Taken(frozenset(), [], [])


@parked
async def test_a_copy_of_what_is_parked_leaves_it_to_the_sweep(park: Park, database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending()
        first = word(mine, sending, "x")
        await park(mine, first)
        await mine.record(sending, A.ACCEPTED)
        assert await mine.state(sending.request) == ("awaiting", None)
        before = await events(mine, sending)
        await nothing(mine, word(mine, sending, "x"))
        await nothing(mine, word(mine, sending, "x"), word(mine, sending, "x"))
        assert await rows(mine) == (1, 1)
        assert await mine.state(sending.request) == ("awaiting", None)
        assert await mine.attempts(sending.request) == ["accepted"]

        swept = await sweep(mine)
        assert said(swept) == {first.id: D.APPLIED}
        assert [each.was.id for each in swept.moves] == [sending.request.id]
        assert await mine.state(sending.request) == ("delivered", None)
        assert await disposition(mine, first) == ("applied", sending.attempt)
        assert await rows(mine) == (1, 0)
        assert await events(mine, sending) == before + 1


@parked
async def test_beside_new_ones_a_copy_of_what_is_parked_counts_for_nothing(park: Park, database: str) -> None:
    """One group: the copy says `delivered`, a new one of the same attempt `sent`, others are of others or nobody's."""
    async with hand(database) as mine:
        sending, other = await mine.sending(), await mine.sending()
        first = word(mine, sending, "x")
        await park(mine, first)
        for each in (sending, other):
            await mine.record(each, A.ACCEPTED)
        copy, same = word(mine, sending, "x"), word(mine, sending, "same", A.SENT)
        others, nobodys = word(mine, other, "other"), word(mine, None, "nobody")
        taken = await take(mine, copy, same, others, nobodys)
        assert taken.kept == {same.id, others.id, nobodys.id}
        assert said(taken) == {same.id: D.APPLIED, others.id: D.APPLIED, nobodys.id: D.UNMATCHED}
        assert {each.was.id: each.state for each in taken.moves} == {
            sending.request.id: "awaiting",
            other.request.id: "delivered",
        }
        assert await rows(mine) == (4, 2)
        assert await mine.state(sending.request) == ("awaiting", None)
        assert await mine.attempts(sending.request) == ["sent"]
        assert await mine.state(other.request) == ("delivered", None)

        swept = await sweep(mine)
        assert said(swept) == {first.id: D.APPLIED, nobodys.id: D.UNMATCHED}
        assert await mine.state(sending.request) == ("delivered", None)
        assert await disposition(mine, first) == ("applied", sending.attempt)
        assert await disposition(mine, nobodys) == ("unmatched", None)
        assert await rows(mine) == (4, 1)
        assert await mine.value("select receipt from parked") == nobodys.id


async def test_of_two_copies_in_one_group_one_counts(database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending()
        await mine.record(sending, A.ACCEPTED)
        before = await events(mine, sending)
        one, two = word(mine, sending, "x"), word(mine, sending, "x")
        taken = await take(mine, one, two)
        [kept] = taken.kept
        assert kept in (one.id, two.id)
        assert said(taken) == {kept: D.APPLIED}
        assert [each.was.id for each in taken.moves] == [sending.request.id]
        assert await rows(mine) == (1, 0)
        assert await mine.value("select disposition from receipt") == "applied"
        assert await mine.state(sending.request) == ("delivered", None)
        assert await events(mine, sending) == before + 1


async def test_of_two_copies_in_one_group_that_match_nothing_yet_one_is_parked(database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending()
        taken = await take(mine, word(mine, sending, "x"), word(mine, sending, "x"))
        assert list(said(taken).items()) == [(*taken.kept, D.UNMATCHED)]
        assert await rows(mine) == (1, 1)
        await mine.record(sending, A.ACCEPTED)
        assert list(said(await sweep(mine)).items()) == [(*taken.kept, D.APPLIED)]
        assert await rows(mine) == (1, 0)
        assert await mine.state(sending.request) == ("delivered", None)


async def test_a_copy_of_what_was_applied_changes_nothing_beside_what_is_new(database: str) -> None:
    async with hand(database) as mine:
        sending, other = await mine.sending(), await mine.sending()
        for each in (sending, other):
            await mine.record(each, A.ACCEPTED)
        first = word(mine, sending, "x", A.SENT)
        assert said(await take(mine, first)) == {first.id: D.APPLIED}
        await nothing(mine, word(mine, sending, "x", A.SENT))
        new, others = word(mine, sending, "new"), word(mine, other, "other", A.UNDELIVERED)
        taken = await take(mine, others, word(mine, sending, "x", A.SENT), new)
        assert said(taken) == {new.id: D.APPLIED, others.id: D.APPLIED}
        assert await rows(mine) == (3, 0)
        assert [await disposition(mine, each) for each in (first, new, others)] == [
            ("applied", sending.attempt), ("applied", sending.attempt), ("applied", other.attempt),
        ]  # fmt: skip
        assert await mine.state(sending.request) == ("delivered", None)
        assert (await mine.state(other.request))[0] == "undelivered"


async def test_a_copy_that_came_before_any_record_leaves_no_id_of_the_provider(database: str) -> None:
    """A copy found by our own reference, of one that is parked: what it would have taught us is not learnt either."""
    async with hand(database) as mine:
        sending = await mine.sending()
        first = word(mine, sending, "x", attempt=sending.attempt)
        await only_stored(mine, first)
        await nothing(mine, word(mine, sending, "x", attempt=sending.attempt))
        assert await mine.value("select count(*) from provider_ref") == 0
        assert await mine.attempts(sending.request) == ["intended"]
        assert said(await sweep(mine)) == {first.id: D.APPLIED}
        assert await mine.value("select attempt from provider_ref") == sending.attempt
        assert await mine.state(sending.request) == ("delivered", None)
