"""Redriving dead letters: their records are opened, decoded as intake decodes today, and written as intake writes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.clock import Clock
from gateway.ids import IdSource
from gateway.intake import letters
from gateway.intake.decode import Record
from gateway.intake.intake import Decodes
from gateway.intake.planner import Planner
from gateway.ledger import deadletters, redrives, workers
from gateway.ledger.commands import Command
from gateway.ledger.database import Connection, Database
from gateway.ledger.deadletters import SealedLetter
from gateway.ledger.redrives import Became, Named, Redriven
from gateway.ledger.standing import Rules
from gateway.ledger.workers import Worker
from gateway.sealing import SealBroken, Sealer
from schemas.vocabulary import Rejection

_LEASE = dt.timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Facts:
    """How the records of the topic of facts are read, and who plans by them, with ids of the one who asks."""

    topic: str
    decoder: Decodes
    planner: Callable[[Callable[[], IdSource]], Planner]


class Redriver:
    """Redrives batches of letters with this configuration's lenders and templates.

    Ids are made under a worker's number of its own, which it holds between `start` and `stop`; it claims nothing and
    sends nothing: what it accepts waits in the queue as anything that intake has read.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        decoder: Decodes,
        sealer: Sealer,
        rules: Rules,
        facts: Facts | None = None,
    ) -> None:
        """`facts` read what stands on the topic of facts, where there is one; everything else is the `decoder`'s."""
        self._database = database
        self._clock = clock
        self._decoder = decoder
        self._facts = facts
        self._sealer = sealer
        self._rules = rules
        self._worker: Worker | None = None
        self._ids: IdSource | None = None

    async def start(self) -> None:
        """Raises NoWorkerNumber."""
        async with self._database.connection() as connection:
            self._worker = await workers.register(connection, _LEASE, relays=False)
        self._ids = IdSource(self._worker.number, self._milliseconds, after=self._ids)

    async def stop(self) -> None:
        if self._worker is not None:
            async with self._database.connection() as connection:
                await workers.retire(connection, self._worker.id)

    async def batch(self, ids: Sequence[int], author: str, *, keep: bool) -> list[Redriven]:
        """What becomes of these letters, in the order of their ids, in one transaction; nothing is kept without `keep`.

        So long as nothing is kept, two letters that would answer each other (the same request twice) do so only within
        a batch.
        """
        source = await self._lease()
        now = self._clock.now()
        async with self._database.connection() as connection:
            found = await deadletters.sealed(connection, ids)
        decoded: dict[int, Command] = {}
        broken: list[int] = []
        for each in found:
            record = self._record(each)
            if record is None:
                broken.append(each.id)
            else:
                decoded[each.id] = self._decoder_of(record.topic).decode(record, source, now).command
        may_hold = [each.id for each in found if each.source is None or each.reason == Rejection.UNREADABLE_STOP]

        async def work(connection: Connection) -> redrives.Redrive:
            return await redrives.redrive(
                connection, decoded, author, now, self._rules, may_hold, self._names, self._planner
            )

        made = await (self._database.transaction(work) if keep else self._database.rehearse(work))
        missing = set(ids) - {each.id for each in found}
        made.letters += [Redriven(each, Became.SEALED) for each in broken]
        made.letters += [Redriven(each, Became.MISSING) for each in missing]
        was = {each.id: each.reason for each in found}
        told = [replace(each, was=was.get(each.letter)) for each in made.letters]
        if not keep:  # the ids of reminders that will not be
            told = [replace(each, reminder=None) if each.became is Became.ACCEPTED else each for each in told]
        return sorted(told, key=lambda each: each.letter)

    def _decoder_of(self, topic: str) -> Decodes:
        return self._facts.decoder if self._facts is not None and topic == self._facts.topic else self._decoder

    @property
    def _planner(self) -> Planner | None:
        return None if self._facts is None else self._facts.planner(self._made)

    def _made(self) -> IdSource:
        assert self._ids is not None
        return self._ids

    async def _lease(self) -> IdSource:
        """The ids of a number that nobody else has: it is lost when a batch has taken too long, and leased anew."""
        assert self._worker is not None
        async with self._database.connection() as connection:
            renewed = await workers.renew(connection, self._worker.id, _LEASE)
        if not renewed:
            await self.start()
        assert self._ids is not None
        return self._ids

    def _milliseconds(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _record(self, letter: SealedLetter) -> Record | None:
        """The record as it stood in Kafka; None when it does not open."""
        try:
            kept = letters.unseal(letter.sealed, letter.id, self._sealer)
        except SealBroken:
            return None
        return Record(
            letter.topic, letter.partition, letter.offset, kept.key, kept.value, kept.headers, kept.timestamp_ms
        )

    def _names(self, letter: int, reason: str, sealed: bytes) -> Named | None:
        record = self._record(SealedLetter(letter, reason, None, "", 0, 0, sealed))
        return None if record is None else Named(*letters.named(record, reason))
