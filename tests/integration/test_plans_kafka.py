"""What a lender's core tells on its own topic, by a running gateway: planned, sent, stopped, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.integration.test_sums import sums
from tests.stack.core import DAY, TODAY, Core, fact, moment, planned, standing, stands, there, told_facts
from tests.stack.gateway import address, requested
from tests.stack.load import events_in
from tests.stack.scene import Scene, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "question-token-0123456789"


class Lender:
    """Its own service, which is asked before a reminder leaves: whether it may, unless `says` has another answer."""

    def __init__(self) -> None:
        self.url = ""
        self.says: dict[str, Any] = {}  # by debt
        self.asked: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        about = await request.json()
        self.asked.append(about)
        says = self.says.get(about["debt"], {"answer": "send"})
        if isinstance(says, asyncio.Event):
            await says.wait()
            says = {"answer": "send"}
        return web.Response(status=says) if isinstance(says, int) else web.json_response(says)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address."""
        app = web.Application()
        app.router.add_post("/may", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/may"
        finally:
            await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lender() -> AsyncIterator[Lender]:
    it = Lender()
    async with it.serving() as it.url:
        yield it


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    postgres: Any, kafka: Any, lender: Lender, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Scene, Core]]:
    home: Path = tmp_path_factory.mktemp("plans")
    token = home / "question-token"
    token.write_text(TOKEN)
    question = {"url": lender.url, "token": f"file:{token}", "cache_seconds": 0}
    async with told_facts(postgres, kafka, home, {"lenders": {"acme": {"question": question}}}) as it:
        yield it


async def test_a_failed_debit_is_told_at_once_and_a_payment_ends_the_rest(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    await core.tell(planned(1, there()), fact("repayment.debit_failed.v1", 1, instalment=1))
    found = await stands(scene, 1, due="delivered")
    assert {name: state for name, state in found.items() if name != "due"} == {
        "overdue_early": "scheduled", "overdue_mid": "scheduled", "overdue_late": "held fact_missing",
    }  # fmt: skip
    (sent,) = [each for each in scene.log() if each["recipient"] == address("sms", 1)]
    assert "100.00" in json.dumps(sent)
    await core.tell(fact("repayment.paid.v1", 1, 0, instalment=1))
    await stands(scene, 1, overdue_early="cancelled paid", overdue_mid="cancelled paid", due="delivered")


async def test_what_is_paid_before_it_leaves_does_not_leave(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    await core.tell(
        planned(2, there()),
        fact("repayment.paid.v1", 2, instalment=1),
        fact("repayment.debit_failed.v1", 2, 20, instalment=1),
    )
    await core.tell(planned(3, there() + 5 * DAY))
    await stands(scene, 3, d3="scheduled")
    assert await standing(scene, 2) == {}
    assert not [each for each in scene.log() if each["recipient"] == address("sms", 2)]


async def test_a_channel_that_is_unwanted_is_left_out_of_what_is_requested(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    await core.tell(
        *(("borrower.opted_out.v1", {"lender": "acme", "borrower_ref": f"borrower-{number}", "as_of": moment(30),
                                     "channel": "sms"}) for number in (60, 61))
    )  # fmt: skip
    await until(
        lambda: scene.value("select count(*) = 2 from tombstone where kind = 'channel_out'"), "what is unwanted", 30
    )
    await scene.world.publish([requested(60, ["sms", "push"]), requested(61)])
    assert await scene.ended(60) == ("delivered", None)
    assert scene.sent(60) == ["fcm"]
    assert await scene.ended(61) == ("suppressed", "opted_out")
    assert scene.sent(61) == []
    rules = await scene.sql("select rule from decision where verdict = 'skip'")
    assert [row[0] for row in rules] == ["channel_opted_out"] * 2


async def test_it_tells_what_it_plans_by_its_debt_and_stage(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    await core.tell(planned(4, there() + 20 * DAY))
    await stands(scene, 4, d7="scheduled")
    await scene.relayed()
    told = [each["data"] for each in await scene.world.read(scene.world.topics.events)]
    mine = [each for each in told if each.get("request_id", "").startswith("debt-4/")]
    assert {each["request_id"] for each in mine} >= {"debt-4/1/d7", "debt-4/1/d3", "debt-4/1/due"}
    assert {each["source"] for each in mine} == {"/core"}
    late = [each for each in mine if "/overdue_late/" in each["request_id"]]
    assert {(each["state"], each.get("reason")) for each in late} == {("held", "fact_missing")}
    assert {each["state"] for each in mine if each not in late} == {"scheduled"}


async def test_a_storm_of_one_borrower_is_taken_beside_what_he_is_sent_and_again_changes_nothing(
    stage: tuple[Scene, Core],
) -> None:
    scene, core = stage
    who = {"lender": "acme", "borrower_ref": "borrower-170"}
    facts = [planned(170, there() + 20 * DAY, 3000)]
    for n in range(200):
        back = 2000 - 6 * n
        hours = {"start": "18:00", "end": "19:00"} if n % 2 else {"start": "09:00", "end": "20:00"}
        facts += [
            fact("repayment.paid.v1", 170, back, instalment=1, outstanding=f"{n + 1}.00"),
            fact("debt.stopped.v1", 170, back - 1, reason="disputed"),
            ("borrower.preference_changed.v1", {**who, "as_of": moment(back - 2), "times": [hours]}),
            fact("debt.resumed.v1", 170, back - 3, reason="disputed"),
            ("borrower.opted_out.v1", {**who, "as_of": moment(back - 4), "program": "education"}),
            fact("repayment.debit_failed.v1", 170, back - 5, instalment=1),
        ]
    letters = await scene.value("select count(*) from deadletter")

    asked = asyncio.create_task(
        scene.world.publish([requested(1700 + n, borrower={"ref": "borrower-170"}) for n in range(40)])
    )
    # The last of them on the same partition: what is planned of it says that all before it was read.
    last = planned(171, there() + 5 * DAY)
    last[1]["borrower"]["ref"] = "borrower-170"
    await core.tell(*facts, last)
    await asked
    await until(lambda: scene.value("select count(*) > 0 from reminder where debt = 'debt-171'"), "all facts", 60)
    for n in range(40):
        assert await scene.ended(1700 + n) == ("delivered", None)
        assert len(scene.sent(1700 + n)) == 1
    assert await standing(scene, 170) == {
        "d7": "scheduled", "d3": "scheduled", "due": "scheduled", "overdue_early": "scheduled",
        "overdue_mid": "scheduled", "overdue_late": "held fact_missing",
    }  # fmt: skip
    assert await scene.value("select count(*) from deadletter") == letters
    assert await scene.value("select deadlocks from pg_stat_database where datname = current_database()") == 0

    everything = (
        "select array_agg((l.id, l.state, l.reason, l.at, l.seq) order by l.id)::text from live l"
        " join reminder r on r.id = l.id where r.debt = 'debt-170'"
    )
    before = await scene.value(everything)
    again = planned(172, there() + 5 * DAY)
    again[1]["borrower"]["ref"] = "borrower-170"
    await core.tell(*facts, last, again)
    await until(lambda: scene.value("select count(*) > 0 from reminder where debt = 'debt-172'"), "all facts", 60)
    assert await scene.value(everything) == before


@pytest.mark.parametrize("kind", ["repayment.paid.v1", "debt.stopped.v1", "borrower.opted_out.v1"])
async def test_a_stop_that_cannot_be_read_holds_its_borrower(stage: tuple[Scene, Core], kind: str) -> None:
    scene, core = stage
    number = 10 + len(kind)
    await core.tell(planned(number, there() + 20 * DAY))
    await stands(scene, number, d7="scheduled")
    await core.tell((kind, {"lender": "acme", "borrower_ref": f"borrower-{number}", "as_of": "yesterday"}))
    await stands(scene, number, d7="held stop_unreadable")


async def test_bad_facts_are_dead_letters_and_hold_up_nobody(stage: tuple[Scene, Core]) -> None:
    scene, core = stage
    bad = [
        planned(50, there(), params={}),  # the words need a way to pay
        planned(51, there(), currency="XXX"),
        ("repayment.watermark.v2", {"lender": "acme", "borrower_ref": "borrower-53"}),
        planned(54, there(), -3600),
    ]
    before = await scene.deadletters()
    await core.tell(*bad, planned(55, there() + 20 * DAY))
    await stands(scene, 55, d7="scheduled")

    async def all_of_them() -> list[dict[str, Any]] | None:
        found = await scene.deadletters()
        return found if len(found) == len(before) + len(bad) else None

    letters = (await until(all_of_them, "dead letters"))[len(before) :]
    assert sorted((each["reason"], each["field"]) for each in letters) == [
        ("bad_date", "data.as_of"), ("bad_params", "data.params.pay_url"), ("unknown_currency", "data.currency"),
        ("unknown_version", "type"),
    ]  # fmt: skip


async def test_what_is_stale_waits_for_a_heartbeat_of_its_source_in_its_partition(stage: tuple[Scene, Core]) -> None:
    """The core fell silent four days ago: nobody knows what was paid since."""
    scene, others = stage
    core = others.another("/silent-core")
    # Three days before it is due was yesterday there; it is good for today, too.
    await core.tell(planned(80, there() + 2 * DAY, 4 * 86_400))
    await stands(scene, 80, d3="held stale_facts")
    partition = await scene.value("select partition from debt_fact where debt = 'debt-80'")
    await others.beat(partition)
    elsewhere = [each for each in range(4) if each != partition]
    await core.beat(*elsewhere)

    async def heard() -> bool | None:
        rows = await scene.sql(
            "select partition from fact_watermark where source = '/silent-core' and as_of > $1", TODAY
        )
        return {row["partition"] for row in rows} == set(elsewhere) or None

    await until(heard, "heartbeats elsewhere", 30)
    await asyncio.sleep(3)  # more than a round of recovery: nobody may have been released by those
    assert (await standing(scene, 80))["d3"] == "held stale_facts"
    assert not [each for each in scene.log() if each["recipient"] == address("sms", 80)]
    code, listed = await scene.gateway.command("sources", "--json", "--limit", "1")
    assert code == 0, listed
    oldest = json.loads(listed.splitlines()[0])
    assert {name: oldest[name] for name in ("source", "partition", "beats")} == {
        "source": "/silent-core", "partition": partition, "beats": False,
    }  # fmt: skip
    assert oldest["seconds"] >= 4 * 86_400
    await core.beat(partition)
    await stands(scene, 80, d3="delivered")
    rules = await scene.sql(
        "select verdict, rule from decision d join reminder r on r.id = d.reminder"
        " where r.debt = 'debt-80' order by d.at"
    )
    assert [tuple(row) for row in rules] == [("hold", "max_fact_age"), ("send", "none")]


async def test_its_lender_has_the_last_word(stage: tuple[Scene, Core], lender: Lender) -> None:
    """Paid at the counter a minute ago, which the core does not know yet."""
    scene, core = stage
    lender.says |= {"debt-70": {"answer": "never", "reason": "paid"}, "debt-71": 503}
    lender.says["debt-72"] = {"answer": "later"}
    for number in (70, 71, 72, 73):
        await core.tell(planned(number, there()), fact("repayment.debit_failed.v1", number, instalment=1))
    await stands(scene, 73, due="delivered")
    await stands(scene, 70, due="cancelled paid")
    for number in (71, 72):
        await stands(scene, number, due="scheduled deferred")
    rules = await scene.sql(
        "select r.debt, d.rule, d.attempt from decision d join reminder r on r.id = d.reminder"
        " where r.debt = any($1) and r.stage = 'due'",
        ["debt-70", "debt-71", "debt-72", "debt-73"],
    )
    assert {row["debt"]: row["rule"] for row in rules} == {
        "debt-70": "question_never", "debt-71": "question_failed", "debt-72": "question_later", "debt-73": "none",
    }  # fmt: skip
    assert [row["debt"] for row in rules if row["attempt"] is not None] == ["debt-73"]
    sent = {each["recipient"] for each in scene.log()}
    assert sent.isdisjoint(address("sms", number) for number in (70, 71, 72))
    [about] = [each for each in lender.asked if each["debt"] == "debt-73"]
    assert about == {
        "lender": "acme", "borrower_ref": "borrower-73", "debt": "debt-73", "instalment": 1, "stage": "due",
    }  # fmt: skip
    await scene.world.publish([requested(901)])
    assert await scene.ended(901) == ("delivered", None)
    assert {each["debt"] for each in lender.asked} <= {f"debt-{number}" for number in range(100)}, "of plans only"


async def test_its_lender_says_of_one_of_a_message_that_it_may_not_be_told(
    stage: tuple[Scene, Core], lender: Lender
) -> None:
    """That one ends, and the message leaves without it."""
    scene, core = stage
    waits = lender.says["debt-75"] = asyncio.Event()
    lender.says["debt-76"] = {"answer": "never", "reason": "paid"}
    who: Any = {"borrower_ref": "borrower-75"}
    await core.tell(planned(75, there()), fact("repayment.debit_failed.v1", 75, instalment=1))
    await until(lambda: _asked_of(lender, "debt-75"), "the question about the first", 30)
    await core.tell(
        planned(76, there(), borrower=planned(75, there())[1]["borrower"]),
        fact("repayment.debit_failed.v1", 76, instalment=1, **who),
    )
    await stands(scene, 76, due="held merged_into")
    waits.set()
    await stands(scene, 76, due="cancelled paid")
    await stands(scene, 75, due="delivered")
    sent = [each for each in scene.log() if each["recipient"] in (address("sms", 75), address("sms", 76))]
    assert len(sent) == 1
    assert "/76" not in json.dumps(sent)
    (rule,) = await scene.sql(
        "select d.verdict, d.rule from decision d join reminder r on r.id = d.reminder"
        " where r.debt = 'debt-76' and r.stage = 'due'"
    )
    assert tuple(rule) == ("cancel", "question_never")


async def _asked_of(lender: Lender, debt: str) -> bool:
    return any(each["debt"] == debt for each in lender.asked)


async def test_the_sums_add_up_with_what_was_planned(stage: tuple[Scene, Core]) -> None:
    """As an operator asks: the offsets of both topics, the rows, the counters."""
    scene, core = stage
    await scene.world.publish([requested(900)])
    assert await scene.ended(900) == ("delivered", None)
    await core.tell(planned(901, there() + 20 * DAY))
    await stands(scene, 901, d7="scheduled")
    await scene.relayed()
    (planned_here,) = (await scene.sql("select sum(n)::int from planned_count"))[0]
    assert planned_here >= 3
    done = await asyncio.to_thread(sums, scene.gateway, "--metrics", f"{scene.gateway.url}/metrics")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(rf"reminders planned, by intake's counts +│ {planned_here} ", done.stdout)
    assert re.search(r"records not read yet, by the broker +│ 0 ", done.stdout)


async def test_while_nobody_can_say_what_else_is_due_nothing_planned_leaves(stage: tuple[Scene, Core]) -> None:
    """And what was requested leaves all the same."""
    scene, core = stage
    await scene.sql("alter table merged rename to mislaid")
    try:
        await core.tell(planned(90, there()), fact("repayment.debit_failed.v1", 90, instalment=1))

        async def looked_in_vain() -> bool:
            return [each["event"] for each in events_in(scene.gateway)].count("merge_failed") > 1

        await until(looked_in_vain, "two looks in vain", 60)
        await scene.world.publish([requested(91)])
        assert await scene.ended(91) == ("delivered", None)
        assert not [each for each in scene.log() if each["recipient"] == address("sms", 90)]
    finally:
        await scene.sql("alter table mislaid rename to merged")
    await stands(scene, 90, due="delivered")


async def test_whoever_is_asked_when_it_stops_keeps_nothing_in_its_hands(
    stage: tuple[Scene, Core], lender: Lender
) -> None:
    """It stops the gateway: only the next one comes after it."""
    scene, core = stage
    lender.says["debt-74"] = never = asyncio.Event()
    await core.tell(planned(74, there()), fact("repayment.debit_failed.v1", 74, instalment=1))

    async def asked() -> bool:
        return any(each["debt"] == "debt-74" for each in lender.asked)

    await until(asked, "a question", 30)
    assert await scene.gateway.child.stop(within=25) == 0
    never.set()
    assert await scene.sql("select 1 from claim") == []
    assert (await standing(scene, 74))["due"] in ("scheduled", "scheduled deferred")
    assert not [each for each in scene.log() if each["recipient"] == address("sms", 74)]


async def test_what_nobody_reads_is_missing_from_the_sums(stage: tuple[Scene, Core]) -> None:
    """The broker's side knows the topic of the facts too.  The gateway has stopped."""
    scene, core = stage
    await core.tell(planned(902, there() + 20 * DAY))
    done = await asyncio.to_thread(sums, scene.gateway)
    assert re.search(r"records not read yet, by the broker +│ 1 ", done.stdout), done.stdout
