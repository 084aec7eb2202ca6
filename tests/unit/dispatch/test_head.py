"""Where claims begin: at the last row that was taken, and at times at the front."""

import datetime as dt

import pytest

from gateway.dispatch.head import Head
from gateway.ledger.claims import Claimed
from schemas.vocabulary import Lane
from tests.unit.dispatch.case import NOW, claimed

SECOND = dt.timedelta(seconds=1)


class Watch:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def row(reminder: int, lane: Lane = Lane.BULK, due_at: dt.datetime = NOW) -> Claimed:
    return claimed(id=reminder, lane=lane, due_at=due_at)


def test_a_claim_begins_where_the_last_one_of_its_lane_ended() -> None:
    head = Head(Watch())
    assert head.begin() == head.places == {}
    head.took([row(3, Lane.URGENT), row(2, due_at=NOW - SECOND)], plenty=True)
    assert head.begin() == head.places == {Lane.URGENT: (NOW, 3), Lane.BULK: (NOW - SECOND, 2)}
    head.took([row(1), row(9, due_at=NOW + SECOND)], plenty=True)
    assert head.begin() == {Lane.URGENT: (NOW, 3), Lane.BULK: (NOW + SECOND, 9)}
    head.took([], plenty=True)
    assert head.begin() == {Lane.URGENT: (NOW, 3), Lane.BULK: (NOW + SECOND, 9)}


@pytest.mark.parametrize(("plenty", "step"), [(True, 0.5), (False, 0.025)])
def test_at_times_it_begins_at_the_front(plenty: bool, step: float) -> None:
    """Once a second while there is plenty, and twenty times where little waits; the place is not forgotten."""
    watch = Watch()
    head = Head(watch)
    head.took([row(1)], plenty=plenty)
    begun = []
    for _ in range(6):
        watch.seconds += step * 1.01
        begun.append(bool(head.begin()))
        head.took([row(1)], plenty=plenty)
    assert begun == [True, False, True, False, True, False]
    assert head.places


def test_a_claim_that_failed_has_not_looked() -> None:
    watch = Watch()
    head = Head(watch)
    head.took([row(1)], plenty=True)
    watch.seconds += 1
    assert head.begin() == {}
    assert head.begin() == {}
    head.took([row(1)], plenty=True)
    assert head.begin() == {Lane.BULK: (NOW, 1)}


def test_bulk_is_looked_at_when_urgent_leaves_it_room() -> None:
    """And urgent does not begin at the front for it."""
    watch = Watch()
    head = Head(watch)
    head.took([row(1, Lane.URGENT), row(2)], plenty=True)
    watch.seconds += 1
    assert head.begin() == {}
    for _ in range(3):
        head.took([row(1, Lane.URGENT)], plenty=True)
        assert head.begin() == {Lane.URGENT: (NOW, 1)}
    head.took([row(1, Lane.URGENT), row(2)], plenty=True)
    assert head.begin() == {Lane.URGENT: (NOW, 1), Lane.BULK: (NOW, 2)}


def test_what_was_found_behind_the_place_takes_it_back() -> None:
    """There may be more behind than one claim could take."""
    watch = Watch()
    head = Head(watch)
    head.took([row(5)], plenty=True)
    watch.seconds += 1
    assert head.begin() == {}
    head.took([row(7, due_at=NOW - 60 * SECOND)], plenty=True)
    assert head.begin() == {Lane.BULK: (NOW - 60 * SECOND, 7)}


def test_places_that_were_handed_out_stay_as_they_were() -> None:
    """Intake asks by them later, and another claim has been meanwhile."""
    head = Head(Watch())
    head.took([row(5)], plenty=True)
    held = (head.places, head.begin())
    head.took([row(9, due_at=NOW + SECOND)], plenty=True)
    assert held == ({Lane.BULK: (NOW, 5)}, {Lane.BULK: (NOW, 5)})
