"""Every move of the two tables is made on purpose, against real Postgres, and counted by a witness in the database.

Chance does the same elsewhere: under ten random kills (tests/faults/test_random_kills.py) and in any interleaving
(test_ledger_machine.py).  Here nothing is left to it: a move that nothing can make has no place in the tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from gateway.ledger.commands import Request
from gateway.ledger.states import FAILED, NO_CONTACT, REMINDER_MOVES, attempt_moves
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Failure, Reason
from schemas.vocabulary import ReminderState as R
from tests.faults import tables, witness
from tests.integration.by_hand import HOUR, RESENDS, WAITS, Hand, Sending, hand

Story: TypeAlias = Callable[[Hand], Awaitable[Request]]
BORN: Final = ""

# --- how one comes to where a move begins -----------------------------------------------------------------------------


async def awaiting(hand: Hand, ladder: str = "s", stage: str = WAITS) -> Sending:
    sending = await hand.sending(ladder, stage)
    await hand.record(sending, A.ACCEPTED)
    return sending


async def to_be_resent(hand: Hand) -> Sending:
    """Scheduled for a repeat: nobody knows what became of its first attempt."""
    sending = await hand.sending(stage=RESENDS)
    await hand.record(sending, A.UNKNOWN, Failure.AMBIGUOUS)
    return sending


async def held(hand: Hand, stage: str = WAITS) -> Request:
    request = await hand.born(stage=stage)
    worker, claimed = await hand.claimed(request)
    await hand.settle(worker, claimed, hold=Reason.FROZEN)
    return request


async def held_before_its_repeat(hand: Hand) -> Sending:
    sending = await to_be_resent(hand)
    hand.later(60)
    worker, claimed = await hand.claimed(sending.request)
    await hand.settle(worker, claimed, hold=Reason.FROZEN)
    return sending


async def out_and_unknown(hand: Hand) -> Sending:
    """Awaiting, because its worker was found dead; he may still come and say what he did."""
    sending = await hand.sending()
    await hand.rescue(sending.worker)
    return sending


async def expires(hand: Hand, request: Request) -> Request:
    hand.later(3 * HOUR.total_seconds())
    worker, claimed = await hand.claimed(request)
    await hand.settle(worker, claimed, expire=True)
    return request


# --- reminders --------------------------------------------------------------------------------------------------------

REMINDERS: dict[tuple[str, R], Story] = {}


def makes(was: str, becomes: R) -> Callable[[Story], Story]:
    def note(story: Story) -> Story:
        assert (was, becomes) not in REMINDERS
        REMINDERS[was, becomes] = story
        return story

    return note


@makes(BORN, R.SCHEDULED)
async def _(hand: Hand) -> Request:
    return await hand.born()


@makes(BORN, R.HELD)
async def _(hand: Hand) -> Request:
    await hand.freeze()
    return await hand.born()


@makes(BORN, R.SUPPRESSED)
async def _(hand: Hand) -> Request:
    first = await hand.born()
    return await hand.born(borrower=first.borrower)


@makes(BORN, R.CANCELLED)
async def _(hand: Hand) -> Request:
    request = hand.request()
    await hand.read(hand.stop(request))
    late = hand.request(borrower=request.borrower)
    await hand.read(late)
    return late


@makes(R.SCHEDULED, R.SCHEDULED)
async def _(hand: Hand) -> Request:
    request = await hand.born()
    worker, claimed = await hand.claimed(request)
    await hand.settle(worker, claimed, defer_until=hand.now + HOUR)
    return request


@makes(R.SCHEDULED, R.HELD)
async def _(hand: Hand) -> Request:
    return await held(hand)


@makes(R.SCHEDULED, R.SENDING)
async def _(hand: Hand) -> Request:
    return (await hand.sending()).request


@makes(R.SCHEDULED, R.AWAITING)
async def _(hand: Hand) -> Request:
    """A stop forbids the repeat; what is out is out."""
    sending = await to_be_resent(hand)
    await hand.read(hand.stop(sending.request))
    return sending.request


@makes(R.SCHEDULED, R.DELIVERED)
async def _(hand: Hand) -> Request:
    sending = await to_be_resent(hand)
    await hand.receipt(sending, A.DELIVERED)
    return sending.request


@makes(R.SCHEDULED, R.UNDELIVERED)
async def _(hand: Hand) -> Request:
    sending = await to_be_resent(hand)
    await hand.receipt(sending, A.UNDELIVERED, Failure.UNREACHABLE)
    return sending.request


@makes(R.SCHEDULED, R.UNCONFIRMED)
async def _(hand: Hand) -> Request:
    """`not_after` passes before its repeat: what may have left does not expire."""
    return await expires(hand, (await to_be_resent(hand)).request)


@makes(R.SCHEDULED, R.SUPPRESSED)
async def _(hand: Hand) -> Request:
    request = await hand.born()
    worker, claimed = await hand.claimed(request)
    await hand.settle(worker, claimed, suppress=Reason.OPTED_OUT)
    return request


@makes(R.SCHEDULED, R.CANCELLED)
async def _(hand: Hand) -> Request:
    request = await hand.born()
    await hand.read(hand.stop(request, "request"))
    return request


@makes(R.SCHEDULED, R.EXPIRED)
async def _(hand: Hand) -> Request:
    return await expires(hand, await hand.born())


@makes(R.HELD, R.HELD)
async def _(hand: Hand) -> Request:
    """Its turn comes, and another freeze covers it."""
    await hand.freeze()
    await hand.freeze("source", "core")
    request = await hand.born()
    for kind, value in await hand.connection.fetch(
        'select kind, value from "freeze" f join frozen w on w.held_by = f.id'
    ):
        await hand.unfreeze(kind, value)
    await hand.release(HOUR)
    return request


@makes(R.HELD, R.SCHEDULED)
async def _(hand: Hand) -> Request:
    request = await held(hand)
    await hand.release(HOUR)
    return request


@makes(R.HELD, R.AWAITING)
async def _(hand: Hand) -> Request:
    sending = await held_before_its_repeat(hand)
    await hand.read(hand.stop(sending.request))
    return sending.request


@makes(R.HELD, R.DELIVERED)
async def _(hand: Hand) -> Request:
    sending = await held_before_its_repeat(hand)
    await hand.receipt(sending, A.DELIVERED)
    return sending.request


@makes(R.HELD, R.UNDELIVERED)
async def _(hand: Hand) -> Request:
    sending = await held_before_its_repeat(hand)
    await hand.receipt(sending, A.UNDELIVERED, Failure.UNREACHABLE)
    return sending.request


@makes(R.HELD, R.UNCONFIRMED)
async def _(hand: Hand) -> Request:
    sending = await held_before_its_repeat(hand)
    await hand.fire(3 * HOUR)
    return sending.request


@makes(R.HELD, R.SUPPRESSED)
async def _(hand: Hand) -> Request:
    """Its worker comes late: the provider had refused it, because the person refuses."""
    sending = await held_before_its_repeat(hand)
    await hand.record(sending, A.REJECTED, Failure.OPTED_OUT)
    return sending.request


@makes(R.HELD, R.CANCELLED)
async def _(hand: Hand) -> Request:
    request = await held(hand)
    await hand.read(hand.stop(request))
    return request


@makes(R.HELD, R.EXPIRED)
async def _(hand: Hand) -> Request:
    request = await held(hand)
    await hand.fire(3 * HOUR)
    return request


@makes(R.SENDING, R.SENDING)
async def _(hand: Hand) -> Request:
    """A stop that comes too late closes the ladder."""
    sending = await hand.sending()
    await hand.read(hand.stop(sending.request))
    return sending.request


@makes(R.SENDING, R.SCHEDULED)
async def _(hand: Hand) -> Request:
    sending = await hand.sending()
    await hand.record(sending, A.NOT_SENT, Failure.TRANSIENT)
    return sending.request


@makes(R.SENDING, R.HELD)
async def _(hand: Hand) -> Request:
    sending = await hand.sending()
    await hand.record(sending, A.REJECTED, Failure.BUG)
    return sending.request


@makes(R.SENDING, R.AWAITING)
async def _(hand: Hand) -> Request:
    return (await awaiting(hand)).request


@makes(R.SENDING, R.DELIVERED)
async def _(hand: Hand) -> Request:
    """The receipt overtakes the record."""
    sending = await hand.sending()
    await hand.receipt(sending, A.DELIVERED)
    return sending.request


@makes(R.SENDING, R.UNDELIVERED)
async def _(hand: Hand) -> Request:
    sending = await hand.sending()
    await hand.record(sending, A.REJECTED, Failure.BAD_RECIPIENT)
    return sending.request


@makes(R.SENDING, R.SUPPRESSED)
async def _(hand: Hand) -> Request:
    sending = await hand.sending()
    await hand.record(sending, A.REJECTED, Failure.OPTED_OUT)
    return sending.request


@makes(R.SENDING, R.CANCELLED)
async def _(hand: Hand) -> Request:
    """A stop came too late, and then nothing had left."""
    sending = await hand.sending()
    await hand.read(hand.stop(sending.request))
    await hand.record(sending, A.NOT_SENT, Failure.TRANSIENT)
    return sending.request


@makes(R.AWAITING, R.AWAITING)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand)
    await hand.receipt(sending, A.SENT)
    return sending.request


@makes(R.AWAITING, R.SCHEDULED)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand, "sp")
    await hand.receipt(sending, A.UNDELIVERED, Failure.UNREACHABLE)
    return sending.request


@makes(R.AWAITING, R.HELD)
async def _(hand: Hand) -> Request:
    """The worker that was given up comes back: the provider had called its request malformed."""
    sending = await out_and_unknown(hand)
    await hand.record(sending, A.REJECTED, Failure.BUG)
    return sending.request


@makes(R.AWAITING, R.DELIVERED)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand)
    await hand.receipt(sending, A.DELIVERED)
    return sending.request


@makes(R.AWAITING, R.UNDELIVERED)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand)
    await hand.receipt(sending, A.UNDELIVERED, Failure.UNREACHABLE)
    return sending.request


@makes(R.AWAITING, R.UNCONFIRMED)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand)
    await hand.fire(HOUR)
    return sending.request


@makes(R.AWAITING, R.SUPPRESSED)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand)
    await hand.receipt(sending, A.UNDELIVERED, Failure.OPTED_OUT)
    return sending.request


@makes(R.AWAITING, R.CANCELLED)
async def _(hand: Hand) -> Request:
    """A stop came too late for what may have left; its worker proves that nothing had."""
    sending = await out_and_unknown(hand)
    await hand.read(hand.stop(sending.request))
    await hand.record(sending, A.NOT_SENT, Failure.TRANSIENT)
    return sending.request


@makes(R.UNCONFIRMED, R.UNDELIVERED)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand)
    await hand.fire(HOUR)
    await hand.receipt(sending, A.UNDELIVERED, Failure.UNREACHABLE)
    return sending.request


@makes(R.UNCONFIRMED, R.DELIVERED)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand)
    await hand.fire(HOUR)
    await hand.receipt(sending, A.DELIVERED)
    return sending.request


@makes(R.UNDELIVERED, R.DELIVERED)
async def _(hand: Hand) -> Request:
    sending = await awaiting(hand)
    await hand.receipt(sending, A.UNDELIVERED, Failure.UNREACHABLE)
    await hand.receipt(sending, A.DELIVERED)
    return sending.request


@makes(R.EXPIRED, R.DELIVERED)
async def _(hand: Hand) -> Request:
    """It failed, its time passed before another try, and then it had arrived after all."""
    sending = await awaiting(hand)
    await hand.receipt(sending, A.UNDELIVERED, Failure.TRANSIENT)
    await expires(hand, sending.request)
    await hand.receipt(sending, A.DELIVERED)
    return sending.request


# --- attempts ---------------------------------------------------------------------------------------------------------

BY_RECEIPT: Final = frozenset(A) - {A.INTENDED, A.UNKNOWN, A.ACCEPTED, A.UNCONFIRMED} - NO_CONTACT


async def attempt_at(hand: Hand, state: A) -> Sending:
    """An attempt in this state, as it comes there."""
    sending = await hand.sending()
    if state is A.UNKNOWN:
        await hand.record(sending, A.UNKNOWN, Failure.AMBIGUOUS)
    elif state is not A.INTENDED:
        await hand.record(sending, A.ACCEPTED)
        if state is A.UNCONFIRMED:
            await hand.fire(HOUR)
        elif state is not A.ACCEPTED:
            await hand.receipt(sending, state, Failure.UNREACHABLE if state in FAILED else None)
    return sending


async def attempt_becomes(hand: Hand, sending: Sending, state: A) -> None:
    if state is A.UNKNOWN:
        await hand.rescue(sending.worker)
    elif state is A.UNCONFIRMED:
        await hand.fire(HOUR)
    elif state in BY_RECEIPT:
        await hand.receipt(sending, state, Failure.UNREACHABLE if state in FAILED else None)
    else:
        await hand.record(sending, state, None if state is A.ACCEPTED else Failure.TRANSIENT)


# --- every one of them ------------------------------------------------------------------------------------------------


async def seen(hand: Hand, what: str) -> list[witness.Step]:
    return await witness.steps(hand.connection, what)


async def test_every_reminder_move_is_made(database: str, summary: Any) -> None:
    """No move of REMINDER_MOVES is impossible, so none is left out."""
    await witness.install(database)
    made: witness.Moves = witness.counted([])
    async with hand(database) as mine:
        for (was, becomes), story in REMINDERS.items():
            await mine.clear()
            request = await story(mine)
            steps = [each for each in await seen(mine, "reminder") if each.id == request.id]
            assert (str(was), becomes.value) == (steps[-1].was, steps[-1].state), story.__doc__
            assert await mine.queue(request) == () if becomes.final else len(await mine.queue(request)) == 1
            made.update(witness.counted(steps))
    summary("reminder moves made on purpose", witness.table(made, tables.REMINDERS))
    allowed = {(was.value, to.value) for was, becomes in REMINDER_MOVES.items() for to in becomes}
    born = {(BORN, to) for to in tables.REMINDERS[BORN]}
    assert {pair for pair, n in made.items() if n} == allowed | born


# Attempts are guarded by their rank alone, so that who looks twice may miss what lay between.  Of the single steps that
# ranks allow, one is never taken: nobody stops waiting for what is being sent.  Its worker records it, or is found dead
# and it is unknown first.
NEVER: Final = {(A.INTENDED, A.UNCONFIRMED)}


async def test_every_attempt_move_is_made(database: str, summary: Any) -> None:
    """All that `attempt_moves` allows, but for the step above."""
    await witness.install(database)
    made: witness.Moves = witness.counted([])
    allowed = {(was, becomes) for was in A for becomes in A if attempt_moves(was, becomes)} - NEVER
    async with hand(database) as mine:
        for was, becomes in sorted(allowed):
            await mine.clear()
            sending = await attempt_at(mine, was)
            await attempt_becomes(mine, sending, becomes)
            steps = [each for each in await seen(mine, "attempt") if each.id == sending.attempt]
            assert (steps[-1].was, steps[-1].state) == (was.value, becomes.value)
            made.update(witness.counted(steps))
    summary("attempt moves made on purpose", witness.table(made, tables.ATTEMPTS))
    assert {pair for pair, n in made.items() if n} == allowed | {(BORN, A.INTENDED)}
