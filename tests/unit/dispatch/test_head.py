"""Where claims begin: at the last row that was taken, and at times at the front."""

import datetime as dt

from gateway.dispatch.head import Head
from schemas.vocabulary import Lane
from tests.unit.dispatch.case import NOW, claimed

SECOND = dt.timedelta(seconds=1)


class Watch:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_claim_begins_where_the_last_one_of_its_lane_ended() -> None:
    head = Head(Watch())
    assert head.begin() == head.places == {}
    head.took(
        [claimed(id=3, lane=Lane.URGENT, due_at=NOW), claimed(id=2, lane=Lane.BULK, due_at=NOW - SECOND)], plenty=True
    )
    assert head.begin() == head.places == {Lane.URGENT: (NOW, 3), Lane.BULK: (NOW - SECOND, 2)}
    head.took(
        [claimed(id=1, lane=Lane.BULK, due_at=NOW), claimed(id=9, lane=Lane.BULK, due_at=NOW + SECOND)], plenty=True
    )
    assert head.begin() == {Lane.URGENT: (NOW, 3), Lane.BULK: (NOW + SECOND, 9)}
    head.took([], plenty=True)
    assert head.begin() == {Lane.URGENT: (NOW, 3), Lane.BULK: (NOW + SECOND, 9)}


def test_once_a_second_it_begins_at_the_front() -> None:
    watch = Watch()
    head = Head(watch)
    head.took([claimed(lane=Lane.BULK, due_at=NOW)], plenty=True)
    begun = []
    for _ in range(6):
        watch.seconds += 0.5
        begun.append(bool(head.begin()))
    assert begun == [True, False, True, False, True, False]
    assert head.places, "what is looked at from the front is not forgotten"


def test_where_little_waits_it_looks_from_the_front_at_any_time() -> None:
    watch = Watch()
    head = Head(watch)
    head.took([claimed(lane=Lane.BULK, due_at=NOW)], plenty=False)
    begun = []
    for _ in range(4):
        watch.seconds += 0.03
        begun.append(bool(head.begin()))
    assert begun == [True, False, True, False]
    head.took([], plenty=True)
    watch.seconds += 0.9
    assert head.begin()


def test_what_was_found_behind_the_place_takes_it_back() -> None:
    """There may be more behind than one claim could take."""
    watch = Watch()
    head = Head(watch)
    head.took([claimed(id=5, lane=Lane.BULK, due_at=NOW)], plenty=True)
    watch.seconds += 1
    assert head.begin() == {}
    head.took([claimed(id=7, lane=Lane.BULK, due_at=NOW - 60 * SECOND)], plenty=True)
    assert head.begin() == {Lane.BULK: (NOW - 60 * SECOND, 7)}


def test_who_asks_for_the_places_cannot_change_them() -> None:
    head = Head(Watch())
    head.took([claimed(id=5, lane=Lane.BULK, due_at=NOW)], plenty=True)
    given = dict(head.begin())
    given.clear()
    assert head.begin() == {Lane.BULK: (NOW, 5)}
