"""Canaries in facts: names, addresses, amounts and links stand sealed, at the vendor, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio

from gateway.intake.letters import unseal
from gateway.intake.planner import BORROWER_FIELD, DEBT_FIELD
from gateway.personal import SEALED_FIELD
from tests.stack.canaries import AMOUNT, LINK, NAME, WORD, assert_nowhere_else, found, sealer_of
from tests.stack.core import DAY, Core, fact, planned, stands, there, told_facts
from tests.stack.gateway import address
from tests.stack.scene import QUICK, Scene, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEFT = "7654320.07"
FIRST = 7_655_000
MOVED = 500  # where who has moved is reached from then on


def planted() -> list[str]:
    words = [NAME, NAME.split()[1], LINK, "canary-link", AMOUNT, "7,654,321", LEFT, "7,654,320", WORD]
    for number in (*range(FIRST, FIRST + 12), FIRST + MOVED):
        words += [address("sms", number)[1:], address("sms", number)[3:], address("push", number)[:-4]]
    return words


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Scene, Core]]:
    home = tmp_path_factory.mktemp("pii_facts")
    async with told_facts(postgres, kafka, home, {**QUICK, "log_level": "debug"}) as it:
        yield it


def contacts(number: int) -> list[dict[str, str]]:
    return [{"channel": channel, "address": address(channel, number)} for channel in ("push", "sms")]


def canary(number: int, due: Any, **changes: Any) -> tuple[str, dict[str, Any]]:
    kind, data = planned(number, due, contacts=contacts(number), params={"pay_url": LINK})
    data["borrower"]["name"] = NAME
    data["instalments"][0]["amount"] = AMOUNT
    return kind, {**data, **changes}


def bad() -> Iterable[tuple[str, dict[str, Any]] | bytes]:
    """Facts that nobody can obey, with canaries where careless code would quote them."""
    number, phone = FIRST + 10, address("sms", FIRST)
    kind, good = canary(number, there())
    yield json.dumps({"specversion": "1.0", "id": "a", "source": "/core", "type": kind, "data": good}).encode()[:-9]
    yield NAME.encode()
    yield kind, {**good, phone: NAME}
    yield kind, {**good, "contacts": [{"channel": WORD, "address": phone}]}
    yield kind, {**good, "contacts": [{"channel": "sms", "address": f"{phone} {NAME}"}]}
    yield kind, {**good, "instalments": [{**good["instalments"][0], "amount": f"{AMOUNT} {NAME}"}]}
    yield kind, {**good, "instalments": [{**good["instalments"][0], "due_date": NAME}]}
    yield kind, {**good, "params": {WORD: LINK}}
    yield kind, {**good, "params": {NAME: phone}}
    yield kind, {**good, "currency": WORD}
    yield kind, {**good, "lender": phone}
    yield kind, {**good, "debt": phone}
    yield kind, {**good, "borrower": {**good["borrower"], "ref": phone}}
    yield kind, {**good, "borrower": {**good["borrower"], "timezone": WORD}}
    for name in ("repayment.paid.v1", "debt.stopped.v1", "borrower.opted_out.v1", "borrower.contact_changed.v1"):
        kind, data = fact(name, number)
        yield kind, {**data, "as_of": NAME}
        yield kind, {**data, "reason": NAME, "outstanding": AMOUNT, "contacts": [phone]}
    yield fact("repayment.paid.v1", number, outstanding=f"{AMOUNT} {NAME}", instalment=1)
    yield fact(f"repayment.{WORD}.v1", number)


async def refused(scene: Scene, n: int) -> None:
    async def all_of_them() -> bool:
        return len(await scene.deadletters()) == n

    await until(all_of_them, f"{n} dead letters", 30)


async def test_nothing_personal_of_facts_leaves_but_to_the_vendor(stage: tuple[Scene, Core], postgres: Any) -> None:
    scene, core = stage
    others = len(postgres.process.log.read_bytes())  # what other tests have made it say
    today, far, broken, blamed = FIRST, FIRST + 1, FIRST + 2, FIRST + 3
    await core.tell(canary(today, there()), fact("repayment.debit_failed.v1", today, instalment=1))
    pushed = canary(FIRST + 4, there(), contacts=contacts(FIRST + 4)[:1])
    await core.tell(pushed, fact("repayment.debit_failed.v1", FIRST + 4, instalment=1))
    await core.tell(*(canary(number, there() + 20 * DAY) for number in (far, broken)))
    await stands(scene, today, due="delivered")
    await stands(scene, FIRST + 4, due="delivered")
    await stands(scene, broken, d7="scheduled")
    # Every way in which what is known changes: revised, moved, stopped, paid.
    moved = {"lender": "acme", "borrower_ref": f"borrower-{far}", "contacts": contacts(FIRST + MOVED)}
    await core.tell(
        fact("repayment.paid.v1", far, instalment=1, outstanding=LEFT),
        ("borrower.contact_changed.v1", {**moved, "as_of": fact("", 0)[1]["as_of"]}),
        fact("debt.stopped.v1", today, reason="deceased"),
        fact("repayment.paid.v1", today, 20, instalment=1),
    )
    letters = list(bad())
    await core.tell(*letters)
    await refused(scene, len(letters))
    # What is known does not open any more, and a row that Postgres refuses and quotes.
    last = "length(sealed) - 1"
    await scene.sql(
        f"update borrower_fact set sealed = set_byte(sealed, {last}, get_byte(sealed, {last}) # 1)"
        " where subject = (select subject from debt_fact where debt = $1)",
        f"debt-{broken}",
    )
    await core.tell(fact("repayment.paid.v1", broken, instalment=1, outstanding=LEFT))
    await scene.sql(f"alter table debt_fact add constraint t check (debt <> 'debt-{blamed}') not valid")
    await core.tell(canary(blamed, there() + 20 * DAY))
    await refused(scene, len(letters) + 2)
    await stands(scene, broken, d7="held stop_unreadable")
    await until(lambda: scene.value("select count(*) >= 3 from revision"), "what is revised")
    await scene.relayed()

    said = postgres.process.log.read_bytes()[others:]
    assert await assert_nowhere_else(scene, planted(), said, f"debt-{blamed}") >= {
        "borrower_fact", "debt_fact", "occurrence", "revision", "tombstone", "paid_instalment", "deadletter",
    }  # fmt: skip


async def test_the_seals_hold_what_is_nowhere_else(stage: tuple[Scene, Core]) -> None:
    """The sweep above would also pass on a gateway that forgets everything."""
    scene, _ = stage
    sealer = sealer_of(scene)
    far, moved = f"debt-{FIRST + 1}", address("sms", FIRST + MOVED)[1:]
    (debt,) = await scene.sql("select subject, id, sealed from debt_fact where debt = $1", far)
    assert {LINK, AMOUNT, LEFT} <= set(found(planted(), sealer.open(debt["sealed"], debt["id"], DEBT_FIELD)))
    (row,) = await scene.sql("select id, sealed from borrower_fact where subject = $1", debt["subject"])
    assert {NAME, moved} <= set(found(planted(), sealer.open(row["sealed"], row["id"], BORROWER_FIELD)))
    (row,) = await scene.sql(
        "select v.reminder, v.sealed from revision v join reminder r on r.id = v.reminder"
        " where r.debt = $1 and r.stage = 'd7'", far,
    )  # fmt: skip
    opened = sealer.open(row["sealed"], row["reminder"], SEALED_FIELD)
    assert {NAME, LINK, LEFT, moved} <= set(found(planted(), opened))
    letters = await scene.sql("select id, sealed from deadletter order by id")
    quoting = [each for each in letters if found(planted(), unseal(each["sealed"], each["id"], sealer).value or b"")]
    assert len(quoting) >= len(letters) - 2
