"""The fences of a send, one by one, against real Postgres: what each refuses, alone and where others are out."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Awaitable, Callable
from itertools import chain, combinations
from typing import Any, Final, NamedTuple, TypeAlias

import pytest

from gateway.ledger import intend
from gateway.ledger.claims import Claimed
from gateway.ledger.commands import Request
from gateway.ledger.standing import Move
from gateway.ledger.workers import Worker
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Disposition, Failure, Reason
from schemas.vocabulary import ReminderState as R
from tests.faults.unfenced import FENCES, without_fences
from tests.integration.by_hand import HOUR, RESENDS, RULES, START, Hand, Sending, hand

TOKEN, LEASE, STATE = FENCES


class Stale(NamedTuple):
    """What a worker has in its hands, while something happens behind its back."""

    request: Request
    worker: Worker
    claimed: Claimed


async def in_hand(hand: Hand, request: Request | None = None) -> Stale:
    request = request or await hand.born()
    return Stale(request, *await hand.claimed(request))


async def to_be_resent(hand: Hand, ladder: str = "s") -> Sending:
    sending = await hand.sending(ladder, RESENDS)
    await hand.record(sending, A.UNKNOWN, Failure.AMBIGUOUS)
    hand.later(60)
    return sending


async def taken_back(hand: Hand) -> Stale:
    """By a stop that could not be read and was then lifted: the one way to lose a claim under a lease that stands."""
    stale = await in_hand(hand)
    await hand.read(hand.unreadable(stale.request))
    assert await hand.released(stale.request)
    await hand.fire(HOUR)
    assert await hand.queue(stale.request) == ("due",)
    return stale


# --- which fence refuses what -----------------------------------------------------------------------------------------

Story: TypeAlias = Callable[[Hand], Awaitable[Stale]]
STORIES: Final[dict[str, tuple[Story, frozenset[str]]]] = {}


def refused_by(*fences: str) -> Callable[[Story], Story]:
    """The fences each of which is enough in this story."""

    def note(story: Story) -> Story:
        STORIES[story.__name__] = story, frozenset(fences)
        return story

    return note


@refused_by()
async def nothing_has_happened(hand: Hand) -> Stale:
    return await in_hand(hand)


@refused_by(TOKEN, LEASE, STATE)
async def rescued_and_sent_by_another(hand: Hand) -> Stale:
    stale = await in_hand(hand)
    await hand.rescue(stale.worker)
    await hand.sent(stale.request)
    return stale


@refused_by(TOKEN, LEASE)
async def rescued_and_due_again(hand: Hand) -> Stale:
    stale = await in_hand(hand)
    await hand.rescue(stale.worker)
    return stale


@refused_by(TOKEN, LEASE)
async def rescued_and_claimed_by_another(hand: Hand) -> Stale:
    stale = await in_hand(hand)
    await hand.rescue(stale.worker)
    await hand.claimed(stale.request)
    return stale


@refused_by(LEASE)
async def its_lease_is_over_and_nobody_has_come_yet(hand: Hand) -> Stale:
    stale = await in_hand(hand)
    await hand.lease_ends(stale.worker)
    return stale


@refused_by(TOKEN)
async def taken_back_and_due_again(hand: Hand) -> Stale:
    return await taken_back(hand)


@refused_by(TOKEN)
async def taken_back_and_claimed_again_by_the_same_worker(hand: Hand) -> Stale:
    stale = await taken_back(hand)
    assert [each.id for each in await hand.claim(stale.worker)] == [stale.request.id]
    return stale


@refused_by(TOKEN)
async def taken_back_and_refused_to_another_for_now(hand: Hand) -> Stale:
    """The story that tests/faults/test_checker.py tells with whole processes."""
    stale = await taken_back(hand)
    sending = await hand.sent(stale.request)
    await hand.record(sending, A.REJECTED, Failure.THROTTLED)
    assert await hand.state(stale.request) == ("scheduled", Reason.RETRY)
    return stale


@refused_by(TOKEN, STATE)
async def held_behind_its_back(hand: Hand) -> Stale:
    stale = await in_hand(hand)
    await hand.read(hand.unreadable(stale.request))
    assert await hand.released(stale.request)
    return stale


@refused_by(TOKEN, STATE)
async def on_to_the_next_contact(hand: Hand) -> Stale:
    """Its unknown first attempt failed for certain, while its repeat was about to leave."""
    sending = await to_be_resent(hand, "sp")
    stale = await in_hand(hand, sending.request)
    await hand.receipt(sending, A.UNDELIVERED, Failure.UNREACHABLE)
    assert await hand.state(stale.request) == ("scheduled", Reason.NEXT_CONTACT)
    return stale


@refused_by(TOKEN, STATE)
async def its_repeat_forbidden_by_a_stop(hand: Hand) -> Stale:
    sending = await to_be_resent(hand)
    stale = await in_hand(hand, sending.request)
    await hand.read(hand.stop(sending.request))
    return stale


@refused_by(STATE)
async def intended_already_under_the_same_token(hand: Hand) -> Stale:
    stale = await in_hand(hand)
    await hand.intend(stale.worker, hand.intent(stale.claimed))
    return stale


def subsets() -> list[frozenset[str]]:
    return [frozenset(each) for each in chain.from_iterable(combinations(FENCES, n) for n in range(len(FENCES) + 1))]


@pytest.mark.parametrize("name", STORIES)
async def test_which_fence_refuses_what(name: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each story against every choice of fences that are out: it leaves only when all that would refuse it are.

    The token check by itself is enough wherever the claim is gone.  Beside it the lease check matters only while nobody
    has rescued yet, and the state check only for a job done twice, which the dispatcher never does.  The one story in
    which another has sent it meanwhile, so that a second message would leave, is refused by each of the three.
    """
    story, fences = STORIES[name]
    sound = intend._INTEND
    async with hand(database) as mine:
        stale = await story(mine)
        for out in subsets():
            monkeypatch.setattr(intend, "_INTEND", without_fences(sound, out))
            intent = mine.intent(stale.claimed)
            transaction = mine.connection.transaction()
            await transaction.start()
            done = await intend.intend(mine.connection, stale.worker.id, [intent], mine.now)
            await transaction.rollback()
            assert done == intend.Intended(
                frozenset({intent.attempt} if fences <= out else ()), frozenset(), frozenset()
            ), f"without {sorted(out)}"


async def test_what_was_cancelled_leaves_through_no_fence(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no row any more that could be sent."""
    monkeypatch.setattr(intend, "_INTEND", without_fences(intend._INTEND, FENCES))
    async with hand(database) as mine:
        stale = await in_hand(mine)
        await mine.read(mine.stop(stale.request))
        assert not (await mine.intend(stale.worker, mine.intent(stale.claimed))).sendable


async def test_a_freeze_and_an_unreadable_stop_are_named(database: str) -> None:
    async with hand(database) as mine:
        frozen, stopped, free = [await mine.born(source=name) for name in ("a", "b", "c")]
        worker = await mine.worker()
        intents = {each.id: mine.intent(each) for each in await mine.claim(worker)}
        await mine.freeze("source", "a")
        await mine.connection.execute("update subject set unreadable_stop_at = now() where key = $1", stopped.subject)
        done = await mine.intend(worker, *intents.values())
        expected = [frozenset({intents[each.id].attempt}) for each in (free, frozen, stopped)]
        assert done == intend.Intended(*expected)


async def test_an_intent_starts_the_rescues_anew_and_is_evidence(database: str) -> None:
    async with hand(database) as mine:
        stale = await in_hand(mine)
        await mine.rescue(stale.worker)
        assert await mine.value("select rescues from live") == 1
        sending = await mine.sent(stale.request)
        assert await mine.value("select rescues from live") == 0
        [row] = await mine.connection.fetch("select attempt, at, verdict, rule, inputs, sealed from decision")
        assert tuple(row) == (sending.attempt, mine.now, "send", "none", "{}", b"words")


async def test_a_repeat_by_another_provider_is_refused_while_the_first_may_be_under_way(database: str) -> None:
    """Neither of the two would know of the other's: it would not be a repeat in the first one's place."""
    async with hand(database) as mine:
        sending = await to_be_resent(mine)
        worker, claimed = await mine.claimed(sending.request)
        other = mine.intent(claimed, "q")
        refused = intend.Intended(frozenset(), frozenset(), frozenset(), frozenset({other.attempt}))
        assert await mine.intend(worker, other) == refused
        assert await mine.attempts(sending.request) == ["unknown"]
        same = mine.intent(claimed)
        assert (await mine.intend(worker, same)).sendable == {same.attempt}


async def test_nor_while_an_earlier_one_may_be_though_its_repeat_never_left(database: str) -> None:
    async with hand(database) as mine:
        first = await to_be_resent(mine)
        repeat = await mine.sent(first.request)
        await mine.record(repeat, A.NOT_SENT, Failure.TRANSIENT)
        mine.later(120)
        worker, claimed = await mine.claimed(first.request)
        assert await mine.attempts(first.request) == ["unknown", "not_sent"]
        other = mine.intent(claimed, "q")
        assert (await mine.intend(worker, other)).elsewhere == {other.attempt}


async def test_what_one_provider_certainly_did_not_deliver_another_may(database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending()
        await mine.record(sending, A.REJECTED, Failure.THROTTLED)
        mine.later(60)
        worker, claimed = await mine.claimed(sending.request)
        other = mine.intent(claimed, "q")
        assert (await mine.intend(worker, other)).sendable == {other.attempt}


# --- again: the same fences before another first byte -----------------------------------------------------------------


async def again(hand: Hand, sending: Sending, **changes: Any) -> intend.Intended:
    intent = intend.Intent(sending.claimed, changes.get("attempt", sending.attempt), "p", b"", "{}")
    worker = changes.get("worker", sending.worker.id)
    return await hand.tx(lambda c: intend.again(c, worker, [intent], hand.now))


async def test_again_lets_what_is_intended_leave(database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending()
        for _ in range(2):
            assert await again(mine, sending) == intend.Intended(frozenset({sending.attempt}), frozenset(), frozenset())
        assert await mine.attempts(sending.request) == ["intended"]


async def stopped_meanwhile(hand: Hand, sending: Sending) -> None:
    await hand.read(hand.stop(sending.request))


async def rescued_meanwhile(hand: Hand, sending: Sending) -> None:
    await hand.rescue(sending.worker)


async def lease_over_meanwhile(hand: Hand, sending: Sending) -> None:
    await hand.lease_ends(sending.worker)


async def recorded_meanwhile(hand: Hand, sending: Sending) -> None:
    await hand.record(sending, A.ACCEPTED)


async def told_meanwhile(hand: Hand, sending: Sending) -> None:
    await hand.receipt(sending, A.SENT)


@pytest.mark.parametrize(
    "meanwhile", [stopped_meanwhile, rescued_meanwhile, lease_over_meanwhile, recorded_meanwhile, told_meanwhile]
)
async def test_again_refuses_what_was(meanwhile: Callable[[Hand, Sending], Awaitable[None]], database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending()
        await meanwhile(mine, sending)
        assert await again(mine, sending) == intend.Intended(frozenset(), frozenset(), frozenset())


async def test_again_refuses_another_worker_and_what_was_never_intended(database: str) -> None:
    async with hand(database) as mine:
        sending, other = await mine.sending(), await mine.worker()
        assert not (await again(mine, sending, worker=other.id)).sendable
        assert not (await again(mine, sending, attempt=mine.id())).sendable


async def test_again_asks_for_freezes_and_unreadable_stops_too(database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending()
        only = frozenset({sending.attempt})
        await mine.freeze("provider", "p")
        assert await again(mine, sending) == intend.Intended(frozenset(), only, frozenset())
        await mine.unfreeze("provider", "p")
        await mine.read(mine.unreadable(sending.request))
        assert await again(mine, sending) == intend.Intended(frozenset(), frozenset(), only)


# --- read back: after a COMMIT whose answer was lost ------------------------------------------------------------------


async def read_back(hand: Hand, worker: Worker, *intents: intend.Intent) -> frozenset[int]:
    return await hand.tx(lambda c: intend.read_back(c, worker.id, intents))


async def test_read_back_finds_what_was_committed_and_nothing_else(database: str) -> None:
    """Present may be sent, absent is dropped."""
    async with hand(database) as mine:
        there, not_there = await mine.born(), await mine.born()
        worker = await mine.worker()
        kept, lost = [
            mine.intent(each) for each in sorted(await mine.claim(worker), key=lambda each: each.id != there.id)
        ]
        assert (kept.claimed.id, lost.claimed.id) == (there.id, not_there.id)
        await mine.intend(worker, kept)
        transaction = mine.connection.transaction()
        await transaction.start()
        await intend.intend(mine.connection, worker.id, [lost], mine.now)
        await transaction.rollback()
        assert await read_back(mine, worker, kept, lost) == {kept.attempt}
        assert await read_back(mine, await mine.worker(), kept, lost) == frozenset()


async def test_read_back_finds_nothing_under_a_lost_claim(database: str) -> None:
    async with hand(database) as mine:
        stale = await in_hand(mine)
        intent = mine.intent(stale.claimed)
        await mine.intend(stale.worker, intent)
        await mine.rescue(stale.worker)
        assert await mine.attempts(stale.request) == ["unknown"]
        assert await read_back(mine, stale.worker, intent) == frozenset()


async def test_read_back_finds_nothing_that_is_no_longer_intended(database: str) -> None:
    """A receipt has overtaken us: it left once, and must not leave again."""
    async with hand(database) as mine:
        sending = await mine.sending()
        intent = intend.Intent(sending.claimed, sending.attempt, "p", b"", "{}")
        assert await read_back(mine, sending.worker, intent) == {sending.attempt}
        assert await mine.receipt(sending, A.DELIVERED) is Disposition.APPLIED
        assert await read_back(mine, sending.worker, intent) == frozenset()


# --- claims that come back --------------------------------------------------------------------------------------------


async def test_a_forgotten_claim_is_due_again(database: str) -> None:
    async with hand(database) as mine:
        stale = await in_hand(mine)
        [move] = await mine.give_back(stale.worker, stale.claimed)
        assert (move.state, move.reason, move.rescues) == (R.SCHEDULED, Reason.RESCUED, 1)
        assert await mine.queue(stale.request) == ("due",)
        assert not (await mine.intend(stale.worker, mine.intent(stale.claimed))).sendable
        # Given back a second time it is nobody's.
        assert await mine.give_back(stale.worker, stale.claimed) == []


async def test_a_forgotten_intent_is_unknown_and_waits(database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending()
        [move] = await mine.give_back(sending.worker, sending.claimed)
        assert (move.state, move.reason) == (R.AWAITING, Reason.OUTCOME_UNKNOWN)
        assert await mine.attempts(sending.request) == ["unknown"]
        assert await mine.queue(sending.request) == ("timer",)
        assert await mine.value("select id from unsettled") == sending.request.id


async def test_a_forgotten_intent_is_sent_again_where_that_is_configured(database: str) -> None:
    async with hand(database) as mine:
        sending = await mine.sending(stage=RESENDS)
        [move] = await mine.give_back(sending.worker, sending.claimed)
        assert (move.state, move.reason) == (R.SCHEDULED, Reason.RETRY)
        mine.later(60)
        await mine.sent(sending.request)
        assert await mine.attempts(sending.request) == ["unknown", "intended"]


@pytest.mark.parametrize(
    ("second", "failure"),
    [(A.NOT_SENT, Failure.TRANSIENT), (A.UNKNOWN, Failure.AMBIGUOUS)],
    ids=["not-sent", "unknown"],
)
async def test_what_is_known_to_be_taken_is_not_sent_again_though_its_repeat_was(
    second: A, failure: Failure, database: str
) -> None:
    """The first one's worker was given up and comes back while the repeat is on its way."""
    async with hand(database) as mine:
        first = await mine.sending(stage=RESENDS)
        await mine.rescue(first.worker)
        mine.later(60)
        repeat = await mine.sent(first.request)
        await mine.record(first, A.ACCEPTED)
        await mine.record(repeat, second, failure)
        assert (await mine.state(first.request))[0] == "awaiting"
        mine.later(120)
        assert await mine.claim(await mine.worker()) == []


async def test_only_its_own_claim_under_its_own_token_is_given_back(database: str) -> None:
    async with hand(database) as mine:
        stale = await taken_back(mine)
        [again] = await mine.claim(stale.worker)
        assert await mine.give_back(stale.worker, stale.claimed) == []
        assert await mine.give_back(await mine.worker(), again) == []
        assert await mine.queue(stale.request) == ("claim",)
        assert (await mine.intend(stale.worker, mine.intent(again))).sendable


async def test_a_reminder_rescued_too_often_is_held_as_poison(database: str) -> None:
    """Somebody dies of it each time: it is looked at by people, and ends at its time."""
    async with hand(database) as mine:
        request = await mine.born()
        moves: list[Move] = []
        for _ in range(RULES.max_rescues + 1):
            stale = await in_hand(mine, request)
            moves += await mine.rescue(stale.worker)
        assert [(each.state, each.reason, each.rescues) for each in moves] == [
            *((R.SCHEDULED, Reason.RESCUED, n + 1) for n in range(RULES.max_rescues)),
            (R.HELD, Reason.POISON, RULES.max_rescues + 1),
        ]
        assert await mine.state(request) == ("held", Reason.POISON)
        assert await mine.queue(request) == ("timer",)
        assert await mine.value("select at from timer") == request.not_after
        told = [json.loads(row[0]) for row in await mine.connection.fetch("select payload from outbox order by seq")]
        assert [(each["state"], each.get("reason")) for each in told] == [("scheduled", None), ("held", "poison")]
        assert await mine.fire(HOUR) == []
        await mine.fire(HOUR)
        assert await mine.state(request) == ("expired", Reason.NOT_AFTER)


# --- settle: every verdict but send -----------------------------------------------------------------------------------

LATER: Final = START + HOUR


class Settled(NamedTuple):
    """What a verdict comes to."""

    verdict: dict[str, Any]
    name: str
    state: tuple[str, Reason | None]
    queue: tuple[str, ...]
    at: dt.datetime | None = None
    ladder: str = "s"


VERDICTS: Final = {
    "defer": Settled({"defer_until": LATER}, "defer", ("scheduled", Reason.DEFERRED), ("due",), LATER),
    "defer-past-its-time": Settled(
        {"defer_until": START + 9 * HOUR}, "defer", ("scheduled", Reason.DEFERRED), ("due",), START + 2 * HOUR
    ),
    "hold-frozen": Settled(
        {"hold": Reason.FROZEN}, "hold", ("held", Reason.FROZEN), ("timer",), START + 2 * HOUR
    ),
    "hold-stop-unreadable": Settled(
        {"hold": Reason.STOP_UNREADABLE}, "hold", ("held", Reason.STOP_UNREADABLE), ("timer",),
        START + RULES.freeze_recheck,
    ),
    "hold-bug": Settled({"hold": Reason.BUG}, "hold", ("held", Reason.BUG), ("timer",), START + 2 * HOUR),
    "suppress": Settled({"suppress": Reason.OPTED_OUT}, "suppress", ("suppressed", Reason.OPTED_OUT), ()),
    "cancel": Settled({"cancel": Reason.CANCELLED_DEBT}, "cancel", ("cancelled", Reason.CANCELLED_DEBT), ()),
    "expire": Settled({"expire": True}, "expire", ("expired", Reason.NOT_AFTER), ()),
    "skip": Settled({"skip": Reason.OUT_OF_DATE}, "skip", ("scheduled", Reason.NEXT_CONTACT), ("due",), START, "sp"),
    "skip-the-only-one": Settled({"skip": Reason.OUT_OF_DATE}, "skip", ("expired", Reason.OUT_OF_DATE), ()),
}  # fmt: skip


@pytest.mark.parametrize("case", VERDICTS)
async def test_a_verdict_moves_its_reminder_and_is_kept_as_evidence(case: str, database: str) -> None:
    expected = VERDICTS[case]
    async with hand(database) as mine:
        stale = await in_hand(mine, await mine.born(expected.ladder))
        [move] = await mine.settle(stale.worker, stale.claimed, **expected.verdict)
        assert (move.state, move.reason) == expected.state
        assert await mine.state(stale.request) == expected.state
        assert await mine.queue(stale.request) == expected.queue
        if expected.at is not None:
            assert await mine.value("select at from live") == expected.at
        [row] = await mine.connection.fetch("select reminder, attempt, at, verdict, rule, inputs, sealed from decision")
        assert tuple(row) == (stale.request.id, None, START, expected.name, "rule", '{"a": 1}', None)


@pytest.mark.parametrize("case", VERDICTS)
async def test_a_verdict_under_a_lost_claim_is_neither_obeyed_nor_kept(case: str, database: str) -> None:
    verdict = VERDICTS[case].verdict
    async with hand(database) as mine:
        stale = await taken_back(mine)
        assert await mine.settle(stale.worker, stale.claimed, **verdict) == []
        [again] = await mine.claim(stale.worker)
        assert await mine.settle(stale.worker, stale.claimed, **verdict) == []
        assert await mine.settle(await mine.worker(), again, **verdict) == []
        assert await mine.queue(stale.request) == ("claim",)
        await mine.intend(stale.worker, mine.intent(again))
        assert await mine.settle(stale.worker, again, **verdict) == []
        assert await mine.state(stale.request) == ("sending", None)
        assert await mine.value("select count(*) from decision where verdict <> 'send'") == 0


UNKNOWN_VERDICTS: Final = {
    "expire": (("unconfirmed", Reason.OUTCOME_UNKNOWN), ["unconfirmed"]),
    "cancel": (("awaiting", Reason.OUTCOME_UNKNOWN), ["unknown"]),
    "skip": (("awaiting", Reason.OUTCOME_UNKNOWN), ["unknown"]),
    "suppress": (("awaiting", Reason.OUTCOME_UNKNOWN), ["unknown"]),
    "hold-frozen": (("held", Reason.FROZEN), ["unknown"]),
}


@pytest.mark.parametrize("case", UNKNOWN_VERDICTS)
async def test_a_verdict_does_not_forget_what_may_have_arrived(case: str, database: str) -> None:
    """The repeat of an unknown message is not to be made: then the first one is waited for."""
    state, attempts = UNKNOWN_VERDICTS[case]
    async with hand(database) as mine:
        sending = await to_be_resent(mine, "sp")
        stale = await in_hand(mine, sending.request)
        await mine.settle(stale.worker, stale.claimed, **VERDICTS[case].verdict)
        assert await mine.state(stale.request) == state
        assert await mine.attempts(stale.request) == attempts
