"""The two tables of moves, pair by pair."""

from itertools import product

import pytest

from gateway.ledger.states import (
    ATTEMPT_RANK,
    FAILED,
    NO_CONTACT,
    OPEN,
    REACHED,
    REMINDER_MOVES,
    attempt_moves,
    receipt_disposition,
    reminder_moves,
)
from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Disposition as D
from schemas.vocabulary import ReminderState as R

ORDER = [
    {A.INTENDED},
    {A.UNKNOWN},
    {A.ACCEPTED},
    {A.SENT},
    {A.UNCONFIRMED},
    {A.UNDELIVERED, A.TTL_EXPIRED, A.NO_ANSWER, A.BUSY, A.DECLINED},
    {A.ANSWERED},
    {A.DELIVERED, A.ANSWERED_HUMAN, A.ANSWERED_MACHINE},
]
ANSWERED = {A.ANSWERED, A.ANSWERED_HUMAN, A.ANSWERED_MACHINE}


def place(state: A) -> int:
    return next(n for n, level in enumerate(ORDER) if state in level)


def test_every_attempt_state_has_a_rank_and_one_kind() -> None:
    assert set(ATTEMPT_RANK) == set(A)
    kinds = [OPEN, NO_CONTACT, FAILED, REACHED, {A.UNCONFIRMED}]
    assert all(sum(state in kind for kind in kinds) == 1 for state in A)


@pytest.mark.parametrize(("current", "new"), list(product(A, repeat=2)))
def test_an_attempt_only_moves_up(current: A, new: A) -> None:
    if new in (A.NOT_SENT, A.REJECTED):
        expected = current in (A.INTENDED, A.UNKNOWN)
    elif current in (A.NOT_SENT, A.REJECTED):
        expected = False
    else:
        expected = place(new) > place(current)
    assert attempt_moves(current, new) is expected


def test_no_attempt_moves_in_a_circle() -> None:
    reached: dict[A, set[A]] = {state: {other for other in A if attempt_moves(state, other)} for state in A}
    for _ in A:
        for state in A:
            reached[state] |= set().union(*(reached[other] for other in reached[state]))
    assert all(state not in reached[state] for state in A)


@pytest.mark.parametrize(("current", "new"), list(product(A, repeat=2)))
def test_every_receipt_has_one_disposition(current: A, new: A) -> None:
    found = receipt_disposition(current, new)
    assert (found is D.DUPLICATE) == (current is new)
    assert (found is D.APPLIED) == (current is not new and attempt_moves(current, new))
    if current in NO_CONTACT and new is not current:
        assert found is D.CONFLICT  # the provider speaks of what was proved not to exist
    if current in REACHED and new in FAILED:
        assert found is D.CONFLICT
    if current in OPEN | {A.UNCONFIRMED} and found not in (D.APPLIED, D.DUPLICATE):
        assert found is D.OUT_OF_ORDER
    assert found in (D.APPLIED, D.DUPLICATE, D.OUT_OF_ORDER, D.CONFLICT)


@pytest.mark.parametrize(
    ("current", "new", "expected"),
    [
        (A.UNKNOWN, A.DELIVERED, D.APPLIED),
        (A.ACCEPTED, A.SENT, D.APPLIED),
        (A.SENT, A.ACCEPTED, D.OUT_OF_ORDER),
        (A.DELIVERED, A.SENT, D.OUT_OF_ORDER),
        (A.UNCONFIRMED, A.DELIVERED, D.APPLIED),
        (A.UNDELIVERED, A.DELIVERED, D.APPLIED),
        (A.DELIVERED, A.UNDELIVERED, D.CONFLICT),
        (A.BUSY, A.NO_ANSWER, D.OUT_OF_ORDER),
        (A.ANSWERED, A.ANSWERED_HUMAN, D.APPLIED),
        (A.ANSWERED_HUMAN, A.ANSWERED, D.OUT_OF_ORDER),
        (A.REJECTED, A.DELIVERED, D.CONFLICT),
        (A.DELIVERED, A.DELIVERED, D.DUPLICATE),
    ],
)
def test_what_becomes_of_a_receipt(current: A, new: A, expected: D) -> None:
    assert receipt_disposition(current, new) is expected


def test_every_reminder_state_has_its_moves_and_endings_only_rise() -> None:
    assert set(REMINDER_MOVES) == set(R)
    rank = {R.UNCONFIRMED: 0, R.EXPIRED: 0, R.UNDELIVERED: 1, R.DELIVERED: 2}
    for state in R:
        if state.final:
            assert all(rank[new] > rank[state] for new in REMINDER_MOVES[state])
    assert {state for state in R if not REMINDER_MOVES[state]} == {R.DELIVERED, R.SUPPRESSED, R.CANCELLED}


def test_only_a_scheduled_reminder_is_sent_and_nothing_ended_lives_again() -> None:
    assert {state for state in R if reminder_moves(state, R.SENDING)} == {R.SCHEDULED, R.SENDING}
    assert not any(reminder_moves(was, new) for was in R for new in R if was.final and not new.final)
    ends = {was: {new for new in R if new.final and not reminder_moves(was, new)} for was in R if not was.final}
    assert ends == {
        R.SCHEDULED: set(),
        R.HELD: set(),
        R.SENDING: {R.UNCONFIRMED, R.EXPIRED},  # no timer runs meanwhile
        R.AWAITING: {R.EXPIRED},  # what may have left does not expire
    }
