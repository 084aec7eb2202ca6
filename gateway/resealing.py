"""Sealing anew: every value in the ledger under the current key, while the gateway writes and sends.

A pass walks each table by its key and replaces what another key sealed, some rows in one short transaction.  There is
no state beside the ledger: killed anywhere, it begins at the front and passes over what is done.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.intake.letters import LETTER_FIELD
from gateway.intake.planner import BORROWER_FIELD, DEBT_FIELD
from gateway.ledger import reseal
from gateway.ledger.database import Connection, Database
from gateway.ledger.reseal import TABLES, Position, Replacement, Seen, Table
from gateway.personal import RECEIPT_FIELD, REPLY_FIELD, SEALED_FIELD, WORDS_FIELD
from gateway.sealing import KeyUnknown, SealBroken, Sealer, key_id_of

# The field that a table's values are bound to, beside the id of their row.
FIELDS: Final[Mapping[str, str]] = {
    "reminder": SEALED_FIELD,
    "decision": WORDS_FIELD,
    "receipt": RECEIPT_FIELD,
    "reply": REPLY_FIELD,
    "deadletter": LETTER_FIELD,
    "borrower_fact": BORROWER_FIELD,
    "debt_fact": DEBT_FIELD,
    "revision": SEALED_FIELD,
}

_LOOK_ROWS: Final = 1000
# What is held in memory and locked at once.
_ROWS: Final = 100
_BYTES: Final = 4 * 1024 * 1024
_PASSES: Final = 5
_PAUSE_SECONDS: Final = 1.0
_EXAMPLES: Final = 5

KeyId = int | None  # None: the value is not of our form


@dataclass
class Walked:
    """One pass: what it found by (table, key id), and what it did about it."""

    values: Counter[tuple[str, KeyId]] = field(default_factory=Counter)
    resealed: Counter[tuple[str, KeyId]] = field(default_factory=Counter)
    missed: int = 0  # held or changed by others meanwhile
    # Ids of rows whose value does not open although its key is here; some of them, by table.
    broken: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[int]] = field(default_factory=dict)

    def under(self, key_id: KeyId) -> int:
        return sum(n for (_, each), n in self.values.items() if each == key_id)

    def under_others(self, current: int) -> int:
        """How many it found under any key but the current one."""
        return sum(n for (_, key_id), n in self.values.items() if key_id != current)

    @property
    def key_ids(self) -> set[KeyId]:
        return {key_id for _, key_id in self.values}


class Resealing:
    """`rows_per_second` bounds what is written, 0 does not; `on_progress(table, seen, resealed)` hears of each step."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        rows_per_second: float = 0.0,
        on_progress: Callable[[str, int, int], None] = lambda *_: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._rate = rows_per_second
        self._on_progress = on_progress
        self._sleep = sleep
        self._monotonic = monotonic
        self._free_at = 0.0

    async def count(self) -> Walked:
        """How many values each table has under which key; writes nothing."""
        return await self._walk(writes=False)

    async def run(self) -> tuple[Counter[tuple[str, KeyId]], Walked]:
        """What was sealed anew, by table and former key, and the last look.

        Goes round until a look finds nothing under another key, or nothing that it can do about it: what a process
        still seals with a former key meanwhile is found by the next round.
        """
        resealed: Counter[tuple[str, KeyId]] = Counter()
        for _ in range(_PASSES):
            walked = await self._walk(writes=True)
            resealed += walked.resealed
            if not walked.under_others(self._sealer.current):
                break
            if not walked.resealed.total():
                if not walked.missed:
                    break  # what is left does not open: another look would not help
                await self._sleep(_PAUSE_SECONDS)
        return resealed, walked

    async def _walk(self, *, writes: bool) -> Walked:
        walked = Walked()
        for table in TABLES:
            after, n = reseal.START, 0
            while batch := await self._seen(table, after):
                after, n = batch[-1].at, n + len(batch)
                ids = [key_id_of(each.head) for each in batch]
                walked.values.update((table.name, key_id) for key_id in ids)
                if writes:
                    old = [each for each, key_id in zip(batch, ids, strict=True) if key_id != self._sealer.current]
                    for some in _portions(old):
                        await self._portion(table, some, walked)
                resealed = sum(count for (name, _), count in walked.resealed.items() if name == table.name)
                self._on_progress(table.name, n, resealed)
        return walked

    async def _seen(self, table: Table, after: Position) -> list[Seen]:
        async def look(connection: Connection) -> list[Seen]:
            return await reseal.seen(connection, table, after, _LOOK_ROWS)

        return await self._database.transaction(look)

    async def _portion(self, table: Table, some: Sequence[Seen], walked: Walked) -> None:
        async def read(connection: Connection) -> list[tuple[Position, bytes]]:
            return await reseal.values(connection, table, [each.at for each in some])

        by_key: dict[KeyId, list[Replacement]] = {}
        for at, sealed in await self._database.transaction(read):
            becomes = self._anew(table, at[1], sealed, walked)
            if becomes is not None:
                by_key.setdefault(key_id_of(sealed), []).append(Replacement(at, sealed, becomes))
        for key_id, replacements in by_key.items():
            await self._in_time(len(replacements))
            n = await self._replace(table, replacements)
            walked.resealed[table.name, key_id] += n
            walked.missed += len(replacements) - n

    async def _replace(self, table: Table, replacements: Sequence[Replacement]) -> int:
        async def write(connection: Connection) -> int:
            return await reseal.replace(connection, table, replacements)

        return await self._database.transaction(write)

    def _anew(self, table: Table, row: int, sealed: bytes, walked: Walked) -> bytes | None:
        """The value under the current key; None when that is what it is under, and for what does not open."""
        if key_id_of(sealed) == self._sealer.current:
            return None
        name = FIELDS[table.name]
        try:
            return self._sealer.seal(self._sealer.open(sealed, row, name), row, name)
        except KeyUnknown:
            return None  # counted by its key already
        except SealBroken:
            walked.broken[table.name] += 1
            examples = walked.examples.setdefault(table.name, [])
            if len(examples) < _EXAMPLES:
                examples.append(row)
            return None

    async def _in_time(self, rows: int) -> None:
        """Waits until as many rows as before this one have had their time."""
        if self._rate <= 0:
            return
        now = self._monotonic()
        if self._free_at > now:
            await self._sleep(self._free_at - now)
        self._free_at = max(self._free_at, now) + rows / self._rate


def _portions(seen: Sequence[Seen]) -> Iterator[list[Seen]]:
    """So many that they fit into memory; one that does not is one by itself."""
    portion: list[Seen] = []
    size = 0
    for each in seen:
        if portion and (len(portion) == _ROWS or size + each.size > _BYTES):
            yield portion
            portion, size = [], 0
        portion.append(each)
        size += each.size
    if portion:
        yield portion
