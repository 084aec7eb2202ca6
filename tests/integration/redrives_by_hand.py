"""Redriving by hand: a ledger that intake has filled, and a redriver that sees it later."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from gateway.clock import VirtualClock
from gateway.ids import IdSource
from gateway.intake.decode import Record
from gateway.intake.intake import Decodes
from gateway.ledger import intake, sums
from gateway.ledger.database import Database
from gateway.ledger.redrives import Redriven
from gateway.ledger.standing import Rules
from gateway.ledger.wanted import Planner
from gateway.redrive import Redriver
from gateway.sealing import Sealer
from schemas.vocabulary import Channel

SEALER: Final = Sealer({1: b"k" * 32}, 1, b"i" * 32)
RULES: Final = Rules(routes={"acme": {Channel.SMS: "p"}})


@dataclass
class Desk:
    """One topic's records, read into a ledger, and the dead letters among them."""

    ledger: Database
    clock: VirtualClock
    topic: str
    ids: IdSource = field(default_factory=lambda: IdSource(62))
    read: int = 0

    async def reads(
        self, by: Decodes, records: Sequence[tuple[bytes, bytes]], planner: Planner | None = None
    ) -> list[int]:
        """Intake reads these, each a key and a value; returns the ids of the dead letters among them."""
        kept = {self.read + n: Record(self.topic, 0, self.read + n, *each) for n, each in enumerate(records)}
        self.read += len(records)
        commands = [by.decode(each, self.ids, self.clock.now()).command for each in kept.values()]
        before = await self.value("select coalesce(max(id), 0) from deadletter")
        await self.ledger.transaction(
            lambda c: intake.write(
                c, self.topic, commands, {0: self.read}, self.clock.now(), RULES,
                seal=lambda command: by.seal(kept[command.origin.offset], command.id), planner=planner,
            )
        )  # fmt: skip
        letters = await self.ledger.fetch("select id from deadletter where id > $1 order by id", before)
        return [row[0] for row in letters]

    async def batch(self, redriver: Redriver, letters: Sequence[int], author: str, *, keep: bool) -> list[Redriven]:
        await redriver.start()
        try:
            return await redriver.batch(letters, author, keep=keep)
        finally:
            await redriver.stop()

    async def value(self, sql: str, *args: Any) -> Any:
        return (await self.ledger.fetch(sql, *args))[0][0]

    async def assert_sums(self) -> sums.Conservation:
        async with self.ledger.connection() as connection:
            found = await sums.conservation(connection)
        assert found.gaps == []
        return found


D = TypeVar("D", bound=Desk)


@asynccontextmanager
async def desk(kind: type[D], dsn: str, topic: str) -> AsyncIterator[D]:
    ledger = Database(dsn, size=4, statement_timeout_ms=10_000)
    await ledger.open()
    await ledger.fetch("insert into intake_offset values ($1, 0, 0, 0)", topic)
    yield kind(ledger, VirtualClock(dt.datetime.now(dt.UTC)), topic)
    await ledger.close()
