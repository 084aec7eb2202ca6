"""Plans through intake's own path: records of one-instalment plans are decoded and written, batch by batch.

`make bench ARGS="plans"`.  Fails where the process grows with the number of plans.
"""

from __future__ import annotations

import datetime as dt
import gc
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import psutil  # type: ignore[import-untyped]  # it ships no types
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from gateway.cadence import loading
from gateway.content import Catalogue
from gateway.ids import IdSource
from gateway.intake.cloudevents import Record
from gateway.intake.decode import LenderFacts
from gateway.intake.decode_facts import FactDecoder
from gateway.intake.planner import Planner
from gateway.ledger import intake
from gateway.ledger.commands import Told
from gateway.ledger.database import Database
from gateway.ledger.standing import Rules
from gateway.sealing import Sealer
from schemas.repayments import PLANNED
from schemas.vocabulary import Channel
from tests.bench.measure import tree_seconds
from tests.stack.postgres import PostgresServer

TOPIC: Final = "repayments.events"
BATCH: Final = 500  # what the consumer takes at once, unless told otherwise
NOW: Final = dt.datetime.now(dt.UTC).replace(hour=2, minute=0, second=0, microsecond=0)
# After the first share of the run everything that is kept once is there.
_WARM_SHARE: Final = 0.2
_FLAT_BYTES_PER_PLAN: Final = 50
_SLACK_BYTES: Final = 4 << 20  # the allocator's own
_LOOKS: Final = 20


class Found(Struct):
    """The figures of one run."""

    plans: int
    seconds: float
    reminders: int
    python_us: float  # for each plan
    postgres_us: float
    rss_mib: list[float]  # over the run, first when warm
    by_step: dict[str, float]  # wall microseconds for each plan


class Intake:
    """Decoder and planner as the gateway composes them, for one lender."""

    def __init__(self) -> None:
        sealer = Sealer({1: b"k" * 32}, 1, b"i" * 32)
        cadences = loading.load()
        self.ids = IdSource(0, lambda: int(NOW.timestamp() * 1000))

        def cadence_of(lender: str, product: str | None, at: dt.datetime) -> Any:
            return cadences.in_force("default", at.date())

        self.decoder = FactDecoder(
            lenders={"harbour": LenderFacts("Harbour Credit", "zh-CN")}, catalogue=Catalogue.load(), sealer=sealer,
            cadence_of=cadence_of,
        )  # fmt: skip
        self.planner = Planner(sealer, cadences, cadence_of, {"harbour": frozenset(Channel)}, lambda: self.ids)

    def decode(self, records: Sequence[Record]) -> list[Told]:
        found = []
        for record in records:
            command = self.decoder.decode(record, self.ids, NOW).command
            assert isinstance(command, Told)
            found.append(command)
        return found

    async def write(self, connection: Any, told: Sequence[Told]) -> intake.Result:
        following = {0: told[-1].origin.offset + 1}
        return await intake.write(connection, TOPIC, told, following, NOW, Rules(), planner=self.planner)


def record(number: int) -> Record:
    """A plan of one instalment; everybody's is due on another day of the next three weeks."""
    data = {
        "lender": "harbour", "debt": f"loan-{number}", "currency": "CNY", "as_of": NOW, "product": "cash-loan",
        "borrower": {
            "ref": f"borrower-{number}", "locale": "zh-CN", "timezone": "Asia/Shanghai", "jurisdiction": "CN",
        },
        "contacts": [
            {"channel": "sms", "address": f"+86139{number % 10**8:08}"},
            {"channel": "push", "address": f"token-{number}"},
        ],
        "instalments": [
            {"number": 1, "due_date": (NOW + dt.timedelta(days=8 + number % 21)).date(), "amount": "100.00"},
        ],
        "params": {"pay_url": f"https://pay.example.com/{number}"},
    }  # fmt: skip
    return event(number, PLANNED, data)


def event(offset: int, type_: str, data: dict[str, Any]) -> Record:
    """A record of the topic."""
    said = {"specversion": "1.0", "id": f"e-{offset}", "source": "/core", "type": type_, "data": data}
    return Record(TOPIC, 0, offset, b"", msgspec.json.encode(said), (), 0)


async def measure(postgres: PostgresServer, plans: int) -> Found:
    """Raises AssertionError where memory grows by more than an allocator's slack and some bytes for each plan."""
    name = await postgres.fresh_database()
    database = Database(postgres.dsn(name), size=1, statement_timeout_ms=60_000)
    await database.open()
    try:
        async with database.connection() as connection:
            await connection.execute(
                "insert into intake_offset (topic, partition, first, next) values ($1, 0, 0, 0)", TOPIC
            )
        it = Intake()
        # As the service does when it starts.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        process = psutil.Process()
        rss: list[int] = []
        steps = {"decode": 0.0, "write": 0.0}
        reminders = 0
        look_every = max(int(plans * (1 - _WARM_SHARE)) // _LOOKS, BATCH)
        warm = int(plans * _WARM_SHARE)
        pid = postgres.process.pid
        cpu, of_postgres = time.process_time(), tree_seconds(pid)
        for first in range(0, plans, BATCH):
            records = [record(number) for number in range(first, min(first + BATCH, plans))]
            begun = time.perf_counter()
            told = it.decode(records)
            decoded = time.perf_counter()
            result = await database.transaction(lambda c, told=told: it.write(c, told))
            steps["decode"] += decoded - begun
            steps["write"] += time.perf_counter() - decoded
            reminders += len(result.planned)
            if first >= warm + len(rss) * look_every:
                rss.append(process.memory_info().rss)
        seconds = sum(steps.values())
        used, theirs = time.process_time() - cpu, tree_seconds(pid) - of_postgres
        async with database.connection() as connection:
            assert await connection.fetchval("select count(*) from debt_fact") == plans
            assert await connection.fetchval("select count(*) from reminder") == reminders
        grown, allowed = rss[-1] - rss[0], _SLACK_BYTES + _FLAT_BYTES_PER_PLAN * (plans - warm)
        assert grown <= allowed, f"{grown} bytes more after {plans - warm} plans"
        return Found(
            plans, seconds, reminders, 1e6 * used / plans, 1e6 * theirs / plans, [each / 2**20 for each in rss],
            {step: 1e6 * spent / plans for step, spent in steps.items()},
        )  # fmt: skip
    finally:
        await database.close()
        await postgres.drop_database(name)


async def show(postgres: PostgresServer, plans: int, console: Console) -> None:
    found = await measure(postgres, plans)
    table = Table(title=f"{plans:,} plans of one instalment, in batches of {BATCH}", title_justify="left")
    for column in ("plans/s", "reminders/s", "µs of Python", "µs of Postgres", "wall by step, µs", "RSS, MiB"):
        table.add_column(column, justify="right")
    table.add_row(
        f"{plans / found.seconds:,.0f}", f"{found.reminders / found.seconds:,.0f}",
        f"{found.python_us:,.0f}", f"{found.postgres_us:,.0f}",
        "  ".join(f"{step} {us:,.0f}" for step, us in found.by_step.items()),
        f"{found.rss_mib[0]:.1f} – {max(found.rss_mib):.1f}, at last {found.rss_mib[-1]:.1f}",
    )  # fmt: skip
    console.print(table)
    console.print(msgspec.json.encode(found).decode(), soft_wrap=True, markup=False, highlight=False)
