"""Grouped commits: nothing is lost, forgotten or written twice, whatever fails and however it arrives."""

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.batcher import Batcher


class Ledger:
    """Writes a group when it is let, and remembers how many were under way at once."""

    def __init__(self, *, hold: bool = False, bad: frozenset[int] = frozenset()) -> None:
        self.groups: list[list[int]] = []
        self.under_way = self.most = 0
        self.may_go = asyncio.Event()
        self.bad = bad
        if not hold:
            self.may_go.set()

    async def write(self, group: Sequence[int]) -> None:
        self.groups.append(list(group))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.may_go.wait()
            await asyncio.sleep(0)
            if self.bad.intersection(group):
                raise OSError("no ledger")
        finally:
            self.under_way -= 1


async def test_what_arrives_together_is_written_together_and_in_order() -> None:
    ledger = Ledger()
    batcher: Batcher[int] = Batcher("test", ledger.write)
    for each in range(5):
        batcher.add(each)
    batcher.extend([5, 6])
    await batcher.flushed()
    assert ledger.groups == [[0, 1, 2, 3, 4, 5, 6]]


async def test_what_arrives_meanwhile_is_one_group_afterwards() -> None:
    ledger = Ledger(hold=True)
    batcher: Batcher[int] = Batcher("test", ledger.write, crowd=100)
    batcher.add(0)
    await asyncio.sleep(0.01)
    for each in range(1, 50):
        batcher.add(each)
        await asyncio.sleep(0)
    assert ledger.groups == [[0]]
    ledger.may_go.set()
    await batcher.flushed()
    assert ledger.groups == [[0], list(range(1, 50))]
    assert ledger.most == 1


async def test_a_crowd_gets_a_second_group_and_never_a_third() -> None:
    ledger = Ledger(hold=True)
    batcher: Batcher[int] = Batcher("test", ledger.write, largest=10, crowd=10)
    for start in range(0, 60, 10):
        batcher.extend(range(start, start + 10))
        await asyncio.sleep(0.001)
    assert ledger.groups == [list(range(10)), list(range(10, 20))]
    ledger.may_go.set()
    await batcher.flushed()
    assert sorted(each for group in ledger.groups for each in group) == list(range(60))
    assert ledger.most == 2


async def test_a_group_that_fails_takes_nobody_with_it() -> None:
    ledger = Ledger(bad=frozenset({0}))
    batcher: Batcher[int] = Batcher("test", ledger.write, largest=1)
    batcher.extend([0, 1, 2])
    await batcher.flushed()
    assert ledger.groups == [[0], [1], [2]]


async def test_flushed_returns_at_once_when_there_is_nothing() -> None:
    await Batcher("test", Ledger().write).flushed()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=25),
    st.integers(1, 8),
    st.integers(1, 10),
    st.frozensets(st.integers(0, 60), max_size=5),
)
def test_everything_is_written_once_in_whatever_way_it_comes(
    arrivals: list[tuple[int, int]], largest: int, crowd: int, bad: frozenset[int]
) -> None:
    async def run() -> None:
        ledger = Ledger(bad=bad)
        batcher: Batcher[int] = Batcher("test", ledger.write, largest, crowd)
        number = 0
        for many, turns in arrivals:
            batcher.extend(range(number, number + many))
            number += many
            for _ in range(turns):
                await asyncio.sleep(0)
        await batcher.flushed()
        assert len(batcher) == 0
        assert sorted(each for group in ledger.groups for each in group) == list(range(number))
        assert all(0 < len(group) <= largest for group in ledger.groups)
        assert ledger.most <= 2

    asyncio.run(run())


async def test_after_a_large_group_stragglers_are_gathered_and_after_a_small_one_they_are_not() -> None:
    for first, expected in ((32, 1), (31, 3)):
        ledger = Ledger()
        batcher: Batcher[int] = Batcher("test", ledger.write)
        batcher.extend(range(first))
        while not ledger.groups or ledger.under_way:
            await asyncio.sleep(0)
        for each in range(3):
            batcher.add(100 + each)
            for _ in range(5):
                await asyncio.sleep(0)
        await batcher.flushed()
        assert len(ledger.groups) - 1 == expected
