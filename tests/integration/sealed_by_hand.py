"""A ledger with sealed values of our own, and the command that seals them anew, as a process."""

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import yaml

from gateway.ids import IdSource
from gateway.ledger.database import Database
from gateway.ledger.reseal import TABLES
from gateway.resealing import FIELDS
from gateway.sealing import Sealer

ONE, TWO, INDEX = b"1" * 32, b"2" * 32, b"i" * 32
INSERT: Final[Mapping[str, str]] = {
    "reminder": """insert into reminder (id, subject, source, request_id, lender, borrower, debt, stage, step,
        stage_key, template, lane, ladder, send_at, not_after, state_as_of, received_at, topic, partition, "offset",
        sealed) values ($1, 's', 'x', 'r', 'l', 'b', 'd', 'd3', '', 'k', 't', 'bulk', 's', now(), now(), now(), now(),
        't', 0, 0, $2)""",
    "decision": """insert into decision (reminder, attempt, at, verdict, rule, inputs, sealed)
        values ($1::bigint / 4, $1, now(), 'send', 'none', '{}', $2)""",
    "receipt": """insert into receipt (id, provider, kind, code, received_at, sealed)
        values ($1, 'p', 'receipt', 'c', now(), $2)""",
    "reply": "insert into reply (id, address, sealed) values ($1, 'a', $2)",
    "deadletter": """insert into deadletter (id, reason, topic, partition, "offset", hash, at, sealed)
        values ($1, 'not_json', 't', 0, $1, 'h', now(), $2)""",
    "borrower_fact": "insert into borrower_fact (subject, id, sealed) values (int8send($1::bigint), $1, $2)",
    "debt_fact": "insert into debt_fact (subject, debt, id, sealed) values ('s', $1::bigint::text, $1, $2)",
    "revision": "insert into revision (reminder, sealed) values ($1, $2)",
}


@dataclass
class Ledger:
    """A ledger and the values that were sealed into it."""

    dsn: str
    database: Database
    connection: Any
    values: dict[tuple[str, int], bytes] = field(default_factory=dict)
    ids: IdSource = field(default_factory=lambda: IdSource(5))

    async def add(self, sealer: Sealer, table: str, n: int = 1, size: int = 20) -> list[int]:
        added = []
        for _ in range(n):
            row = self.ids.next(7)
            value = os.urandom(size)
            await self.connection.execute(INSERT[table], row, sealer.seal(value, row, FIELDS[table]))
            self.values[table, row] = value
            added.append(row)
        return added

    async def opened(self, sealer: Sealer) -> dict[tuple[str, int], bytes]:
        """Every value there is, by table and row; it must open."""
        found = {}
        for table in TABLES:
            query = f"select {table.bound}, sealed from {table.name} where sealed is not null"
            for row, sealed in await self.connection.fetch(query):
                found[table.name, row] = sealer.open(sealed, row, FIELDS[table.name])
        return found

    async def versions(self) -> list[Any]:
        """Changes when any row is written."""
        return [await self.connection.fetch(f"select ctid, xmin from {each.name}") for each in TABLES]


@asynccontextmanager
async def opened_ledger(dsn: str) -> AsyncIterator[Ledger]:
    opened = Database(dsn, size=2, statement_timeout_ms=10_000)
    await opened.open()
    connection = await asyncpg.connect(dsn)
    try:
        yield Ledger(dsn, opened, connection)
    finally:
        connection.terminate()
        await opened.close()


def old() -> Sealer:
    return Sealer({1: ONE}, 1, INDEX)


def both() -> Sealer:
    return Sealer({1: ONE, 2: TWO}, 2, INDEX)


def new() -> Sealer:
    return Sealer({2: TWO}, 2, INDEX)


class Command:
    """`reminder-gateway reseal` as a process, with a configuration of its own."""

    def __init__(self, dsn: str, home: Path) -> None:
        self.path = home / "gateway.yaml"
        self.environ = {**os.environ, "DSN": dsn, "INDEX": _text(INDEX), "ONE": _text(ONE), "TWO": _text(TWO)}
        self.tree: dict[str, Any] = {
            "mode": "simulate",
            "database": {"dsn": "env:DSN"},
            "kafka": {"bootstrap": "127.0.0.1:1"},
            "http": {"public_url": "https://us.example.com"},
            "sealing": {"keys": {1: "env:ONE", 2: "env:TWO"}, "current": 2, "index_key": "env:INDEX"},
            "lenders": {"acme": {"name": "Acme", "routes": {"push": "fcm"}}},
            "providers": {},
        }
        self.tree["lenders"]["acme"]["routes"] = {"sms": "twilio"}
        self.tree["providers"]["twilio"] = {
            "adapter": "twilio_sms",
            "settings": {
                "base_url": "http://127.0.0.1:9", "account_sid": "AC1", "auth_tokens": ["env:ONE"],
                "sender": "+15005550006",
            },
            "callback_tokens": ["env:TOKEN"],
        }  # fmt: skip
        self.environ["TOKEN"] = "t" * 32
        self.write()

    def write(self) -> None:
        self.path.write_text(yaml.safe_dump(self.tree))

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, "--config", str(self.path), env=self.environ,
            stdout=pipe, stderr=pipe,
        )  # fmt: skip

    async def run(self, *arguments: str) -> tuple[int, str]:
        process = await self.start(*arguments)
        out, err = await process.communicate()
        text = (out + err).decode()
        assert "Traceback" not in text, text
        assert not [each for each in (ONE, TWO, INDEX) if _text(each) in text]
        return process.returncode or 0, text


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
