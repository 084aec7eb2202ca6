"""What a session must be before it may hold the ledger.  The real refusals of a real server are in test_restarts."""

from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from gateway.ledger import database


def session(major: int, durable: str = "on") -> Any:
    async def fetchval(_: str) -> str:
        return durable

    return SimpleNamespace(get_server_version=lambda: SimpleNamespace(major=major), fetchval=fetchval)


@pytest.mark.parametrize("major", [9, 13])
async def test_an_older_server_is_refused(major: int) -> None:
    with pytest.raises(database.UnsafeDatabase, match="14 or newer"):
        await database._assert_safe(session(major))


@pytest.mark.parametrize("durable", ["on", "local", "remote_write", "remote_apply"])
async def test_from_14_on_every_durable_session_will_do(durable: str) -> None:
    await database._assert_safe(session(14, durable))


async def test_a_session_that_may_lose_rows_is_refused() -> None:
    with pytest.raises(database.UnsafeDatabase, match="synchronous_commit"):
        await database._assert_safe(session(18, "off"))


@pytest.mark.parametrize(
    ("error", "repeated"),
    [
        (asyncpg.LockNotAvailableError("busy"), True),
        (asyncpg.IdleInTransactionSessionTimeoutError("idle"), True),
        (asyncpg.TransactionTimeoutError("long"), True),
        (asyncpg.ReadOnlySQLTransactionError("a standby"), True),
        (asyncpg.DeadlockDetectedError("both"), True),
        (asyncpg.AdminShutdownError("restart"), True),
        (ConnectionResetError(), True),
        (asyncpg.CheckViolationError("ours"), False),
        (asyncpg.CharacterNotInRepertoireError("ours"), False),
        (asyncpg.InsufficientPrivilegeError("ours"), False),
        (ValueError("ours"), False),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_what_says_nothing_of_our_data_is_tried_again(error: Exception, repeated: bool) -> None:
    """What is not is laid at the record's door, and an outcome that cannot be written becomes unknown."""
    assert database.worth_repeating(error) is repeated
