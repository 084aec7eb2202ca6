"""The inbox where it cannot apply at once: it keeps, answers and applies later, and nothing spoils its neighbours."""

from __future__ import annotations

import asyncio

import pytest

from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Disposition, Failure
from tests.integration.by_hand import Hand
from tests.integration.inbox_by_hand import Bench, bench, locked, receipt

LOCK_ANSWERED_SECONDS = 0.7  # its patience is 0.25 s
BURST = 200


async def delivered(hand: Hand) -> int:
    return await hand.value("select count(*) from ending where state = 'delivered'")


async def test_a_locked_borrower_keeps_no_provider_waiting(database: str) -> None:
    async with bench(database) as it:
        mine, neighbour = await it.accepted(2)
        async with locked(database, mine):
            async with asyncio.timeout(LOCK_ANSWERED_SECONDS):
                answers = await asyncio.gather(it.keep(receipt(mine)), it.keep(receipt(neighbour)))
            assert answers == [True, True]
            assert await it.stored(mine) == [None]
            assert await it.hand.state(mine.request) == ("awaiting", None)
            assert mine.attempt in await parked(it)
        await it.swept()
        assert await it.stored(mine) == await it.stored(neighbour) == ["applied"]
        assert await delivered(it.hand) == 2
        assert [each.state for each in it.moves] == ["delivered"] * 2
        assert it.dispositions == [("p", Disposition.APPLIED)] * 2
        assert await it.counts() == (2, 0)


async def parked(it: Bench) -> list[int]:
    """The attempts that parked receipts speak of."""
    rows = await it.hand.connection.fetch("select attempt from receipt r join parked p on p.receipt = r.id")
    return [row[0] for row in rows]


async def test_a_copy_of_what_waits_for_a_locked_borrower_is_known(database: str) -> None:
    async with bench(database) as it:
        [mine] = await it.accepted(1)
        async with locked(database, mine):
            assert await it.keep(receipt(mine), replay="x")
            assert not await it.keep(receipt(mine), replay="x")
            assert await it.counts() == (1, 1)
        await it.swept()
        assert not await it.keep(receipt(mine), replay="x")
        assert await it.counts() == (1, 0)
        assert len(it.moves) == 1
        assert await it.hand.state(mine.request) == ("delivered", None)


@pytest.mark.parametrize("beyond", [0, 50])
async def test_a_burst_is_stored_and_answered_and_each_receipt_applied_once(beyond: int, database: str) -> None:
    """Those beyond the largest group are a small one of their own, and no less part of the burst."""
    async with bench(database, sweeps=False) as it:
        sendings = await it.accepted(BURST + beyond)
        answers = await asyncio.gather(*[it.keep(receipt(each), replay=str(each.attempt)) for each in sendings])
        assert answers == [True] * (BURST + beyond)
        assert await it.counts() == (BURST + beyond, BURST + beyond)
        assert await delivered(it.hand) == 0
        again = await asyncio.gather(*[it.keep(receipt(each), replay=str(each.attempt)) for each in sendings])
        assert again == [False] * (BURST + beyond)
        assert await it.counts() == (BURST + beyond, BURST + beyond)

        await it.inbox.start()
        await it.swept()
        assert await it.counts() == (BURST + beyond, 0)
        assert await it.hand.value("select count(*) from receipt where disposition = 'applied'") == BURST + beyond
        assert await delivered(it.hand) == BURST + beyond
        assert sorted(each.was.id for each in it.moves) == sorted(each.request.id for each in sendings)
        told = "select count(*) from (select from outbox group by reminder, seq having count(*) > 1) twice"
        assert await it.hand.value(told) == 0
        assert it.dispositions == [("p", Disposition.APPLIED)] * (BURST + beyond)


async def test_many_that_have_waited_for_long_are_no_burst_and_applied_at_once(database: str) -> None:
    """As many wait for a busy process: to keep them for later would only be more work."""
    async with bench(database, sweeps=False, burst_seconds=0.0) as it:
        sendings = await it.accepted(BURST + 50)
        answers = await asyncio.gather(*[it.keep(receipt(each), replay=str(each.attempt)) for each in sendings])
        assert answers == [True] * (BURST + 50)
        assert await it.counts() == (BURST + 50, 0)
        assert await delivered(it.hand) == BURST + 50


async def test_a_word_that_overtook_our_record_is_applied_after_it(database: str) -> None:
    """Parked by the provider's own id; its copy comes when we know that id, and changes nothing."""
    async with bench(database) as it:
        sending = await it.hand.sending()
        word = receipt(sending, attempt=None, ref=f"ref-{sending.attempt}")
        assert await it.keep(word, replay="x")
        await it.hand.record(sending, A.ACCEPTED)
        assert not await it.keep(word, replay="x")
        assert await it.stored(sending) == ["unmatched"]
        assert await it.hand.state(sending.request) == ("awaiting", None)
        it.clock.advance(it.hand.rules.backoff_base)
        await it.swept()
        assert await it.stored(sending) == ["applied"]
        assert await it.hand.state(sending.request) == ("delivered", None)
        assert it.dispositions == [("p", Disposition.UNMATCHED), ("p", Disposition.APPLIED)]


BAD = {"a code": {"code": "c\0"}, "an id": {"attempt": None, "ref": "r\0"}, "no text": {"code": "\ud800"}}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_what_cannot_be_written_takes_no_neighbour_with_it(bad: dict[str, str], database: str) -> None:
    async with bench(database) as it:
        first, spoiled, last = await it.accepted(3)
        answers = await asyncio.gather(
            it.keep(receipt(first)),
            it.keep(receipt(spoiled, **bad)),
            it.keep(receipt(last, A.UNDELIVERED, failure=Failure.UNREACHABLE)),
            return_exceptions=True,
        )
        assert [answers[0], answers[2]] == [True, True]
        assert isinstance(answers[1], Exception)
        assert await it.counts() == (2, 0)
        assert await it.stored(first) == await it.stored(last) == ["applied"]
        assert await it.stored(spoiled) == []
        assert await it.hand.state(first.request) == ("delivered", None)
        assert await it.hand.state(spoiled.request) == ("awaiting", None)
        assert (await it.hand.state(last.request))[0] == "undelivered"


async def test_a_provider_that_hangs_up_does_not_undo_what_it_has_told(database: str) -> None:
    async with bench(database) as it:
        [mine] = await it.accepted(1)
        async with locked(database, mine):
            call = asyncio.create_task(it.keep(receipt(mine), replay="x"))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
        assert not await it.keep(receipt(mine), replay="x")
        await it.swept()
        assert await it.hand.state(mine.request) == ("delivered", None)
