"""`run`, `migrate`, `check-config`: the service itself."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import os
import resource
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.common import DEFAULT_CONFIG, WRONG, ConfigPath, console, fail, named, read
from schemas.vocabulary import Mode

if TYPE_CHECKING:
    from gateway.config import Config


def run(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM; at SIGHUP it looks at its secrets."""
    import uvloop

    from gateway.app import Application
    from gateway.config import Source
    from gateway.observability import logs

    settings = read(config)
    # What this process holds in memory is nothing for a disk.  One byte, not none: Linux hands a core to a program that
    # collects them whatever the limit is, except for this one (core(5), fs/coredump.c).
    most = 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    logs.setup("info", sys.stdout)
    _say_mode(settings)  # before anything else, and whatever the level is
    logs.setup(settings.log_level, sys.stdout)
    # What is loaded by now stays; and what is made later hardly ever forms cycles, so look for them less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise typer.Exit(runner.run(Application(settings, Source(config, os.environ)).run()))


def _say_mode(settings: Config) -> None:
    """The first line of the log: whom this process may reach, as a warning where that is everybody."""
    from gateway.observability import logs

    log = logs.get_logger(__name__)
    match settings.mode:
        case Mode.SIMULATE:
            log.info("mode", mode=settings.mode, why="nobody is reached")
        case Mode.ALLOWLIST:
            log.info("mode", mode=settings.mode, why="listed addresses are reached", n=len(settings.listed))
        case Mode.LIVE:
            log.warning("mode", mode=settings.mode, why="real people are reached")


def migrate(
    wait: Annotated[float, typer.Option(min=0, help="Seconds of patience with who holds a table that changes.")] = 60.0,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Bring the database to the schema this version needs; forward only, safe to run again."""
    import asyncpg

    from gateway.ledger import schema

    settings = read(config)
    try:
        version = asyncio.run(schema.migrate(settings.database.dsn.get_secret_value(), wait))
    except asyncpg.LockNotAvailableError:
        raise fail("somebody holds a table that changes, pg_stat_activity shows who: nothing was done") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise fail(f"the database cannot be used: {named(error)}") from None
    typer.echo(f"schema {version}")


def check_config(
    ledger: Annotated[
        bool,
        typer.Option("--ledger", help="Also whether the ledger needs a sealing key or a cadence that is not there."),
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Check the configuration and print it, secrets hidden; all problems at once, and then exit 2."""
    from rich.markup import escape
    from rich.table import Table

    from gateway.config import advice, describe, reach

    settings = read(config)
    table = Table("key", "value")
    for path, value in describe(settings):
        table.add_row(escape(path), escape(value))
    console().print(table)
    typer.echo(reach(settings))
    for path, text in advice(settings, dt.datetime.now(dt.UTC)):
        typer.echo(f"{path}: {text} (a warning)", err=True)
    if ledger:
        _check_cadences(settings)
        _check_keys(settings)


def _check_cadences(settings: Config) -> None:
    """A version that running plans were made with is not edited, and does not go before the ledger keeps it."""
    from gateway import parameters
    from gateway.cadence.loading import CadenceError
    from gateway.cli.common import ledger
    from gateway.intake.running import CadenceGone, with_running

    async def check() -> None:
        async with ledger(settings) as connection:
            await with_running(connection, parameters.cadences(settings))

    try:
        asyncio.run(check())
    except CadenceGone as gone:
        raise fail(f"cadences_path: {gone}: running plans were made with it, and nobody has it", WRONG) from None
    except CadenceError as error:
        raise fail("\n".join(f"cadences_path: {each}" for each in error.problems), WRONG) from None
    typer.echo("every cadence that running plans were made with is there")


def _check_keys(settings: Config) -> None:
    """A key that something is still sealed with must not go: what it sealed could not be opened any more."""
    from gateway.cli.reseal import counted

    walked = asyncio.run(counted(settings))
    missing = walked.key_ids - settings.sealing.keys.keys() - {None}
    for key_id in sorted(each for each in missing if each is not None):
        typer.echo(f"sealing.keys.{key_id}: {walked.under(key_id)} values in the ledger need this key", err=True)
    if missing:
        raise typer.Exit(WRONG)
    typer.echo("every sealing key that the ledger needs is there")
