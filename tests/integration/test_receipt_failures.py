"""Receipts that complain of more than their recipient: who hears of them, of what, how old, and how often."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any, Final

import pytest

from schemas.vocabulary import AttemptState as A
from schemas.vocabulary import Failure, FailureScope
from tests.integration.by_hand import Sending
from tests.integration.inbox_by_hand import Bench, bench, locked, receipt

AGE: Final = 90.0
BROKE: Final = {"state": A.UNDELIVERED, "failure": Failure.BAD_CONFIG, "code": "no balance"}
ACCOUNT: Final = BROKE | {"scope": FailureScope.ACCOUNT}
TEMPLATE: Final = BROKE | {"failure": Failure.BAD_CONTENT, "scope": FailureScope.TEMPLATE}


async def out(it: Bench, n: int = 1, **request: Any) -> list[Sending]:
    """Handed over some time ago."""
    sendings = await it.accepted(n, **request)
    it.hand.later(AGE)
    it.clock.advance(dt.timedelta(seconds=AGE))
    return sendings


@pytest.mark.parametrize("scope", [FailureScope.ACCOUNT, FailureScope.SENDER])
async def test_what_is_wrong_with_us_is_told_with_its_age(scope: FailureScope, database: str) -> None:
    async with bench(database) as it:
        [mine] = await out(it)
        assert await it.keep(receipt(mine, **BROKE, scope=scope))
        [(provider, failure, told, template, age)] = it.failures
        assert (provider, failure, told, template) == ("p", Failure.BAD_CONFIG, scope, "")
        assert age == pytest.approx(AGE, abs=0.001)


async def test_what_is_wrong_with_a_template_names_it(database: str) -> None:
    """One group with two templates: each complaint names its own reminder's."""
    async with bench(database) as it:
        [mine], [other] = [await out(it, template=name) for name in ("due-soon", "overdue")]
        assert await asyncio.gather(it.keep(receipt(mine, **TEMPLATE)), it.keep(receipt(other, **TEMPLATE)))
        assert [each[:4] for each in it.failures] == [
            ("p", Failure.BAD_CONTENT, FailureScope.TEMPLATE, name) for name in ("due-soon", "overdue")
        ]
        assert [each[4] for each in it.failures] == pytest.approx([2 * AGE, AGE], abs=0.001)


@pytest.mark.parametrize(
    "says",
    [
        {"state": A.UNDELIVERED, "failure": Failure.UNREACHABLE},
        {"state": A.UNDELIVERED, "failure": Failure.BAD_CONFIG, "scope": FailureScope.RECIPIENT},
        {"state": A.DELIVERED, "scope": FailureScope.ACCOUNT},
    ],
    ids=["recipient", "recipient by name", "no failure"],
)
async def test_what_is_wrong_with_nobody_else_is_told_to_nobody(says: dict[str, Any], database: str) -> None:
    async with bench(database) as it:
        [mine] = await out(it)
        assert await it.keep(receipt(mine, **says))
        assert await it.stored(mine) == ["applied"]
        assert it.failures == []


@pytest.mark.parametrize("says", [ACCOUNT, TEMPLATE], ids=["account", "template"])
async def test_a_copy_complains_of_nothing(says: dict[str, Any], database: str) -> None:
    async with bench(database) as it:
        mine, other = await out(it, 2)
        assert await asyncio.gather(*[it.keep(receipt(mine, **says), replay="x") for _ in range(2)]) in (
            [True, False],
            [False, True],
        )
        assert len(it.failures) == 1
        assert not await it.keep(receipt(mine, **says), replay="x")
        # Beside what is new, too.
        group = it.keep(receipt(mine, **says), replay="x"), it.keep(receipt(other, **says))
        assert await asyncio.gather(*group) == [False, True]
        assert len(it.failures) == 2


async def test_the_same_word_under_another_id_complains_of_nothing(database: str) -> None:
    """No copy, but nothing new: the attempt has failed already."""
    async with bench(database) as it:
        [mine] = await out(it)
        for _ in range(2):
            assert await it.keep(receipt(mine, **ACCOUNT))
        assert await it.stored(mine) == ["applied", "duplicate"]
        assert len(it.failures) == 1


async def test_what_comes_late_is_told_all_the_same(database: str) -> None:
    """The reminder has ended; what is wrong with the account is still wrong."""
    async with bench(database) as it:
        mine, other = await out(it, 2)
        await it.hand.fire(it.hand.rules.default_receipt_window)
        assert (await it.hand.state(mine.request))[0] == "unconfirmed"
        assert await it.keep(receipt(mine, **ACCOUNT))
        assert await it.stored(mine) == ["late"]
        assert [each[2] for each in it.failures] == [FailureScope.ACCOUNT]
        assert it.failures[0][4] == pytest.approx(AGE, abs=0.001)
        assert await it.stored(other) == []


async def test_of_a_locked_borrower_the_account_is_told_of_at_once_and_only_once(database: str) -> None:
    """Where it is only stored nobody knows whose template it was, and the sweep does not read what was wrong."""
    async with bench(database) as it:
        mine, other = await out(it, 2)
        async with locked(database, mine), locked(database, other):
            group = it.keep(receipt(mine, **ACCOUNT), replay="x"), it.keep(receipt(other, **TEMPLATE))
            assert await asyncio.gather(*group) == [True, True]
            assert [each[:4] for each in it.failures] == [("p", Failure.BAD_CONFIG, FailureScope.ACCOUNT, "")]
            assert not await it.keep(receipt(mine, **ACCOUNT), replay="x")
        await it.swept()
        assert await it.stored(mine) == await it.stored(other) == ["applied"]
        assert len(it.failures) == 1
