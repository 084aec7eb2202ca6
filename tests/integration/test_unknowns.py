"""Settling an attempt of unknown outcome by hand: it moves as a receipt would move it, once, with evidence."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateway.cli.unknowns import _consequences
from gateway.ids import to_reference
from gateway.ledger import receipts, sums, timeline, unknowns
from gateway.ledger.database import Database
from gateway.ledger.received import Stored
from gateway.ledger.unknowns import Settled
from schemas.vocabulary import AttemptState, Channel, Disposition, Failure, Found, Reason
from tests.integration.by_hand import HOUR, RESENDS, RULES, Hand, Sending, hand, lose_a_commit

UNKNOWN = AttemptState.UNKNOWN


@pytest.fixture
async def mine(database: str) -> AsyncIterator[Hand]:
    async with hand(database) as made:
        yield made


async def unknown(mine: Hand, ladder: str = "s", **more: Any) -> Sending:
    """A message that may have left."""
    sending = await mine.sending(ladder, **more)
    await mine.record(sending, UNKNOWN)
    return sending


async def settle(mine: Hand, attempt: int, found: Found, connection: Any = None) -> Settled | None:
    async def work(connection: Any) -> Settled | None:
        return await unknowns.settle(connection, attempt, found, "ann", "console says so", mine.now, RULES)

    return await (mine.tx(work) if connection is None else work(connection))


async def events(mine: Hand, sending: Sending) -> list[tuple[str, str | None]]:
    rows = await mine.connection.fetch(
        "select payload from outbox where reminder = $1 and seq > 0 order by seq", sending.request.id
    )
    told = [json.loads(row[0]) for row in rows]
    return [(each["state"], each.get("reason")) for each in told]


CASES: list[tuple[Found, str, str, tuple[str, str | None], Channel | None, bool]] = [
    (Found.DELIVERED, "sv", "delivered", ("delivered", None), None, False),
    (Found.UNDELIVERED, "s", "undelivered", ("undelivered", "contacts_exhausted"), None, False),
    (Found.UNDELIVERED, "sv", "undelivered", ("scheduled", "next_contact"), Channel.VOICE, False),
    (Found.NOT_SENT, "s", "not_sent", ("scheduled", "retry"), Channel.SMS, True),
    (Found.UNCONFIRMED, "sv", "unconfirmed", ("unconfirmed", "outcome_unknown"), None, False),
]


async def test_what_follows(mine: Hand) -> None:
    for found, ladder, attempt, stands, contact, again in CASES:
        sending = await unknown(mine, ladder)
        mine.later(60)
        done = await settle(mine, sending.attempt, found)
        assert done is not None
        assert (done.done, done.was, done.reminder) == (True, UNKNOWN, sending.request.id)
        assert (done.contact, done.again) == (contact, again), found
        assert await mine.state(sending.request) == stands, found
        assert await mine.attempts(sending.request) == [attempt]
        assert done.reminder_was == "awaiting (outcome_unknown)"
        assert done.reminder_becomes == (f"{stands[0]} ({stands[1]})" if stands[1] else stands[0])
        assert await mine.queue(sending.request) == (("due",) if contact else ())
        if contact is None:
            assert (await events(mine, sending))[-1] == stands
        assert await mine.value("select count(*) from unsettled") == 0
        row = await mine.connection.fetchrow("select * from settlement where attempt = $1", sending.attempt)
        assert tuple(row.values()) == (
            sending.attempt, sending.request.id, mine.now, "ann", "console says so", "unknown", attempt,
            done.reminder_was, done.reminder_becomes,
        )  # fmt: skip
    found = await sums.conservation(mine.connection)
    assert found.by_hand.born == 0
    assert {state: n for state, n in found.by_hand.ended.items() if n} == {
        "delivered": 1, "undelivered": 1, "unconfirmed": 1,
    }  # fmt: skip


async def test_what_was_not_sent_is_sent_again(mine: Hand) -> None:
    sending = await unknown(mine)
    await settle(mine, sending.attempt, Found.NOT_SENT)
    again = await mine.sent(sending.request)
    assert await mine.attempts(sending.request) == ["not_sent", "intended"]
    # The proof stands: what is told of the first one later moves nothing.
    assert await mine.receipt(sending, AttemptState.DELIVERED) is Disposition.CONFLICT
    await mine.record(again, AttemptState.ACCEPTED)
    assert await mine.receipt(again, AttemptState.DELIVERED) is Disposition.APPLIED
    assert await mine.state(sending.request) == ("delivered", None)


async def test_a_late_word_corrects_what_nobody_could_say(mine: Hand) -> None:
    sending = await unknown(mine)
    await settle(mine, sending.attempt, Found.UNCONFIRMED)
    assert await mine.receipt(sending, AttemptState.DELIVERED) is Disposition.LATE
    assert await mine.state(sending.request) == ("delivered", None)


async def test_a_stop_in_between_beats_the_next_contact(mine: Hand) -> None:
    for found, stands in (
        (Found.NOT_SENT, ("cancelled", "cancelled_debt")),
        (Found.UNDELIVERED, ("undelivered", "ladder_closed")),
    ):
        sending = await unknown(mine, "sv")
        await mine.read(mine.stop(sending.request))
        done = await settle(mine, sending.attempt, found)
        assert done is not None
        assert done.contact is None
        assert await mine.state(sending.request) == stands


async def test_before_a_repeat(mine: Hand) -> None:
    """Where unknown messages are sent again: what is known then decides about the repeat."""
    for found, stands, contact in (
        (Found.DELIVERED, ("delivered", None), None),
        (Found.NOT_SENT, ("scheduled", "retry"), Channel.SMS),
        (Found.UNCONFIRMED, ("unconfirmed", "outcome_unknown"), None),
    ):
        sending = await unknown(mine, stage=RESENDS)
        assert await mine.state(sending.request) == ("scheduled", "retry")
        done = await settle(mine, sending.attempt, found)
        assert done is not None
        assert await mine.state(sending.request) == stands
        assert done.contact is contact
        assert await mine.value("select count(*) from unsettled") == 0
        assert await mine.queue(sending.request) == (("due",) if contact else ())


async def test_another_attempt_may_still_be_heard_of(mine: Hand) -> None:
    """The repeat is unknown too: giving the first one up ends nothing."""
    sending = await unknown(mine, stage=RESENDS)
    mine.later(31)
    again = await mine.sent(sending.request)
    await mine.record(again, UNKNOWN)
    done = await settle(mine, sending.attempt, Found.UNCONFIRMED)
    assert done is not None
    assert done.reminder_was == done.reminder_becomes
    assert await mine.attempts(sending.request) == ["unconfirmed", "unknown"]
    assert await mine.value("select count(*) from unsettled") == 1
    await settle(mine, again.attempt, Found.UNCONFIRMED)
    assert await mine.state(sending.request) == ("unconfirmed", "outcome_unknown")


async def test_what_was_given_up_may_have_arrived(mine: Hand) -> None:
    """Its repeat, under way meanwhile, has not: no other contact follows, and it ends as what may have left."""
    for failure in (Failure.BAD_RECIPIENT, Failure.OPTED_OUT, Failure.TRANSIENT):
        sending = await unknown(mine, "sv", stage=RESENDS)
        mine.later(31)
        again = await mine.sent(sending.request)
        await settle(mine, sending.attempt, Found.UNCONFIRMED)
        await mine.record(again, AttemptState.REJECTED, failure)
        assert await mine.attempts(sending.request) == ["unconfirmed", "rejected"]
        where = ("scheduled", "retry") if failure is Failure.TRANSIENT else ("awaiting", "outcome_unknown")
        assert await mine.state(sending.request) == where
        mine.later(5 * 24 * 3600)
        if failure is Failure.TRANSIENT:
            await mine.settle(*await mine.claimed(sending.request), expire=True)
        else:
            await mine.fire()
        assert await mine.state(sending.request) == ("unconfirmed", "outcome_unknown")


async def test_only_what_is_unknown(mine: Hand) -> None:
    assert await settle(mine, 7, Found.DELIVERED) is None
    sending = await mine.sending()
    for state in (AttemptState.INTENDED, AttemptState.ACCEPTED, AttemptState.DELIVERED):
        if state is not AttemptState.INTENDED:
            await mine.record(sending, state)
        before = await mine.state(sending.request)
        refused = await settle(mine, sending.attempt, Found.NOT_SENT)
        assert refused is not None
        assert (refused.done, refused.was) == (False, state)
        assert await mine.state(sending.request) == before
    sending = await unknown(mine)
    await settle(mine, sending.attempt, Found.UNDELIVERED)
    again = await settle(mine, sending.attempt, Found.DELIVERED)
    assert again is not None
    assert (again.done, again.was) == (False, AttemptState.UNDELIVERED)
    assert await mine.value("select count(*) from settlement") == 1


async def test_a_lost_commit_is_told_as_done(mine: Hand, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Database(database, size=2, statement_timeout_ms=10_000)
    await ledger.open()
    try:
        for found in Found:
            sending = await unknown(mine)
            with monkeypatch.context() as once:
                lost = lose_a_commit(once)
                done = await ledger.transaction(lambda c: settle(mine, sending.attempt, found, c))  # noqa: B023
            assert lost
            assert done is not None
            assert (done.done, done.was, done.reminder_was) == (True, UNKNOWN, "awaiting (outcome_unknown)")
            state, reason = await mine.state(sending.request)
            assert done.reminder_becomes == (f"{state} ({reason})" if reason else state)
            again = found is Found.NOT_SENT
            assert (done.contact, done.again) == (Channel.SMS if again else None, again)
            assert await mine.value("select count(*) from settlement where attempt = $1", sending.attempt) == 1
    finally:
        await ledger.close()


async def test_a_contact_that_a_worker_took_up_before_the_loss_was_seen(mine: Hand) -> None:
    sending = await unknown(mine)
    first = await settle(mine, sending.attempt, Found.NOT_SENT)
    await mine.sent(sending.request)
    second = await settle(mine, sending.attempt, Found.NOT_SENT)
    assert first is not None
    assert second is not None
    assert (second.done, second.contact, second.again) == (True, Channel.SMS, True)
    assert second.reminder_becomes == first.reminder_becomes == "scheduled (retry)"


async def test_what_somebody_else_has_settled_is_not_told_as_done(mine: Hand) -> None:
    sending = await unknown(mine)
    await mine.tx(
        lambda c: unknowns.settle(c, sending.attempt, Found.NOT_SENT, "bob", "console says so", mine.now, RULES)
    )
    refused = await settle(mine, sending.attempt, Found.NOT_SENT)
    assert refused is not None
    assert not refused.done


async def told(mine: Hand, sending: Sending, found: Found = Found.NOT_SENT) -> str:
    """The line about the contact, before anything is done."""
    transaction = mine.connection.transaction()
    await transaction.start()
    would = await settle(mine, sending.attempt, found, mine.connection)
    await transaction.rollback()
    assert would is not None
    lines = [each for each in _consequences(would, found, yes=False) if "sms, " in each or "voice, " in each]
    assert len(lines) <= 1
    return "".join(lines)


async def test_what_is_told_is_what_follows(mine: Hand) -> None:
    """Of a contact that something else keeps from leaving too."""
    sending = await unknown(mine, "sv")
    free = "THE BORROWER IS CONTACTED AGAIN: sms, the same contact again, from 2026-11-02 09:00:00 on"
    assert await told(mine, sending) == free
    await mine.read(mine.unreadable(sending.request))
    assert await told(mine, sending) == f"held behind a stop that could not be read; once that is lifted {free}"
    for kind, value, found in (("channel", "voice", Found.UNDELIVERED), ("lender", "acme", Found.NOT_SENT)):
        if found is Found.NOT_SENT:
            await mine.unfreeze("channel", "voice")
        await mine.freeze(kind, value)
        line = await told(mine, sending, found)
        assert line.startswith(f"frozen by {kind} {value}: held while that lasts, then, before its not_after, THE BORR")
    mine.later(7200)
    end = "nobody is contacted (sms, the same contact again): it expires by its not_after, 2026-11-02 11:00:00"
    assert await told(mine, sending) == end

    # So it follows, under a freeze too.
    done = await settle(mine, sending.attempt, Found.NOT_SENT)
    assert done is not None
    assert (done.expires, done.frozen) == (mine.now, None)
    [claimed] = await mine.claim(await mine.worker())
    assert claimed.not_after <= mine.now


async def test_a_frozen_repeat_is_told_as_frozen(mine: Hand) -> None:
    """It was held before the repeat; and its timer, at the end, is not when it is to go."""
    sending = await unknown(mine, stage=RESENDS)
    mine.later(60)
    worker, claimed = await mine.claimed(sending.request)
    await mine.freeze()
    await mine.settle(worker, claimed, hold=Reason.FROZEN)
    assert await mine.state(sending.request) == ("held", "frozen")
    assert "frozen by lender acme" in await told(mine, sending)
    await mine.unfreeze()
    assert (await told(mine, sending)).startswith("THE BORROWER IS CONTACTED AGAIN: sms")


async def test_nobody_is_told_of_a_contact_where_the_ladder_is_closed(mine: Hand) -> None:
    sending = await unknown(mine, "sv")
    await mine.read(mine.stop(sending.request, "borrower"))
    assert await told(mine, sending) == ""
    assert await told(mine, sending, Found.UNDELIVERED) == ""


async def test_a_receipt_that_is_first(mine: Hand, database: str) -> None:
    """It has the borrower's lock: the person waits, and is told that the attempt is not unknown any more."""
    sending = await unknown(mine)
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            theirs = Hand(other)
            theirs.now = mine.now
            await theirs.receipt(sending, AttemptState.DELIVERED)
            task = asyncio.create_task(settle(mine, sending.attempt, Found.NOT_SENT))
            await waiting(other)
        refused = await task
    finally:
        await other.close()
    assert refused is not None
    assert (refused.done, refused.was) == (False, AttemptState.DELIVERED)
    assert await mine.state(sending.request) == ("delivered", None)
    assert await mine.value("select count(*) from settlement") == 0


async def test_a_receipt_that_is_second(mine: Hand, database: str) -> None:
    sending = await unknown(mine)
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await settle(mine, sending.attempt, Found.NOT_SENT, other)
            with pytest.raises(asyncpg.LockNotAvailableError):
                await mine.receipt(sending, AttemptState.DELIVERED)
    finally:
        await other.close()
    assert await mine.receipt(sending, AttemptState.DELIVERED) is Disposition.CONFLICT
    assert await mine.state(sending.request) == ("scheduled", "retry")


async def waiting(connection: Any) -> None:
    """Until somebody waits for a lock."""
    sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(10):
        while not await connection.fetchval(sql):
            await connection.execute("select pg_stat_clear_snapshot()")
            await asyncio.sleep(0.02)


async def test_show_tells_of_it(mine: Hand) -> None:
    sending = await unknown(mine)
    mine.later(60)
    await settle(mine, sending.attempt, Found.DELIVERED)
    story = await timeline.read(mine.connection, sending.request.id, mine.now)
    assert story is not None
    [entry] = [each for each in story.entries if each.what == "settled by hand: delivered"]
    assert entry.at == mine.now
    assert entry.detail == (
        f"by ann, attempt {to_reference(sending.attempt)}, was unknown; "
        "reminder awaiting (outcome_unknown) → delivered; console says so"
    )


async def test_the_list(mine: Hand) -> None:
    # Intended last, though its reminder is the oldest.
    late = await mine.born(send_at=mine.now + HOUR)
    sendings = []
    for _ in range(5):
        sendings.append(await unknown(mine))
        mine.later(1)
    mine.now += HOUR
    sendings.append(await mine.sent(late))
    await mine.record(sendings[-1], UNKNOWN)
    await mine.record(await mine.sending(), AttemptState.ACCEPTED)
    await settle(mine, sendings[1].attempt, Found.DELIVERED)
    left = [sendings[0], *sendings[2:]]
    opened = Stored(
        id=mine.id(), provider="p", kind="engaged", code="opened", received_at=mine.now, replay=b"r",
        attempt=sendings[0].attempt, ref="SM-1",
    )  # fmt: skip
    await mine.tx(lambda c: receipts.take(c, [opened], mine.now, RULES, lambda: 1.0))

    whole = (await unknowns.oldest(mine.connection, None, 50)).rows
    assert [each.attempt for each in whole] == [each.attempt for each in left]
    first = whole[0]
    assert (first.reminder, first.provider, first.channel, first.rung, first.lender, first.state, first.code) == (
        sendings[0].request.id, "p", "sms", 0, "acme", "awaiting", "code",
    )  # fmt: skip
    assert [list(each.refs) for each in whole] == [["SM-1"], [], [], [], []]
    assert first.since == first.intended_at
    assert first.looked_at == first.since + dt.timedelta(minutes=10)

    seen: list[int] = []
    place = None
    while rows := (await unknowns.oldest(mine.connection, place, 2)).rows:
        assert len(rows) <= 2
        seen += [each.attempt for each in rows]
        place = await unknowns.place(mine.connection, rows[-1].reminder)
    assert seen == [each.attempt for each in left]
    assert await unknowns.place(mine.connection, sendings[1].request.id) is None
