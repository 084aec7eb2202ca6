"""Half of a request has come to Postgres and the rest never will: what its transaction holds is let go."""

from __future__ import annotations

import asyncio
import struct

import pytest

from gateway.ledger.database import Database
from tests.faults.harness import eventually

LOCKS = "select pg_try_advisory_xact_lock(4711)"
STATEMENT_MS = 500


@pytest.mark.parametrize("half", ["nothing", "part of a message", "messages without an end"])
async def test_who_vanished_in_the_middle_of_a_request_keeps_no_lock(half: str, database: str) -> None:
    """Only the last kind is not idle for Postgres: it waits for the end of the request, and no statement runs out."""
    vanished = Database(database, size=1, statement_timeout_ms=STATEMENT_MS)
    other = Database(database, size=1, statement_timeout_ms=STATEMENT_MS)
    await vanished.open()
    await other.open()

    async def free() -> bool:
        return bool((await other.fetch(LOCKS))[0][0])

    try:
        async with vanished._acquired() as connection:
            if connection.get_server_version().major < 17:
                pytest.skip("before 17 only the network's own keepalives find it")
            await connection.execute("begin")
            assert await connection.fetchval(LOCKS)
            wire = connection._con._transport
            parse = b"\0select 1\0" + struct.pack("!h", 0)
            message = b"P" + struct.pack("!i", 4 + len(parse)) + parse
            wire.write({"nothing": b"", "part of a message": message[:-4]}.get(half, message))
            await asyncio.sleep(0.1)
            assert not await free()
            await eventually(free, 30)
    finally:
        await other.close()
        await vanished.close()
