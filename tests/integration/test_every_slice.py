"""Whatever a freeze can name it holds, at each of the three places where it is asked: birth, intend, release."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import pytest

from gateway.ledger.freezes import EVERYTHING, FreezeKind
from schemas.vocabulary import Channel
from tests.integration.by_hand import HOUR, RULES, hand

NAMED: Final = {
    FreezeKind.ALL: EVERYTHING, FreezeKind.SOURCE: "core", FreezeKind.LENDER: "acme", FreezeKind.PRODUCT: "cash-loan",
    FreezeKind.STAGE: "d3", FreezeKind.CHANNEL: "sms", FreezeKind.PROVIDER: "p", FreezeKind.TEMPLATE: "repayment",
}  # fmt: skip
ROUTED: Final = dataclasses.replace(RULES, routes={"acme": {Channel.SMS: "p"}})
MINE: Final[dict[str, Any]] = {"product": "cash-loan"}


def test_every_kind_is_tried() -> None:
    assert NAMED.keys() == set(FreezeKind)


@pytest.mark.parametrize("kind", FreezeKind)
async def test_it_is_held_at_birth_at_intend_and_until_release(kind: FreezeKind, database: str) -> None:
    async with hand(database, ROUTED) as mine:
        worker, claimed = await mine.claimed(await mine.born(**MINE))
        await mine.freeze(kind, NAMED[kind])
        intent = mine.intent(claimed)
        done = await mine.intend(worker, intent)
        assert (done.sendable, done.frozen) == (frozenset(), {intent.attempt})

        held = await mine.born(**MINE)
        assert await mine.state(held) == ("held", "frozen")
        await mine.release(HOUR / 60)
        assert await mine.state(held) == ("held", "frozen")

        await mine.unfreeze(kind, NAMED[kind])
        assert (await mine.intend(worker, intent)).sendable == {intent.attempt}
        await mine.release(HOUR / 60)
        assert await mine.state(held) == ("scheduled", "released")


@pytest.mark.parametrize("kind", [each for each in FreezeKind if each is not FreezeKind.ALL])
async def test_another_slice_of_its_kind_holds_nothing(kind: FreezeKind, database: str) -> None:
    async with hand(database, ROUTED) as mine:
        await mine.freeze(kind, "another")
        worker, claimed = await mine.claimed(await mine.born(**MINE))
        intent = mine.intent(claimed)
        assert (await mine.intend(worker, intent)).sendable == {intent.attempt}


async def test_what_names_no_product_is_in_no_products_slice(database: str) -> None:
    async with hand(database, ROUTED) as mine:
        await mine.freeze("product", "cash-loan")
        worker, claimed = await mine.claimed(await mine.born(product=None))
        assert (await mine.intend(worker, mine.intent(claimed))).sendable
