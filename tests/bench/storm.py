"""Facts of one borrower in a storm, through real Kafka and the whole gateway, beside requests for him that are sent.

`make bench ARGS="storm"`.  First as fast as they come, then at a steady 1,000 a second.  Fails where a fact is not
taken, where a request is not sent, and on any deadlock.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from gateway.dev.host import StackError
from tests.bench.contestants import Gateway
from tests.bench.measure import Cpu
from tests.bench.stage import Stage, Topics, stage
from tests.stack.gateway import requested

PER_SECOND: Final = 1000
_REQUESTS_PER_SECOND: Final = 20
_WHO: Final = {"lender": "acme", "borrower_ref": "stormed"}
_DEBT: Final = {**_WHO, "debt": "loan-1"}
_TICK: Final = 0.02
_WITHIN: Final = 120.0
_KINDS: Final = 8  # of facts that follow each other
_TAKEN: Final = "select coalesce(sum(next - first), 0) from intake_offset where topic = $1"
_SENT: Final = """
select (select count(*) from ending where state = 'delivered') = $1 and (select count(*) from attempt) = $1
"""
_DEADLOCKS: Final = "select deadlocks from pg_stat_database where datname = current_database()"
_COUNTED_WITHIN: Final = 1.5  # seconds until Postgres has told its statistics


class Found(Struct):
    """One storm.  `behind` is the most facts that were acknowledged and not yet taken, `seconds_behind` how long
    it took to take the rest when the last was acknowledged.
    """

    facts: int
    asked: int  # a second; 0 for as fast as they come
    per_second: float
    behind: int
    seconds_behind: float
    requests: int
    python_us: float  # for each fact, the requests beside it included
    postgres_us: float
    deadlocks: int


class Told(Gateway):
    """The gateway with a topic of facts."""

    facts = ""
    requests = 0  # that were made of it for the same borrower

    def kafka(self, topics: Topics) -> dict[str, Any]:
        return {**super().kafka(topics), "repayments_topic": self.facts}

    async def _start(self, dsn: str) -> None:
        self.facts = self.topics.requests.replace("requests", "facts")
        await self.stage.kafka.create_topics({self.facts: 4})
        await super()._start(dsn)

    async def taken(self) -> int:
        return int(await self._connection.fetchval(_TAKEN, self.facts))

    async def sent(self, n: int) -> bool:
        """Whether `n` requests have ended delivered, each by one attempt."""
        return bool(await self._connection.fetchval(_SENT, n))

    async def deadlocks(self) -> int:
        await asyncio.sleep(_COUNTED_WITHIN)
        return int(await self._connection.fetchval(_DEADLOCKS))

    async def check(self) -> None:
        """Raises where a fact was refused or nothing is planned in the end."""
        letters = await self._connection.fetchval("select count(*) from deadletter")
        planned = await self._connection.fetchval("select count(*) from live where occasion is not null")
        if letters or not planned:
            raise StackError(f"{letters} dead letters, {planned} reminders planned")


def facts(first: int, n: int) -> Iterator[dict[str, Any]]:
    """Each changes something, and the last of each kind leaves him owing, reachable and not stopped."""
    begun = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    if first == 0:
        yield _event(0, "repayment.planned.v1", {
            "lender": "acme", "debt": "loan-1", "currency": "CNY", "params": {"pay_url": "https://pay.example.com/a"},
            "borrower": {
                "ref": "stormed", "locale": "zh-CN", "timezone": "Asia/Shanghai", "jurisdiction": "CN",
            },
            "contacts": _contacts(0), "instalments": _instalments(0),
        }, begun)  # fmt: skip
    for k in range(first + (first == 0), first + n):
        yield _event(k, *_fact(k), begun + k * dt.timedelta(milliseconds=50))


def _fact(k: int) -> tuple[str, dict[str, Any]]:
    turn = k // _KINDS
    match k % _KINDS:
        case 0:
            return "repayment.paid.v1", {**_DEBT, "instalment": 1, "outstanding": f"{10 + turn % 80}.00"}
        case 1:
            return "debt.stopped.v1", {**_DEBT, "reason": "disputed"}
        case 2:
            return "repayment.rescheduled.v1", {**_DEBT, "instalments": _instalments(turn % 3)}
        case 3:
            return "repayment.paid.v1", {**_DEBT, "instalment": 2, "outstanding": "0" if turn % 2 else "70.00"}
        case 4:
            return "debt.resumed.v1", {**_DEBT, "reason": "disputed"}
        case 5:
            return "borrower.contact_changed.v1", {**_WHO, "contacts": _contacts(turn % 2)}
        case 6:
            hours = {"start": "18:00", "end": "19:00"} if turn % 2 else {"start": "09:00", "end": "20:00"}
            return "borrower.preference_changed.v1", {**_WHO, "times": [hours]}
        case _:
            return "repayment.debit_failed.v1", {**_DEBT, "instalment": 1}


def _event(k: int, kind: str, data: dict[str, Any], as_of: dt.datetime) -> dict[str, Any]:
    said = {**data, "as_of": as_of.isoformat()}
    return {"specversion": "1.0", "id": f"fact-{k}", "source": "/core", "type": kind, "data": said}


def _contacts(which: int) -> list[dict[str, str]]:
    return [{"channel": "sms", "address": f"+861390000000{which}"}, {"channel": "push", "address": f"token-{which}"}]


def _instalments(later: int) -> list[dict[str, Any]]:
    due = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=20)
    return [
        {"number": 1, "due_date": due.isoformat(), "amount": "100.00"},
        {"number": 2, "due_date": (due + dt.timedelta(days=30 + later)).isoformat(), "amount": "100.00"},
    ]


async def measure(gateway: Told, first: int, n: int, asked: int) -> Found:
    """`first` facts have been told before.  `asked` a second, or 0.  Raises StackError where something is not taken."""
    here = gateway.stage
    cpu, begun = Cpu.now(here, gateway.child), time.monotonic()
    over = asyncio.Event()
    beside = asyncio.create_task(_requests(here, gateway.topics.requests, first, over))
    acknowledged = behind = 0

    async def tell() -> None:
        nonlocal acknowledged
        for k, each in enumerate(facts(first, n)):
            if asked and (early := begun + k / asked - time.monotonic()) > 0:
                await asyncio.sleep(early)
            sent = await here.producer.send(gateway.facts, msgspec.json.encode(each), key=b"stormed")
            sent.add_done_callback(counts)

    def counts(done: asyncio.Future[Any]) -> None:
        nonlocal acknowledged
        done.result()
        acknowledged += 1

    telling = asyncio.create_task(tell())
    last_acknowledged = 0.0
    while (taken := await gateway.taken() - first) < n:
        behind = max(behind, acknowledged - taken)
        if acknowledged < n:
            last_acknowledged = time.monotonic()
        if time.monotonic() > begun + _WITHIN:
            raise StackError(f"{taken} of {n} facts after {_WITHIN:.0f} s")
        await asyncio.sleep(_TICK)
    ended = time.monotonic()
    await telling
    over.set()
    requests = await beside
    gateway.requests += requests
    used = Cpu.now(here, gateway.child)
    async with asyncio.timeout(_WITHIN):
        while not await gateway.sent(gateway.requests):
            await asyncio.sleep(_TICK)
    await gateway.check()
    return Found(
        n, asked, n / (ended - begun), behind, max(ended - last_acknowledged, 0.0), requests,
        1e6 * (used.process - cpu.process) / n, 1e6 * (used.postgres - cpu.postgres) / n, await gateway.deadlocks(),
    )  # fmt: skip


async def _requests(here: Stage, topic: str, first: int, over: asyncio.Event) -> int:
    """What upstream asks for, for the same borrower, is sent meanwhile; returns how many."""
    n = 0
    while not over.is_set():
        await here.publish(topic, [requested(first + n, borrower={"ref": "stormed"})])
        n += 1
        await asyncio.sleep(1 / _REQUESTS_PER_SECOND)
    return n


async def show(n: int, console: Console) -> None:
    console.print("real Kafka, real Postgres with fsync; the provider is a bare uvloop server")
    table = Table(title="facts of one borrower", title_justify="left")
    for column in ("facts", "asked/s", "taken/s", "most behind", "s to catch up", "requests sent", "µs of Python",
                   "µs of Postgres", "deadlocks"):  # fmt: skip
        table.add_column(column, justify="right")
    found = []
    async with stage() as here, Told(here) as gateway:
        told = 0
        for asked in (0, 0, PER_SECOND, PER_SECOND):
            found.append(await measure(gateway, told, n, asked))
            told += n
    for each in found:
        table.add_row(
            f"{each.facts:,}", f"{each.asked:,}" if each.asked else "all", f"{each.per_second:,.0f}",
            f"{each.behind:,}", f"{each.seconds_behind:.2f}", str(each.requests), f"{each.python_us:,.0f}",
            f"{each.postgres_us:,.0f}", str(each.deadlocks),
        )  # fmt: skip
    console.print(table)
    console.print(msgspec.json.encode(found).decode(), soft_wrap=True, markup=False, highlight=False)
    if any(each.deadlocks for each in found):
        raise StackError("there were deadlocks")
