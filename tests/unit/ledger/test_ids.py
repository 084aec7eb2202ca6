"""Ids: unique, ordered by time, 63 bits, and readable back from their reference."""

from hypothesis import given
from hypothesis import strategies as st

from gateway import ids


@given(st.integers(0, 2**63 - 1))
def test_a_reference_is_13_characters_and_reads_back(identifier: int) -> None:
    reference = ids.to_reference(identifier)
    assert len(reference) == 13
    assert len(reference.encode()) <= 15  # Alibaba voice's OutId
    assert ids.from_reference(reference) == identifier


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_references_sort_like_ids(one: int, other: int) -> None:
    assert (one < other) == (ids.to_reference(one) < ids.to_reference(other))


@given(st.text(max_size=16))
def test_what_is_no_reference_reads_as_none(text: str) -> None:
    identifier = ids.from_reference(text)
    assert identifier is None or ids.to_reference(identifier) == text


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=400), st.integers(0, 63))
def test_ids_never_repeat_even_when_the_clock_stands_or_steps_back(steps: list[int], number: int) -> None:
    clock = ids.EPOCH_MS + 1_000_000
    source = ids.IdSource(number, lambda: clock)
    made = []
    for step in steps:
        clock += step
        made.append(source.next(bucket=7))
    assert made == sorted(set(made))
    assert all(ids.bucket_of(each) == 7 and 0 <= each < 2**63 for each in made)


def test_two_workers_never_make_the_same_id() -> None:
    now = ids.EPOCH_MS + 5
    one, other = (ids.IdSource(number, lambda: now) for number in (0, 1))
    assert not {one.next(0) for _ in range(1000)} & {other.next(0) for _ in range(1000)}


def test_an_id_lies_in_the_range_of_its_time() -> None:
    now = ids.EPOCH_MS + 123_456_789
    made = ids.IdSource(63, lambda: now).next(255)
    assert ids.first_id_at(now) <= made < ids.first_id_at(now + 1)
    assert ids.milliseconds_of(made) == now


def test_keys_do_not_run_parts_together() -> None:
    assert ids.subject_key("ab", "c") != ids.subject_key("a", "bc")
    assert ids.stage_key("l", "b", "d", None, "due", "") != ids.stage_key("l", "b", "d", 1, "due", "")
