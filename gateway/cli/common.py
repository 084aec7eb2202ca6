"""What the commands share: the option for the file, reading it, and where to write."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.ledger.database import Connection, Database

# Exit codes: 1 the work failed, 2 what was asked for is wrong and nothing was done.
FAILED: Final = 1
WRONG: Final = 2

ConfigPath = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="REMINDER_GATEWAY_CONFIG", help="The YAML file.", show_default=True),
]
DEFAULT_CONFIG: Final = Path("gateway.yaml")

_PIPE_WIDTH: Final = 160


def read(path: Path) -> Config:
    """The configuration; on problems prints every one at its key's path and exits with 2."""
    from gateway.config import ConfigError, load

    try:
        return load(path, os.environ)
    except ConfigError as error:
        for each in error.problems:
            typer.echo(str(each), err=True)
        count = len(error.problems)
        typer.echo(f"{path}: {count} problem{'s' if count > 1 else ''}", err=True)
        raise typer.Exit(WRONG) from None


def fail(message: str, code: int = FAILED) -> typer.Exit:
    """Says why on standard error; raise what it returns."""
    typer.echo(message, err=True)
    return typer.Exit(code)


def refuse(problems: Sequence[str]) -> typer.Exit:
    """Says every problem, and how many; raise what it returns."""
    for each in problems:
        typer.echo(each, err=True)
    return fail(f"{len(problems)} problem{'' if len(problems) == 1 else 's'}", WRONG)


@asynccontextmanager
async def ledger(config: Config) -> AsyncIterator[Connection]:
    """A connection to the ledger, of the schema this version knows; else says why there is none and exits with 1."""
    import asyncpg

    from gateway.ledger import schema
    from gateway.ledger.database import OneByOne

    settings = config.database
    try:
        connection: Any = await asyncpg.connect(
            settings.dsn.get_secret_value(), timeout=10, statement_cache_size=settings.statement_cache
        )
        if not settings.statement_cache:
            connection = OneByOne(connection)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise fail(f"the database cannot be reached: {named(error)}") from None
    try:
        await schema.check(connection)
        yield connection
    except schema.UnknownSchema as error:
        raise fail(str(error)) from None
    finally:
        await connection.close()


@asynccontextmanager
async def database(config: Config, statement_seconds: float | None = None) -> AsyncIterator[Database]:
    """The ledger's database as the service uses it, its schema that which this version knows.  `statement_seconds` are
    for a command that reads all of it.

    Else, and when it fails underway, says why and exits with 1.
    """
    import asyncpg

    from gateway.ledger import schema
    from gateway.ledger.database import Database, UnsafeDatabase

    settings = config.database
    opened = Database(
        settings.dsn.get_secret_value(),
        size=2,
        statement_timeout_ms=int((statement_seconds or settings.statement_timeout_seconds) * 1000),
        statement_cache=settings.statement_cache,
    )
    try:
        try:
            await opened.open()
            async with opened.connection() as connection:
                await schema.check(connection)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise fail(f"the database cannot be reached: {named(error)}") from None
        except (UnsafeDatabase, schema.UnknownSchema) as error:
            raise fail(str(error)) from None
        try:
            yield opened
        except Exception as error:
            why = unusable(error)
            if why is None:
                raise
            raise fail(why) from None
    finally:
        await opened.close()


def unusable(error: BaseException) -> str | None:
    """Why the database cannot be used; None when the error says something else."""
    import asyncpg

    from gateway.ledger.database import Conflict

    if isinstance(error, OSError | asyncpg.PostgresError | asyncpg.InterfaceError | Conflict):
        return f"the database cannot be used: {type(error).__name__}"
    return None


def named(error: BaseException) -> str:
    """The error's class, and why nothing is reached where that is known; never its text."""
    from gateway.unreachable import why

    found = why(error)
    return type(error).__name__ if found is None else f"{type(error).__name__}, {found}"


def console(*, err: bool = False) -> Console:
    """A terminal as wide as it is; a pipe or a file with room for a table's line."""
    plain = Console(stderr=err)
    return plain if plain.is_terminal else Console(stderr=err, width=_PIPE_WIDTH)
