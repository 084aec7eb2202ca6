"""What a provider, or the way to it, can do to a message: seen from Kafka, the ledger and the provider's own log.

Where no byte can have left, nothing is ever `unknown`: the same contact is tried again, and nothing takes its place.
Where it may have arrived, it is never sent again.
"""

import datetime as dt
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.lines import (
    AUTH,
    DEAF,
    DNS,
    ERRORS,
    HALF,
    KEPT,
    LIMIT,
    LOSES,
    REFUSED,
    SILENT,
    SLOW,
    TLS,
    Lines,
    lines,
)  # fmt: skip
from tests.stack.proxy import Link
from tests.stack.scene import rule, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
UNKNOWN = ("awaiting", "outcome_unknown")
SETTLED = [("scheduled", None), UNKNOWN, ("awaiting", None), ("delivered", None)]  # sent, says a receipt; delivered
STUCK = {10: (DNS, "dns_failure"), 20: (TLS, "tls_failure"), 30: (SILENT, "connect_timeout")}
AFTER = 2.5  # seconds that a provider wants to be left alone


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lines]:
    async with lines(postgres, kafka, tmp_path_factory.mktemp("lines")) as running:
        # First of all: its circuit stays open for a quarter of a minute; the last test looks at what became of it.
        await running.ask(AUTH, *range(900, 906))
        for number, (line, _) in STUCK.items():
            await running.ask(line, number, seconds=6)
        yield running


# --- no byte can have left --------------------------------------------------------------------------------------------


async def test_a_provider_that_is_gone_and_comes_back_gets_each_message_once(here: Lines) -> None:
    numbers = range(40, 44)
    await here.ways[REFUSED].gone()
    await here.ask(REFUSED, *numbers)

    async def several() -> bool:
        return sum([len(await here.attempts(number)) for number in numbers]) >= 7

    await until(several, "attempts", 30)
    await here.ways[REFUSED].start()
    gaps = []
    for number in numbers:
        assert await here.ended(number, 60) == ("delivered", None)
        *tried, last = await here.codes(number)
        assert set(tried) <= {("not_sent", "connect_refused")}
        assert last[0] == "delivered"
        assert [each[0] for each in await here.states(number)] == ["scheduled", "awaiting", "delivered"]
        assert here.taken(number) == 1
        at = [each["intended_at"] for each in await here.attempts(number)]
        gaps += [(later - earlier).total_seconds() for earlier, later in pairwise(at)]
    # Spread by chance: they set out together, and do not come back together.
    assert len({round(gap, 2) for gap in gaps}) > 1, gaps


async def test_what_cannot_leave_is_tried_again_and_ends_in_time(here: Lines) -> None:
    for number, (_, code) in STUCK.items():
        assert await here.ended(number, 30) == ("expired", "not_after")
        tried = await here.codes(number)
        assert set(tried) == {("not_sent", code)}
        assert len(tried) >= 2
        assert await here.states(number) == [("scheduled", None), ("expired", "not_after")]
        assert here.taken(number) == 0
    assert here.ways[TLS].connections > len(await here.codes(20))  # and more than once before it goes back


# --- it may have arrived ----------------------------------------------------------------------------------------------


async def test_an_answer_that_is_lost_is_settled_by_the_receipt_and_by_nothing_else(here: Lines) -> None:
    """The provider has it, and then resets, says nothing, or takes a minute for its answer."""
    here.ways[LOSES].loses, here.ways[SLOW].trickles = 1, 0.2
    here.ways[DEAF].set(Link.DEAF)
    late = {"receipts": {"delay": [2.4, 2.4]}}
    here.perform(*(rule(number, "twilio", **late) for number in (50, 51, 52)))
    faults = {50: LOSES, 51: SLOW, 52: DEAF}
    for number, line in faults.items():
        await here.ask(line, number)
    for number in faults:
        assert await here.ended(number) == ("delivered", None)
        assert await here.states(number) == SETTLED
        assert (await here.ladder(number), here.taken(number)) == ([("sms", "delivered", None)], 1)


async def test_a_connection_whose_other_end_is_gone_without_a_word(here: Lines) -> None:
    """Half open: it is kept for the next message, which then goes nowhere, and nobody can know that."""
    await here.ask(HALF, 60)
    assert await here.ended(60) == ("delivered", None)
    here.ways[HALF].set(Link.HANGS)
    await here.ask(HALF, 61)
    assert await here.ended(61, 30) == ("unconfirmed", "outcome_unknown")
    assert await here.states(61) == [("scheduled", None), UNKNOWN, ("unconfirmed", "outcome_unknown")]
    assert await here.ladder(61) == [("sms", "unconfirmed", "ambiguous")]
    assert here.taken(61) == 0
    here.ways[HALF].reset()
    here.ways[HALF].set(Link.PASSES)
    await here.ask(HALF, 62)
    assert await here.ended(62) == ("delivered", None)
    assert here.taken(62) == 1


async def test_a_kept_connection_that_is_closed_between_two_messages_makes_no_duplicate(here: Lines) -> None:
    for number in range(70, 77):
        await here.ask(KEPT, number)
        assert await here.ended(number) == ("delivered", None)
        here.ways[KEPT].reset()
    assert here.ways[KEPT].connections >= 7
    assert [here.taken(number) for number in range(70, 77)] == [1] * 7
    for number in range(70, 77):
        assert [each[0] for each in await here.ladder(number)] == ["sms"]


# --- the provider itself ----------------------------------------------------------------------------------------------


async def test_a_provider_that_asks_for_quiet_gets_it_from_everybody(here: Lines) -> None:
    here.perform(rule(100, "twilio", action="error", code="20429", retry_after=AFTER, times=1))
    await here.ask(LIMIT, 100)

    async def asked() -> Any:
        return [each for each in here.log("refused") if each.get("marker") == "M-100"]

    (refused,) = await until(asked, "429")
    others = range(101, 111)
    await here.ask(LIMIT, *others)
    await here.ask(KEPT, 111)  # the same vendor by another account is not concerned
    assert await here.ended(111) == ("delivered", None)
    for number in (100, *others):
        assert await here.ended(number, 60) == ("delivered", None)
        assert here.taken(number) == 1
        assert UNKNOWN not in await here.states(number)
    until_ = dt.datetime.fromisoformat(refused["at"]) + dt.timedelta(seconds=AFTER)
    mine = {f"M-{number}" for number in (100, *others)}
    came = [each for each in here.log() + here.log("refused") if each.get("marker") in mine and each is not refused]
    at = sorted(dt.datetime.fromisoformat(each["at"]) for each in came if each["at"] != refused["at"])
    assert len(at) == 11
    assert at[0] >= until_
    assert await here.ladder(100) == [("sms", "rejected", "throttled"), ("sms", "delivered", None)]
    assert {tuple(each) for number in others for each in [await here.ladder(number)]} == {(("sms", "delivered", None),)}


async def test_an_error_may_stand_before_a_message_that_was_taken(here: Lines) -> None:
    taken: dict[int, dict[str, Any]] = {120: {"status": 500}, 121: {"status": 503}, 122: {"status": 408}}
    late = {"receipts": {"delay": [1.5, 1.5]}}
    here.perform(
        *(rule(number, "twilio", action="error", after_accept=True, **late, **says) for number, says in taken.items()),
        rule(123, "twilio", action="error", status=500),
        rule(130, "twilio", action="error", status=409, after_accept=True, receipts={"lost": True}),
    )
    await here.ask(ERRORS, *taken, 123, 130)
    for number in taken:
        assert await here.ended(number) == ("delivered", None)
        assert await here.states(number) == SETTLED
        assert (await here.ladder(number), here.taken(number)) == ([("sms", "delivered", None)], 1)
    assert await here.ended(123) == ("unconfirmed", "outcome_unknown")
    assert (await here.ladder(123), here.taken(123)) == ([("sms", "unconfirmed", "ambiguous")], 0)
    # A conflict that no provider documents: it may have been taken before.  A person has to look, and nothing follows
    # by itself, neither this contact nor the next.
    assert (await here.reached(130, "held"))["reason"] == "bug"
    assert (await here.ladder(130), here.taken(130)) == ([("sms", "rejected", "bug")], 1)


async def test_credentials_that_are_refused_fail_nobody_and_when_they_are_mended_all_leave(here: Lines) -> None:
    numbers = range(900, 906)

    async def open_() -> bool:
        return await here.metric("circuit_state", provider=AUTH, scope="account") > 0

    await until(open_, "open circuit")
    await here.ask(AUTH, *range(906, 910))
    refused = [each for number in numbers for each in await here.codes(number)]
    # 20003 is Twilio's word for it.  One message tries now and then; the others wait without an attempt.
    assert {each for each in refused if each[0] != "delivered"} == {("rejected", "20003")}
    assert len(refused) < 20
    for number in numbers:
        row = await here.reached(number, "scheduled")
        assert (row["ended"], row["rung"]) == (False, 0)
        assert here.taken(number) == 0
    here.perform()
    here.mend_credentials()
    for number in range(900, 910):
        assert await here.ended(number, 90) == ("delivered", None)
        assert here.taken(number) == 1
        assert await here.states(number) == [("scheduled", None), ("awaiting", None), ("delivered", None)]
    assert '"event": "circuit_opened"' in here.gateway.log.read_text(encoding="utf-8")
    assert await here.metric("circuit_state", provider=AUTH, scope="account") == 0
