"""A stop that names somebody else's request: it holds whose request it is, wherever the batches are cut."""

import pytest

from gateway.ledger.commands import Origin, Request, Stop
from tests.integration.by_hand import HOUR, TOPIC, Hand, hand


def astray(mine: Hand, of: Request, under: Request) -> Stop:
    """A cancel of one borrower's request under another's name."""
    mine._offset += 1
    return Stop(
        Origin(TOPIC, 0, mine._offset), mine.id(), "core", under.subject, "acme", under.borrower, "request",
        of.request_key.hex(), mine.now + HOUR, of.request_key,
    )  # fmt: skip


@pytest.mark.parametrize("batches", ["one batch", "two batches"])
async def test_a_cancel_under_the_wrong_name_is_not_lost(batches: str, database: str) -> None:
    async with hand(database) as mine:
        theirs, other = mine.request(), mine.request()
        cancel = astray(mine, of=theirs, under=other)
        if batches == "one batch":
            await mine.read(theirs, other, cancel)
        else:
            await mine.read(theirs, other)
            await mine.read(cancel)
        for each in (theirs, other):
            assert await mine.state(each) == ("held", "stop_unreadable")
        assert await mine.value("select reason from deadletter") == "unreadable_stop"
        assert await mine.value("select count(*) from tombstone") == 0
