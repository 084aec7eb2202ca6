"""What borrowers say back, on a real Postgres: stored sealed, obeyed under their lock, told once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.ids import to_reference
from gateway.personal import REPLY_FIELD
from providers.contract import Inbound, KeyPress
from schemas.messages import CALLBACK_REQUESTED, OPTED_OUT, REPLIED, WRONG_PARTY
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Disposition, Failure
from tests.integration.by_hand import HOUR, Sending
from tests.integration.inbox_by_hand import Bench, bench, locked, receipt

PHONE, OTHER, OURS = "+8613900001234", "+8613900009999", "+14155550000"
BURST = 200


async def sent_to(it: Bench, phone: str = PHONE, **request: Any) -> Sending:
    """A message that the provider has taken for this address."""
    sending = await it.hand.sent(await it.hand.born(**request), it.sealer.address(phone))
    await it.hand.record(sending, A.ACCEPTED)
    return sending


async def told(it: Bench, type_: str) -> list[dict[str, Any]]:
    """What waits for Kafka of this type, with its key as `key`."""
    rows = await it.hand.connection.fetch(
        "select reminder, seq, payload from outbox where type = $1 order by id", type_
    )
    assert all(row["seq"] == 0 for row in rows)
    return [{**json.loads(row["payload"]), "key": to_reference(row["reminder"])} for row in rows]


async def dispositions(it: Bench) -> list[tuple[str, str, str | None]]:
    rows = await it.hand.connection.fetch("select kind, code, disposition from receipt order by id")
    return [tuple(row) for row in rows]


async def engaged(it: Bench) -> list[tuple[int, str]]:
    return [tuple(row) for row in await it.hand.connection.fetch("select attempt, kind from engagement order by id")]


def key(sending: Sending, digits: str, step: str = "menu") -> KeyPress:
    return KeyPress(digits, to_reference(sending.attempt), "CA1", None, step)


# --- replies --------------------------------------------------------------------------------------------------------


async def test_a_reply_is_sealed_and_told_by_ids_alone(database: str) -> None:
    async with bench(database) as it:
        earlier = await sent_to(it)
        mine = await sent_to(it)
        await sent_to(it, OTHER)
        assert await it.keep(Inbound("SM9", PHONE, OURS, "我已经还了 STOP"))
        [event] = await told(it, REPLIED)
        reply = event.pop("reply")
        assert event == {
            "key": to_reference(mine.request.id), "provider": "p", "at": it.hand.now.isoformat().replace("+00:00", "Z"),
            "channel": "sms", "lender": "acme", "source": "core", "request_id": mine.request.request_id,
            "reminder": to_reference(mine.request.id), "attempt": to_reference(mine.attempt),
        }  # fmt: skip
        assert earlier.attempt < mine.attempt, "the last one is answered"
        assert await engaged(it) == [(mine.attempt, "replied")]
        assert await dispositions(it) == [("inbound", "inbound", "applied")]
        [row] = await it.hand.connection.fetch("select id, address, sealed from reply")
        assert to_reference(row["id"]) == reply
        assert row["address"] == it.sealer.address(PHONE)
        opened = json.loads(it.sealer.open(row["sealed"], row["id"], REPLY_FIELD))
        assert opened == {"sender": PHONE, "recipient": OURS, "text": "我已经还了 STOP"}
        assert await it.hand.state(mine.request) == ("awaiting", None), "an answer is no delivery"


async def test_a_repeated_reply_is_told_once(database: str) -> None:
    async with bench(database) as it:
        await sent_to(it)
        assert await it.keep(Inbound("SM9", PHONE, OURS, "ok"), replay="x")
        assert not await it.keep(Inbound("SM9", PHONE, OURS, "ok"), replay="x")
        assert len(await told(it, REPLIED)) == 1
        assert await it.hand.value("select count(*) from reply") == 1


async def test_a_reply_from_nobody_we_wrote_to_is_told_too(database: str) -> None:
    async with bench(database) as it:
        # Not to whom nothing was sent, not what another provider sent.
        born = await it.hand.born()
        await it.hand.sent(born, it.sealer.address(PHONE))
        assert await it.keep(Inbound("SM9", PHONE, OURS, "who are you?"))
        [event] = await told(it, REPLIED)
        assert event == {
            "key": event["reply"], "reply": event["reply"], "provider": "p",
            "at": it.hand.now.isoformat().replace("+00:00", "Z"),
        }  # fmt: skip
        assert await dispositions(it) == [("inbound", "inbound", "unmatched")]
        assert await it.counts() == (1, 0), "nobody waits for it to match"


async def test_a_reply_that_comes_again_in_other_company_is_the_same(database: str) -> None:
    async with bench(database) as it:
        first, second = Inbound("1", PHONE, OURS, "one"), Inbound("2", PHONE, OURS, "two")
        await it.keep(first)
        await it.keep(second, first)
        assert len(await told(it, REPLIED)) == await it.hand.value("select count(*) from reply") == 2


async def test_several_replies_in_one_callback_have_their_own_words(database: str) -> None:
    async with bench(database) as it:
        await it.keep(Inbound("1", PHONE, OURS, "one"), Inbound("2", OTHER, OURS, "half \ud83d"))
        rows = await it.hand.connection.fetch("select id, sealed from reply order by id")
        texts = [json.loads(it.sealer.open(row["sealed"], row["id"], REPLY_FIELD))["text"] for row in rows]
        assert texts == ["one", "half ?"]


async def test_a_burst_of_replies_is_told_when_it_has_ebbed(database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it)
        replies = [Inbound(str(n), PHONE, OURS, "ok") for n in range(BURST)]
        assert await asyncio.gather(*[it.keep(each) for each in replies]) == [True] * BURST
        await it.swept()
        events = await told(it, REPLIED)
        assert len(events) == len({each["reply"] for each in events}) == BURST
        assert {each["attempt"] for each in events} == {to_reference(mine.attempt)}


# --- key presses ----------------------------------------------------------------------------------------------------


async def test_who_asks_to_be_called_back_is_told(database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it, ladder="v")
        assert await it.keep(key(mine, "2"), replay="x")
        assert not await it.keep(key(mine, "2"), replay="x")
        [event] = await told(it, CALLBACK_REQUESTED)
        assert event == {
            "key": to_reference(mine.request.id), "lender": "acme", "source": "core",
            "request_id": mine.request.request_id, "reminder": to_reference(mine.request.id),
            "attempt": to_reference(mine.attempt), "channel": "voice", "provider": "p",
            "at": it.hand.now.isoformat().replace("+00:00", "Z"),
        }  # fmt: skip
        assert await dispositions(it) == [("key", "call_back", "applied")]
        assert await engaged(it) == [(mine.attempt, "key_pressed")]


async def test_who_is_somebody_else_is_told(database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it, ladder="v")
        await it.keep(key(mine, "2", "identity"))
        [event] = await told(it, WRONG_PARTY)
        assert (event["reminder"], event["attempt"]) == (to_reference(mine.request.id), to_reference(mine.attempt))
        assert await it.hand.value("select count(*) from tombstone") == 0, "the borrower has said nothing"


@pytest.mark.parametrize(("digits", "step", "code"), [("1", "identity", "confirmed"), ("1", "menu", "ways_to_pay")])
async def test_other_keys_are_kept_and_ask_for_nothing(digits: str, step: str, code: str, database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it, ladder="v")
        await it.keep(key(mine, digits, step))
        assert await dispositions(it) == [("key", code, "applied")]
        assert await engaged(it) == [(mine.attempt, "key_pressed")]
        assert await it.hand.value("select count(*) from outbox where type is not null") == 0


async def test_silence_is_no_engagement(database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it, ladder="v")
        await it.keep(key(mine, ""))
        assert await dispositions(it) == [("key", "silent", "applied")]
        assert await engaged(it) == []


async def test_who_wants_no_more_reminders_gets_none(database: str) -> None:
    async with bench(database) as it:
        hand = it.hand
        mine = await sent_to(it, ladder="vs", borrower="b")
        waiting = await hand.born(borrower="b", debt="other", send_at=hand.now + HOUR)
        await hand.freeze("template", "repayment")
        frozen = await hand.born(borrower="b", debt="third")
        assert await hand.state(frozen) == ("held", "frozen")
        await hand.unfreeze("template", "repayment")
        neighbour = await hand.born(send_at=hand.now + HOUR)
        worker = await hand.worker()
        await it.keep(receipt(mine, A.ANSWERED), key(mine, "9"))
        # What had left ends by its attempt; what had not is the borrower's own stop.
        assert await hand.state(mine.request) == ("delivered", None)
        for request in (waiting, frozen):
            assert await hand.state(request) == ("suppressed", "opted_out")
        assert await hand.state(neighbour) == ("scheduled", None)
        [event] = await told(it, OPTED_OUT)
        assert event["reminder"] == to_reference(mine.request.id)
        # Whatever comes later, and however new its facts are.
        hand.later(3600)
        later = await hand.born(borrower="b", debt="fourth", state_as_of=hand.now + HOUR)
        assert await hand.state(later) == ("suppressed", "opted_out")
        assert {each.id for each in await hand.claim(worker)} == {neighbour.id}
        # The business key of what nobody was told is free.
        assert await hand.value("select count(*) from stage_key where reminder = any($1::bigint[])", [waiting.id]) == 0


async def test_a_stop_beats_the_next_contact_of_the_call_itself(database: str) -> None:
    """The line broke after the key: the ladder is closed all the same."""
    async with bench(database) as it:
        mine = await sent_to(it, ladder="vs")
        await it.keep(key(mine, "9"))
        assert await it.hand.state(mine.request) == ("awaiting", None)
        await it.hand.receipt(mine, A.UNDELIVERED, Failure.UNREACHABLE)
        assert await it.hand.state(mine.request) == ("undelivered", "ladder_closed")


async def test_a_stop_is_heard_while_the_call_is_being_recorded(database: str) -> None:
    """The key comes before our own record of the call, which then says that no call was made: it ends by the stop."""
    async with bench(database) as it:
        mine = await it.hand.sending(ladder="vs")
        await it.keep(key(mine, "9"))
        await it.hand.record(mine, A.NOT_SENT, Failure.TRANSIENT)
        assert await it.hand.state(mine.request) == ("suppressed", "opted_out")


async def test_a_stop_waits_for_a_locked_borrower_and_is_not_lost(database: str) -> None:
    """And it is effective from the moment at which it is stored, for every intend after it."""
    async with bench(database) as it:
        mine = await sent_to(it, ladder="v", borrower="b")
        ready = await it.hand.born(borrower="b", debt="third")
        worker, claimed = await it.hand.claimed(ready)
        waiting = await it.hand.born(borrower="b", debt="other", send_at=it.hand.now + HOUR)
        async with locked(database, mine):
            assert await it.keep(key(mine, "9"))
            assert await it.hand.state(waiting) == ("scheduled", None)
            assert await it.counts() == (1, 1)
            assert await it.hand.value("select count(*) from tombstone where kind = 'opted_out'") == 1
        intent = it.hand.intent(claimed)
        done = await it.hand.intend(worker, intent)
        assert (done.sendable, done.opted_out) == (frozenset(), {intent.attempt})
        await it.swept()
        assert await it.hand.state(waiting) == ("suppressed", "opted_out")
        assert len(await told(it, OPTED_OUT)) == 1


async def test_a_key_after_the_end_of_its_reminder_counts(database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it, ladder="v", borrower="b")
        await it.keep(receipt(mine, A.ANSWERED_HUMAN))
        waiting = await it.hand.born(borrower="b", debt="other", send_at=it.hand.now + HOUR)
        await it.keep(key(mine, "9"))
        assert await it.hand.state(waiting) == ("suppressed", "opted_out")
        assert await it.hand.state(mine.request) == ("delivered", None)


async def test_a_key_for_another_providers_attempt_does_nothing(database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it, ladder="v")
        await it.inbox.keep("q", b"raw", "x", [key(mine, "9")])
        assert await dispositions(it) == [("key", "stop", "unmatched")]
        assert await it.hand.value("select count(*) from tombstone") == 0


# --- receipts that name their address -------------------------------------------------------------------------------


async def test_a_receipt_for_somebody_else_moves_nothing(database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it)
        assert await it.keep(receipt(mine, address=OTHER))
        assert await it.keep(receipt(mine, attempt=None, ref=f"ref-{mine.attempt}", address=OTHER))
        assert await it.hand.state(mine.request) == ("awaiting", None)
        assert [each[2] for each in await dispositions(it)] == ["conflict", "conflict"]
        assert it.dispositions == [("p", Disposition.CONFLICT)] * 2
        assert await it.counts() == (2, 0), "it will not become right by waiting"
        assert await it.keep(receipt(mine, address=PHONE))
        assert await it.hand.state(mine.request) == ("delivered", None)


async def test_a_parked_receipt_remembers_whom_it_spoke_of(database: str) -> None:
    async with bench(database) as it:
        mine = await sent_to(it)
        async with locked(database, mine):
            await it.keep(receipt(mine, address=OTHER))
        await it.swept()
        assert await it.hand.state(mine.request) == ("awaiting", None)
        assert [each[2] for each in await dispositions(it)] == ["conflict"]


async def test_an_attempt_from_before_there_were_addresses_takes_any(database: str) -> None:
    async with bench(database) as it:
        mine = await it.hand.sending()
        await it.hand.record(mine, A.ACCEPTED)
        await it.keep(receipt(mine, address=OTHER))
        assert await it.hand.state(mine.request) == ("delivered", None)
