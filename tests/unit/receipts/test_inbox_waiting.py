"""Nobody waits long for a ledger that does not answer, and it is not asked once for each who waits."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import pytest

from gateway.clock import VirtualClock
from gateway.ids import IdSource
from gateway.ledger import receipts
from gateway.ledger.database import Conflict
from gateway.ledger.receipts import Taken
from gateway.ledger.received import Stored
from gateway.observability import logs
from gateway.receipts import inbox as under_test
from gateway.receipts.inbox import NotStored, ReceiptInbox
from gateway.sealing import Sealer
from providers.contract import Receipt
from schemas.vocabulary import AttemptState

NOW: Final = dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC)
ANSWER_SECONDS: Final = 0.3
SLACK: Final = 0.7  # of a machine that does other things as well


class Ledger:
    """Stands where the database stands: hangs, fails or takes what it is given, and counts how often it is asked."""

    def __init__(self) -> None:
        self.hangs = asyncio.Event()
        self.error: Exception | None = None
        self.bad: frozenset[str] = frozenset()
        self.asked: list[int] = []  # how many receipts each transaction was to take
        self.applied: list[int] = []  # and of these, which were to be applied as well
        self.kept: list[str] = []
        self.busy = asyncio.Event()

    def well(self) -> None:
        self.hangs.clear()
        self.error = None

    async def transaction(self, work: Callable[[Any], Awaitable[Any]], *, attempts: int = 3) -> Any:
        self.busy.set()
        return await work(self)

    async def take(self, connection: Any, group: Sequence[Stored], *rest: Any) -> Taken:
        self.applied.append(len(group))
        return Taken(await self.store(connection, group), [], [])

    async def store(self, connection: Any, group: Sequence[Stored], *rest: Any) -> frozenset[int]:
        self.asked.append(len(group))
        if self.hangs.is_set():
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        if self.bad.intersection(each.code for each in group):
            raise ValueError("does not fit")
        self.kept += [each.code for each in group]
        return frozenset(each.id for each in group)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    logs.setup()
    it = Ledger()
    monkeypatch.setattr(receipts, "take", it.take)
    monkeypatch.setattr(receipts, "store", it.store)
    return it


@pytest.fixture
def inbox(ledger: Ledger) -> ReceiptInbox:
    metrics = SimpleNamespace(moved=lambda moves: None)
    worker: Any = SimpleNamespace(ids=IdSource(1))
    sealer = Sealer({1: b"k" * 32}, 1, b"i" * 32)
    rules: Any = None  # nobody applies anything here
    stub: Any = ledger
    return ReceiptInbox(
        stub, worker, VirtualClock(NOW), sealer, rules, metrics, lambda: None, answer_seconds=ANSWER_SECONDS
    )


def keep(inbox: ReceiptInbox, code: str) -> asyncio.Task[bool]:
    """Somebody calls, and waits."""
    return asyncio.create_task(inbox.keep("p", b"raw", code, [Receipt(AttemptState.DELIVERED, code, ref=code)]))


def many(inbox: ReceiptInbox, n: int, name: str = "c") -> list[asyncio.Task[bool]]:
    return [keep(inbox, f"{name}-{number}") for number in range(n)]


async def answers(calls: Sequence[asyncio.Task[bool]], within: float = 5.0) -> list[bool | BaseException]:
    """What each has been told by then; nobody waits for longer."""
    _, waiting = await asyncio.wait(calls, timeout=within)
    assert not waiting, f"{len(waiting)} of {len(calls)} still wait after {within:g} s"
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_group_is_answered_in_time_when_the_ledger_hangs(inbox: ReceiptInbox, ledger: Ledger) -> None:
    ledger.hangs.set()
    began = time.monotonic()
    told = await answers(many(inbox, 20), ANSWER_SECONDS + SLACK)
    assert time.monotonic() - began > ANSWER_SECONDS * 0.9
    assert all(isinstance(each, TimeoutError | NotStored) for each in told), told
    assert ledger.asked == [20]


async def test_those_behind_a_group_that_hangs_are_answered_too(inbox: ReceiptInbox, ledger: Ledger) -> None:
    ledger.hangs.set()
    first = many(inbox, 20)
    await ledger.busy.wait()
    behind = many(inbox, 20, "behind")
    told = await answers([*first, *behind], 2 * ANSWER_SECONDS + SLACK)
    assert all(isinstance(each, TimeoutError | NotStored) for each in told), told
    assert len(ledger.asked) <= 2


async def test_those_behind_are_kept_when_the_ledger_is_well_by_then(inbox: ReceiptInbox, ledger: Ledger) -> None:
    ledger.hangs.set()
    first = many(inbox, 20)
    await ledger.busy.wait()
    await asyncio.sleep(ANSWER_SECONDS / 2)  # they will have waited for less than is too long
    behind = many(inbox, 20, "behind")
    ledger.well()
    assert await answers(behind, ANSWER_SECONDS + SLACK) == [True] * 20
    assert all(isinstance(each, NotStored) for each in await answers(first))
    assert sorted(ledger.kept) == sorted(f"behind-{n}" for n in range(20))


async def test_a_crowd_is_answered_in_time_and_most_of_it_without_asking(inbox: ReceiptInbox, ledger: Ledger) -> None:
    ledger.hangs.set()
    told = await answers(many(inbox, 2000), 2 * ANSWER_SECONDS + SLACK)
    assert all(isinstance(each, TimeoutError | NotStored) for each in told)
    assert sum(isinstance(each, NotStored) for each in told) >= 1200
    assert len(ledger.asked) <= 4


async def test_while_many_wait_no_group_is_applied_however_small(inbox: ReceiptInbox, ledger: Ledger) -> None:
    """A burst through many connections comes in groups: it is known by all who wait."""
    ledger.hangs.set()
    first = many(inbox, 120)
    await ledger.busy.wait()
    ledger.well()
    second = many(inbox, 110, "second")
    assert await answers(second) == [True] * 110
    assert (ledger.asked, ledger.applied) == ([120, 110], [120])
    await answers(first)
    assert await answers(many(inbox, 3, "new")) == [True] * 3
    assert ledger.applied == [120, 3]


async def test_after_a_recovery_new_ones_are_kept(inbox: ReceiptInbox, ledger: Ledger) -> None:
    ledger.hangs.set()
    await answers(many(inbox, 20))
    ledger.well()
    assert await answers(many(inbox, 20, "new")) == [True] * 20
    assert sorted(ledger.kept) == sorted(f"new-{n}" for n in range(20))
    assert await asyncio.wait_for(keep(inbox, "idle"), 1)


async def test_when_too_many_wait_another_is_refused_at_once(
    inbox: ReceiptInbox, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_MOST_WAITING", 30)
    ledger.hangs.set()
    under_way = keep(inbox, "under way")
    await ledger.busy.wait()
    waiting = many(inbox, 30)
    await asyncio.sleep(0)
    refused = inbox.keep("p", b"raw", "x", [Receipt(AttemptState.DELIVERED, "c", ref="r")])
    with pytest.raises(NotStored):
        refused.send(None)  # without waiting for anything at all
    told = await answers([under_way, *waiting])
    assert len(told) == 31
    ledger.well()
    assert await asyncio.wait_for(keep(inbox, "new"), 1)


@pytest.mark.parametrize("error", [OSError("gone"), Conflict("another was first")], ids=["gone", "conflict"])
async def test_an_error_that_blames_nobody_is_everybodys_answer(
    inbox: ReceiptInbox, ledger: Ledger, error: Exception
) -> None:
    ledger.error = error
    assert await answers(many(inbox, 20), SLACK) == [error] * 20
    assert ledger.asked == [20, 20]  # to take, then to store only
    ledger.well()
    assert await answers(many(inbox, 3, "new")) == [True] * 3


async def test_what_does_not_fit_is_found_and_refused_alone(inbox: ReceiptInbox, ledger: Ledger) -> None:
    ledger.bad = frozenset({"c-7"})
    told = await answers(many(inbox, 20))
    assert [n for n, each in enumerate(told) if each is not True] == [7]
    assert isinstance(told[7], ValueError)
    assert sorted(ledger.kept) == sorted(f"c-{n}" for n in range(20) if n != 7)


async def test_nobody_waits_any_more_and_the_inbox_can_stop(inbox: ReceiptInbox, ledger: Ledger) -> None:
    """Whoever asked has hung up, and the ledger hangs: neither keeps a process from its end."""
    ledger.hangs.set()
    calls = many(inbox, 20)
    await ledger.busy.wait()
    for each in calls:
        each.cancel()
    await asyncio.wait_for(inbox.stop(), ANSWER_SECONDS + SLACK)
    assert all(each.cancelled() for each in calls)
